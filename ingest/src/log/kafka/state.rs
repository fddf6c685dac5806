//! What the watch and the readers of topics share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use watchbell_event::Positions;

use super::config::{KafkaConfig, TopicConfig};
use super::context::Errors;
use super::registry::{Entry, Registry};
use super::status::{BrokerState, Tally};
use super::verdict::Verdicts;
use crate::log::LogError;
use crate::quarantine::Quarantine;

/// How far readers may be apart and still decode a message once between them, in messages of all partitions; 28 MB then.
const VERDICTS: usize = 500_000;

pub(super) struct Shared {
    pub(super) config: KafkaConfig,
    pub(super) quarantine: Arc<Quarantine>,
    pub(super) errors: Arc<Errors>,
    pub(super) verdicts: Verdicts,
    /// How often the watch has looked, the look in progress included.
    pub(super) looks: AtomicU64,
    state: Mutex<State>,
    /// Changes with what readers follow: partitions, their ends, and that it is over.
    changed: watch::Sender<()>,
    closed: AtomicBool,
    wake: SyncSender<()>,
}

pub(super) struct State {
    pub(super) registry: Registry,
    pub(super) brokers: BrokerState,
    /// By log partition.
    pub(super) bounds: BTreeMap<u32, Bounds>,
    pub(super) problems: BTreeMap<Place, String>,
    /// Replicated topics that may lose what they answered, and why.
    pub(super) too_few_replicas: BTreeMap<Arc<str>, String>,
    pub(super) readers: BTreeMap<String, Reader>,
    /// What this process holds as a member of a group, with the offset of the message it needs next.
    pub(super) held: BTreeMap<Held, Option<i64>>,
    /// What each reader made of each topic since somebody asked.
    pub(super) tallies: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Tally>>,
}

/// A partition of a topic, as a group shares it out.
pub(super) type Held = (Arc<str>, i32);

/// One reader.
#[derive(Clone)]
pub(super) struct Reader {
    /// What it needs nothing before.
    pub(super) at: Positions,
    /// What it reads.
    pub(super) topics: Arc<[Arc<str>]>,
}

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    /// None if it is the whole topic.
    pub(super) partition: Option<i32>,
    /// The reader that noticed it; none if the watch did.
    pub(super) reader: Option<Arc<str>>,
}

/// The messages that a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The oldest.
    pub(super) low: i64,
    /// After the newest.
    pub(super) high: i64,
    /// The look that found this.
    pub(super) look: u64,
}

impl Shared {
    /// Also returns what is to wake the watch.
    pub(super) fn open(
        data_dir: &Path,
        config: KafkaConfig,
        quarantine: Arc<Quarantine>,
    ) -> Result<(Self, Receiver<()>), LogError> {
        let (wake, woken) = sync_channel(1);
        let state = State {
            registry: Registry::open(data_dir)?,
            brokers: BrokerState::Unknown,
            bounds: BTreeMap::new(),
            problems: BTreeMap::new(),
            too_few_replicas: config.replicated.iter().map(unknown_replicas).collect(),
            readers: BTreeMap::new(),
            held: BTreeMap::new(),
            tallies: BTreeMap::new(),
        };
        let shared = Self {
            config,
            quarantine,
            errors: Arc::default(),
            verdicts: Verdicts::new(VERDICTS),
            looks: AtomicU64::new(0),
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            closed: AtomicBool::new(false),
            wake,
        };
        Ok((shared, woken))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Tells readers to look again.
    pub(super) fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Asks the watch to look now, and returns the number of the last look that does not count.
    pub(super) fn ask(&self) -> u64 {
        // one that is asked already does for all
        let _ = self.wake.try_send(());
        self.looks()
    }

    /// The number of the last look that was begun.
    pub(super) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let _ = self.wake.try_send(());
        self.announce();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// A configured topic by its name.
    pub(super) fn topic(&self, name: &str) -> Option<&TopicConfig> {
        self.config.topics.iter().find(|topic| &*topic.topic == name)
    }

    /// The partitions of configured topics.
    pub(super) fn partitions(&self) -> Vec<Entry> {
        let state = self.lock();
        state.registry.current().filter(|entry| self.topic(&entry.topic).is_some()).cloned().collect()
    }

    /// A partition that ends before what was read of it is another one than it was: the topic was deleted and
    /// made anew, or lost its end with a broker. It gets a new number, and is read from its oldest message.
    pub(super) fn replace(&self, old: &Entry, bounds: Bounds) -> Result<(), LogError> {
        let mut state = self.lock();
        if state.registry.find(&old.topic, old.partition).is_none_or(|entry| entry.number != old.number) {
            // the other reader noticed it, too
            return Ok(());
        }
        state.registry.add(&old.topic, old.partition, bounds.low)?;
        drop(state);
        metrics::counter!("watchbell_kafka_replaced_partitions_total", "topic" => old.topic.clone())
            .increment(1);
        tracing::error!(
            topic = old.topic,
            partition = old.partition,
            oldest = bounds.low,
            end = bounds.high,
            "the partition ends before messages that were read from it: the topic was deleted and made anew, or \
             its end was lost with a broker; it is read from its oldest message"
        );
        self.announce();
        Ok(())
    }

    /// Notes what is wrong, or that nothing is; says so when that changes.
    pub(super) fn note_problem(&self, place: Place, problem: Option<String>) {
        let mut state = self.lock();
        let Place { topic, partition, reader } = place.clone();
        let (topic, reader) = (&*topic, reader.as_deref());
        match problem {
            Some(problem) => {
                let before = state.problems.insert(place, problem.clone());
                if before.as_ref() != Some(&problem) {
                    tracing::warn!(
                        topic,
                        partition,
                        reader,
                        problem,
                        "failed to read from Kafka; trying again"
                    );
                }
            }
            None => {
                if state.problems.remove(&place).is_some() {
                    tracing::info!(topic, partition, reader, "reading from Kafka goes on");
                }
            }
        }
    }
}

fn unknown_replicas(topic: &Arc<str>) -> (Arc<str>, String) {
    (Arc::clone(topic), "how many replicas are in sync is not known yet".to_owned())
}
