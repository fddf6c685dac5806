//! One watchbell run as several processes, which meet in a Kafka that librdkafka plays.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::openapi;
use crate::support::{Server, cluster_admin_binding, event, run, wait_until};

const PARTITIONS: i32 = 3;

/// Counts what one person does in one cluster, wherever it was received.
const RULES: &str = "\
title: Marked
id: 6b6e5a40-6a49-4a39-8a3c-6f2f5b3f0001
name: marked
level: low
logsource: {product: kubernetes, service: audit}
detection: {selection: {objectRef.name: marked}, condition: selection}
---
title: Marked often
id: 6b6e5a40-6a49-4a39-8a3c-6f2f5b3f0002
level: high
correlation: {type: event_count, rules: [marked], group-by: [user.username], timespan: 24h, condition: {gte: 6}}
---
title: Marked seldom
id: 6b6e5a40-6a49-4a39-8a3c-6f2f5b3f0003
level: high
correlation: {type: event_count, rules: [marked], group-by: [user.username], timespan: 5s, condition: {lt: 2}}
";

/// What the processes have in common.
struct Apart {
    mock: MockCluster<'static, DefaultProducerContext>,
    dir: TempDir,
}

impl Apart {
    fn new() -> Self {
        let apart = Self { mock: MockCluster::new(1).unwrap(), dir: tempfile::tempdir().unwrap() };
        for topic in ["log", "log-matches", "audit"] {
            apart.mock.create_topic(topic, PARTITIONS, 1).unwrap();
        }
        std::fs::write(apart.dir.path().join("redaction.key"), [7; 32]).unwrap();
        std::fs::create_dir(apart.dir.path().join("rules")).unwrap();
        std::fs::write(apart.dir.path().join("rules/marked.yml"), RULES).unwrap();
        apart
    }

    fn config(&self, roles: &str) -> String {
        let (dir, brokers) = (self.dir.path().display(), self.mock.bootstrap_servers());
        format!(
            "roles: [{roles}]\ningest: {{redaction_key_file: '{dir}/redaction.key', feed_silence: 1s}}\n\
             rules: {{directory: '{dir}/rules', correlation_lateness: 1s}}\n\
             kafka:\n  brokers: {brokers:?}\n  tls: {{enabled: false}}\n  \
             log: {{topic: log, allow_single_replica: true}}\n  topics: [{{topic: audit, cluster: shared}}]\n"
        )
    }

    async fn start(&self, roles: &str) -> Server {
        Server::start(&self.config(roles)).await
    }

    /// Writes to the topic that others fill.
    fn send(&self, events: &[(i32, Value)]) {
        let mut producer = ClientConfig::new();
        producer.set("bootstrap.servers", self.mock.bootstrap_servers());
        let producer: BaseProducer = producer.create().unwrap();
        for (partition, event) in events {
            let payload = event.to_string();
            let record = BaseRecord::<(), str>::to("audit").partition(*partition).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
    }
}

fn marked(id: &str, user: &str) -> Value {
    let mut event = event(id);
    event["objectRef"]["name"] = json!("marked");
    event["user"]["username"] = json!(user);
    event
}

fn titled<'a>(alerts: &'a [Value], title: &str) -> Vec<&'a Value> {
    alerts.iter().filter(|alert| alert["title"] == title).collect()
}

/// As of now, unlike other events of these tests.
fn tick(number: u32) -> Value {
    let now = humantime::format_rfc3339_micros(std::time::SystemTime::now()).to_string();
    let mut event = event(&format!("tick-{number}"));
    event["requestReceivedTimestamp"] = json!(now);
    event["stageTimestamp"] = json!(now);
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn events_pass_from_any_receiver_to_search_and_to_one_alert() {
    let apart = Apart::new();
    let receivers = [apart.start("receive").await, apart.start("receive").await];
    let mut detectors = [apart.start("detect").await, apart.start("detect").await];
    let search = apart.start("index, query").await;
    let mut alert = apart.start("alert").await;

    for (number, receiver) in receivers.iter().enumerate() {
        for cluster in ["east", "west"] {
            let id = format!("{number}-{cluster}");
            let bound = cluster_admin_binding(&format!("bound-{id}"), &format!("eve-{id}"));
            let counted = (0..3).map(|n| marked(&format!("{id}-{n}"), "bob"));
            receiver.ingest(cluster, &counted.chain([bound]).collect::<Vec<_>>()).await;
        }
    }
    // what a receiver took and could not answer is sent to another one
    receivers[1].ingest("east", &[marked("0-east-0", "bob"), marked("alone", "carl")]).await;
    let partitions = (0..PARTITIONS).cycle();
    let spread: Vec<_> =
        (0..6).zip(partitions).map(|(n, at)| (at, marked(&format!("s-{n}"), "bob"))).collect();
    apart.send(&spread);

    for (cluster, expect) in [("east", 9), ("west", 8), ("shared", 6)] {
        search.wait_for_count(&format!("cluster:{cluster}"), expect).await;
    }
    let is_told = |alerts: &[Value]| {
        let bound = alerts.iter().filter(|alert| alert.to_string().contains("eve-")).count();
        titled(alerts, "Marked often").len() >= 3 && bound >= 4
    };
    let alerts = alert.wait_for_alerts("four bindings and three that did much", is_told).await;
    for often in titled(&alerts, "Marked often") {
        assert_eq!(
            (&often["count"], &often["labels"]["correlation.reached"]),
            (&json!(1), &json!("6")),
            "{often}"
        );
    }

    // time passes although nothing matches, until that is decided for which nobody may come any more
    assert!(titled(&alerts, "Marked seldom").is_empty(), "{alerts:#?}");
    for number in 0.. {
        receivers[0].ingest("east", &[tick(number)]).await;
        let alerts = alert.alerts().await;
        if titled(&alerts, "Marked seldom").iter().any(|alert| alert.to_string().contains("carl")) {
            break;
        }
        assert!(number < 100, "{alerts:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    alert.kill();
    assert_eq!(detectors[0].stop(), Some(0));
    receivers[1].ingest("west", &[cluster_admin_binding("late", "eve-late")]).await;
    alert.restart().await;
    let late = |alerts: &[Value]| alerts.iter().any(|alert| alert.to_string().contains("eve-late"));
    let alerts = alert.wait_for_alerts("what came while nobody alerted", late).await;
    let often = titled(&alerts, "Marked often");
    assert_eq!(often.len(), 3, "{alerts:#?}");
    let details = alert.json(&format!("/api/v1/alerts/{}", often[0]["id"].as_str().unwrap())).await;
    let first = details["alert"]["events"][0]["id"].as_str().unwrap();
    let found = search.json(&format!("/api/v1/events/{first}")).await;
    assert_eq!(found["event"]["objectRef"]["name"], "marked", "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_says_which_other_one_to_ask() {
    let apart = Apart::new();
    let [receive, detect, search, alert] = [
        apart.start("receive").await,
        apart.start("detect").await,
        apart.start("index, query").await,
        apart.start("alert").await,
    ];
    for (server, roles, works, fails) in [
        (
            &receive,
            json!(["receive"]),
            "/api/v1/sources",
            [("/api/v1/search", "query"), ("/api/v1/alerts", "alert")],
        ),
        (
            &detect,
            json!(["detect"]),
            "/api/v1/rules",
            [("/api/v1/sources", "receive or index"), ("/api/v1/export", "query")],
        ),
        (
            &search,
            json!(["index", "query"]),
            "/api/v1/quarantine",
            [("/api/v1/rules", "detect or alert"), ("/api/v1/search?q=rule:x", "alert")],
        ),
        (
            &alert,
            json!(["alert"]),
            "/api/v1/alerts",
            [("/api/v1/search", "query"), ("/api/v1/quarantine", "receive or index")],
        ),
    ] {
        assert_eq!(openapi::ask(server, "/api/v1/status").await["roles"], roles);
        openapi::ask(server, works).await;
        for (path, wanted) in fails {
            let answer = server.get(path).send().await.unwrap();
            assert_eq!(answer.status(), 421, "{path} of {roles}");
            let error: Value = answer.json().await.unwrap();
            let message = error["error"]["message"].as_str().unwrap();
            assert!(message.contains(&format!("does not have the role {wanted}, but")), "{path}: {error}");
        }
        let sent = server.post("prod", event("p").to_string()).await;
        assert_eq!(sent.status() == 421, roles != json!(["receive"]), "{roles}");
    }
    wait_until("the share is known", async || {
        let status = openapi::ask(&detect, "/api/v1/status").await;
        status["share"]["partitions"].as_array().unwrap().len() == 6
    })
    .await;
}

#[test]
fn what_cannot_be_run_apart_is_refused() {
    let apart = Apart::new();
    let missing = apart.config("detect").replace("topic: log,", "topic: log, matches_topic: found,");
    let roles = apart.config("receive");
    for (config, arguments, code, expect) in [
        ("", &["--roles", "receive"][..], 1, "set kafka.brokers and kafka.log.topic"),
        (
            "",
            &["--roles", "receive,search"],
            2,
            "unknown role \"search\"; known: receive,detect,index,query,alert",
        ),
        (&roles, &["--roles", "index"], 1, "index and query go together"),
        (&roles, &["--demo"], 1, "--demo sends, detects, searches and alerts"),
        ("roles: []", &[], 1, "roles: no role is given"),
        (&missing, &[], 1, "Kafka lacks topics that the roles detect need: found. Make them"),
    ] {
        let file = apart.dir.path().join("watchbell.yaml");
        std::fs::write(&file, config).unwrap();
        let serve =
            ["serve", "--listen", "127.0.0.1:0", "--data-dir", "data", "--config", file.to_str().unwrap()];
        let ran = run(&[&serve, arguments].concat(), apart.dir.path());
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(
            (ran.status.code(), said.contains(expect)),
            (Some(code), true),
            "{config} {arguments:?}: {said}"
        );
    }
}
