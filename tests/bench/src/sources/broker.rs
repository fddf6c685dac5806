//! The Kafka broker of a run, with topics that are full before anybody reads them.
//!
//! It is a real one. librdkafka's mock cluster lives in the memory of the process that measures and keeps only a few
//! megabytes of each partition, so nothing could be read from it that was there before; and what it costs says nothing
//! of what a consumer waits for.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::lines::line;
use crate::clock;
use crate::generator::Generator;
use crate::output;
use crate::random::Random;

pub(super) const PARTITIONS: i32 = 4;
const DEADLINE: Duration = Duration::from_secs(120);

/// A broker, which ends with this if it was started by it.
pub(super) struct Broker {
    pub(super) address: String,
    child: Option<Child>,
}

/// What a topic holds: one event in each message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    Audit,
    Lines,
}

impl Contents {
    /// As the configuration names it.
    pub(super) fn format(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Lines => "logs",
        }
    }
}

/// A topic that was filled.
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) contents: Contents,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Broker {
    /// The one that is named, or else one of our own, as the tests against real servers start it.
    pub(super) fn start(named: Option<&str>, dir: &Path) -> Result<Self> {
        if let Some(address) = named {
            return Ok(Self { address: address.to_owned(), child: None });
        }
        output::note("starting a Kafka broker");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../real/serve_kafka.py");
        let mut child = Command::new("python3")
            .arg("-B")
            .args([&script, dir])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to run python3")?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut address)?;
        let broker = Self { address: address.trim().to_owned(), child: Some(child) };
        ensure!(!broker.address.is_empty(), "no broker could be started; name one with --brokers");
        Ok(broker)
    }

    /// Makes a topic and writes so many messages into it.
    pub(super) async fn fill(&self, contents: Contents, messages: u64) -> Result<Topic> {
        let name = format!("bench-{}-{}", contents.format(), clock::now().as_micros());
        output::note(&format!("writing {messages} messages into {name}"));
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let new = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        for made in admin.create_topics([&new], &AdminOptions::new()).await? {
            made.map_err(|(topic, error)| anyhow::anyhow!("failed to make {topic}: {error}"))?;
        }
        let mut client = self.client();
        client.set("linger.ms", "50").set("queue.buffering.max.kbytes", "65536");
        let producer: ThreadedProducer<DefaultProducerContext> = client.create()?;
        let mut topic = Topic { name, contents, messages: 0, bytes: 0 };
        match contents {
            Contents::Audit => {
                let mut generator = Generator::new(2, None)?;
                while topic.messages < messages {
                    let load = generator.next(clock::now());
                    for event in load.events().take(usize::try_from(messages - topic.messages)?) {
                        topic.write(&producer, event)?;
                    }
                }
            }
            Contents::Lines => {
                let mut random = Random::new(2);
                while topic.messages < messages {
                    let record = serde_json::json!({ "log": line(random.next()), "stream": "stdout",
                        "kubernetes": { "namespace_name": "shop", "pod_name": "web-1", "container_name": "app" } });
                    topic.write(&producer, record.to_string().as_bytes())?;
                }
            }
        }
        producer.flush(DEADLINE)?;
        Ok(topic)
    }

    /// How long a consumer takes that only counts the messages.
    pub(super) fn count(&self, topic: &Topic) -> Result<Duration> {
        let mut client = self.client();
        client.set("group.id", "bench").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = client.create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            assignment.add_partition_offset(&topic.name, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let (mut messages, mut bytes, mut begun) = (0, 0, Instant::now());
        while messages < topic.messages {
            ensure!(begun.elapsed() < DEADLINE, "{messages} messages of {} were read", topic.name);
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message?;
            if messages == 0 {
                begun = Instant::now();
            }
            messages += 1;
            bytes += message.payload_len() as u64;
        }
        ensure!(bytes == topic.bytes, "{bytes} bytes were read, {} were written", topic.bytes);
        Ok(begun.elapsed())
    }

    /// What a server is configured with.
    pub(super) fn configuration(&self, topic: &Topic) -> String {
        let (address, name, format) = (&self.address, &topic.name, topic.contents.format());
        format!(
            "kafka:\n  brokers: '{address}'\n  tls: {{enabled: false}}\n  topics:\n  - {{topic: {name}, cluster: bench, format: {format}}}\n"
        )
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.address);
        client
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // it ends with its standard input, and removes what it has written
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

impl Topic {
    fn write(&mut self, producer: &ThreadedProducer<DefaultProducerContext>, payload: &[u8]) -> Result<()> {
        let partition = i32::try_from(self.messages % PARTITIONS.unsigned_abs() as u64).unwrap_or(0);
        let mut record = BaseRecord::<(), [u8]>::to(&self.name).partition(partition).payload(payload);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => bail!("failed to write into {}: {error}", self.name),
            }
        }
        self.messages += 1;
        self.bytes += payload.len() as u64;
        Ok(())
    }
}
