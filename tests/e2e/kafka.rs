//! Topics consumed in place, from a cluster that librdkafka plays.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use watchbell_ingest::decode::logs::ack;

use crate::openapi;
use crate::support::{Server, cluster_admin_binding, event, event_list, long_event, wait_until};

const KILLS: i32 = 12;
const PARTITIONS: i32 = 3;
const FORWARDED: &[u8] = include_bytes!("../../ingest/src/decode/logs/forward/fixtures/packed.msgpack");
const FORWARDED_CHUNK: &[u8] = b"p8n9gmxTQVC8/nh2wlKKeQ==";

struct Kafka {
    mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Kafka {
    fn start(topics: &[&str]) -> Self {
        let mock = MockCluster::new(1).unwrap();
        topics.iter().for_each(|topic| mock.create_topic(topic, PARTITIONS, 1).unwrap());
        let mut producer = ClientConfig::new();
        producer.set("bootstrap.servers", mock.bootstrap_servers());
        Self { mock, producer: producer.create().unwrap() }
    }

    fn config(&self) -> String {
        self.config_of("{topic: audit-a, cluster: a}, {topic: audit-b, cluster: b}")
    }

    fn config_of(&self, topics: &str) -> String {
        let brokers = self.mock.bootstrap_servers();
        format!("kafka:\n  brokers: {brokers:?}\n  tls: {{enabled: false}}\n  topics: [{topics}]\n")
    }

    fn send(&self, topic: &str, partition: i32, payload: &str) {
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(payload);
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
        self.producer.poll(Duration::ZERO);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_stored_and_alerted_on_once_over_kills() {
    let kafka = Kafka::start(&["audit-a", "audit-b"]);
    let mut server = Server::start(&kafka.config()).await;
    let (mut stored, mut attackers) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..KILLS {
        for number in 0..30 {
            let id = format!("{round}-{number}");
            let attacker = format!("eve-{id}");
            let ordinary = event(&id);
            let attack = cluster_admin_binding(&format!("{id}-attack"), &attacker);
            let events = if number % 10 == 0 { vec![ordinary, attack] } else { vec![ordinary] };
            if events.len() > 1 {
                attackers.insert(attacker);
                stored.insert(format!("{id}-attack"));
            }
            stored.insert(id);
            let topic = if number % 2 == 0 { "audit-a" } else { "audit-b" };
            kafka.send(topic, number % PARTITIONS, &event_list(&events).to_string());
        }
        kafka.send("audit-a", round % PARTITIONS, &format!("poison {round}"));
        kafka.producer.flush(Duration::from_secs(10)).unwrap();
        // the moment of the kill differs: before, while and after they are read
        tokio::time::sleep(Duration::from_millis(150) * round.unsigned_abs()).await;
        server.kill();
        server.restart().await;
    }

    server.wait_for_count("cluster:a OR cluster:b", stored.len() as u64).await;
    let hits = server.search("cluster:a OR cluster:b").await["hits"].as_array().unwrap().clone();
    let found: BTreeSet<String> =
        hits.iter().map(|hit| hit["event"]["auditID"].as_str().unwrap().to_owned()).collect();
    assert_eq!(found, stored);
    let told =
        |alerts: &[Value]| -> u64 { alerts.iter().map(|alert| alert["count"].as_u64().unwrap()).sum() };
    let expect = attackers.len() as u64;
    let alerts = server.wait_for_alerts("one alert per attacker", |alerts| told(alerts) >= expect).await;
    assert_eq!((told(&alerts), alerts.len() as u64), (expect, expect));

    let kept = async || server.json("/api/v1/quarantine").await["entries"].as_array().unwrap().len();
    wait_until("all poison is in quarantine", async || kept().await.try_into() == Ok(KILLS)).await;
    wait_until("both readers are at the end", async || {
        let status = server.json("/api/v1/status").await;
        let partitions = status["kafka"]["topics"][0]["partitions"].as_array().unwrap();
        partitions.iter().all(|partition| {
            partition["detect"]["offset"] == partition["end"] && partition["index"]["lag"] == 0
        })
    })
    .await;
    let status = server.json("/api/v1/status").await;
    assert_eq!(status["kafka"]["brokers"]["state"], "connected", "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_stops_neither_search_nor_the_receiver() {
    let kafka = Kafka::start(&["audit-a", "audit-b"]);
    let server = Server::start(&kafka.config()).await;
    kafka.send("audit-a", 0, &event("before").to_string());
    server.wait_for_count("cluster:a", 1).await;
    kafka.mock.broker_down(1).unwrap();
    let state = async || server.json("/api/v1/status").await["kafka"]["brokers"].clone();
    wait_until("no broker answers", async || state().await["state"] == "away").await;
    let brokers = state().await;
    assert!(brokers["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{brokers}");
    let ready = server.get("/readyz").send().await.unwrap();
    assert!(ready.status().is_success());
    server.ingest("posted", &[event("meanwhile")]).await;
    server.wait_for_count("cluster:posted", 1).await;

    kafka.mock.broker_up(1).unwrap();
    kafka.send("audit-a", 0, &event("after").to_string());
    server.wait_for_count("cluster:a", 2).await;
    assert_eq!(server.log().matches("no Kafka broker answers").count(), 1, "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_topic_are_found_alerted_on_and_counted() {
    let kafka = Kafka::start(&["lines"]);
    let mut server = Server::start(&kafka.config_of("{topic: lines, cluster: shop, format: logs}")).await;
    let line = json!({ "log": "Failed password for root from 203.0.113.9 port 4022 ssh2\n",
        "kubernetes": { "namespace_name": "shop", "pod_name": "bastion-0" } });
    for number in 0..10 {
        kafka.send("lines", number % PARTITIONS, &line.to_string());
    }
    kafka.send("lines", 0, r#"[{"log":"in order"},{"log":"cut"#);
    kafka.producer.flush(Duration::from_secs(10)).unwrap();
    server.wait_for_count("cluster:shop", 11).await;
    assert_eq!(server.count("event.dataset:sshd AND orchestrator.resource.name:bastion-0").await, 10);
    let refused = |alert: &Value| alert["title"] == "Many logins refused";
    server.wait_for_alerts("the alert", |alerts| alerts.iter().any(refused)).await;

    let source = async || openapi::ask(&server, "/api/v1/sources").await["sources"][0].clone();
    wait_until("all is read and counted", async || {
        let source = source().await;
        source["stored"] == 11 && source["lag"] == json!({ "messages": 0 })
    })
    .await;
    let source = source().await;
    for (field, expect) in [
        ("route", json!("kafka/lines")),
        ("cluster", json!("shop")),
        ("credential", Value::Null),
        ("quarantined", json!(1)),
    ] {
        assert_eq!(source[field], expect, "{field} in {source}");
    }
    let table = String::from_utf8(server.run(&["sources"]).stdout).unwrap();
    assert!(table.contains("kafka/lines") && table.contains("0 messages"), "{table}");
    let status = openapi::ask(&server, "/api/v1/status").await;
    assert_eq!(status["kafka"]["topics"][0]["format"], "logs", "{status:#}");

    server.kill();
    kafka.send("lines", 1, "one more\n\nand another one");
    server.restart().await;
    server.wait_for_count("message:\"another one\"", 1).await;
    assert_eq!(server.count("cluster:shop").await, 13);
}

/// What is usual was learned before; then nothing comes any more, until something does.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_feed_that_comes_through_a_topic_falls_silent_and_comes_back() {
    let kafka = Kafka::start(&["audit-a", "audit-b"]);
    let mut server = Server::start(&format!("{}ingest: {{feed_silence: 1s}}\n", kafka.config())).await;
    server.stop();
    let usual = json!({ "a": { "usual": 10.0, "learned": 240, "silent_since": null } });
    std::fs::write(server.data_dir().join("feeds.json"), usual.to_string()).unwrap();
    server.restart().await;
    let told = "objectRef.resource:feeds AND objectRef.name:a AND responseStatus.code:";
    server.wait_for_count(&format!("{told}503"), 1).await;
    let events: Vec<Value> = (0..60).map(|number| event(&format!("f-{number}"))).collect();
    kafka.send("audit-a", 0, &event_list(&events).to_string());
    server.wait_for_count(&format!("{told}200"), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_too_long_on_a_topic_is_read_once_the_limit_is_raised() {
    let kafka = Kafka::start(&["audit"]);
    let config = kafka.config_of("{topic: audit, cluster: prod}");
    let mut server = Server::start(&format!("{config}ingest: {{max_event: 64KiB}}\n")).await;
    kafka.send("audit", 0, &event_list(&[event("k-1"), long_event("k-2")]).to_string());
    server.wait_for_count("cluster:prod", 1).await;
    let retry = |server: &Server, expect: &str| {
        let output = server.run(&["quarantine", "retry", "--all"]);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(text.contains(expect), "{expect} is not in {text}");
    };
    retry(&server, "0 of 1 entries are done");
    server.configure(&config);
    server.restart().await;
    retry(&server, "1 of 1 entries are done");
    server.wait_for_count("cluster:prod", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_send_is_kept_once_in_a_topic_that_is_the_log() {
    let kafka = Kafka::start(&["own"]);
    let brokers = kafka.mock.bootstrap_servers();
    let mut server = Server::start(&format!(
        "kafka: {{brokers: {brokers:?}, tls: {{enabled: false}}, log: {{topic: own, allow_single_replica: true}}}}\n\
         forward: {{listen: '127.0.0.1:0', cluster: prod}}\n\
         syslog: {{listen_tcp: '127.0.0.1:0', cluster: prod}}\n"
    ))
    .await;
    let otlp = include_str!("../../ingest/src/decode/logs/otlp/fixtures/request.json");
    let bulk = "{\"create\":{\"_id\":\"1\"}}\n{\"message\":\"a document\"}\n";
    for sent in 0..2 {
        let mut syslog = TcpStream::connect(("127.0.0.1", server.input_port("syslog_tcp"))).await.unwrap();
        syslog.write_all(format!("<13>message {sent}\n").as_bytes()).await.unwrap();
        server.wait_for_count(&format!("message:\"message {sent}\""), 1).await;

        let mut forward = TcpStream::connect(("127.0.0.1", server.input_port("forward"))).await.unwrap();
        forward.write_all(FORWARDED).await.unwrap();
        let mut answer = ack(FORWARDED_CHUNK).to_vec();
        forward.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, ack(FORWARDED_CHUNK));

        let answer = post(&server, "/ingest/logs/prod", "a line").await;
        assert_eq!(answer["durability"], "in-sync replicas, possibly one", "{answer}");
        assert_eq!(post(&server, "/elasticsearch/_bulk", bulk).await["errors"], false);
        assert_eq!(post(&server, "/v1/logs", otlp).await, json!({}));

        server.kill();
        server.restart().await;
    }
    // the events of one cluster keep their order: what was sent again would have come before
    post(&server, "/ingest/logs/prod", "the last line").await;
    server.wait_for_count("message:\"the last line\"", 1).await;
    for (query, expect) in [
        ("message:\"a line\"", 1),
        ("message:\"a document\"", 1),
        ("tag:kube.bastion", 3),
        ("message:started AND port:8080", 1),
    ] {
        assert_eq!(
            server.count(&format!("source:log AND cluster:prod AND {query}")).await,
            expect,
            "{query}"
        );
    }
}

/// Posts what belongs to the cluster `prod` as often as is needed until it is taken, always as the same delivery.
async fn post(server: &Server, path: &str, body: &'static str) -> Value {
    let started = Instant::now();
    loop {
        let request = server.http.post(format!("{}{path}", server.base)).bearer_auth(server.admin_token());
        let request = request.header("watchbell-cluster", "prod").header("idempotency-key", "once");
        let sent = request.header("content-type", "application/json").body(body).send().await.unwrap();
        let (status, answer) = (sent.status(), sent.text().await.unwrap());
        if status.is_success() {
            return serde_json::from_str(&answer).unwrap();
        }
        let again = answer.contains("log_busy") && started.elapsed() < Duration::from_secs(60);
        assert!(again, "{path}: {status}: {answer}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
