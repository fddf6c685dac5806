//! A store, a dispatcher and receivers in one process.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use watchbell_alerting::notify::{
    HttpConfig, QuotaConfig, Receiver, ReceiverConfig, ReceiverKind, Secret, SlackConfig, WebhookConfig,
};
use watchbell_alerting::route::{Route, Router};
use watchbell_alerting::{
    AlertId, AlertStore, DeliveryRecord, DeliveryState, DispatchConfig, Dispatcher, Filter, StoreConfig,
    StoreError,
};
use watchbell_event::{Detection, EventId, Level, Position, Positions, Timestamp};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Store and dispatcher.
pub(super) struct Rig {
    pub(super) store: AlertStore,
    pub(super) directory: tempfile::TempDir,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    stop: oneshot::Sender<()>,
    dispatcher: JoinHandle<Result<(), StoreError>>,
}

/// The moment at which tests begin.
pub(super) fn epoch() -> Timestamp {
    "2026-02-02T02:40:00Z".parse().unwrap()
}

/// A clock that runs from [`epoch`].
pub(super) fn clock() -> impl Fn() -> Timestamp + Clone + Send + Sync + 'static {
    let start = Instant::now();
    move || epoch().plus_micros(i64::try_from(start.elapsed().as_micros()).unwrap())
}

pub(super) fn id(number: u64) -> EventId {
    EventId(u128::from(number).to_be_bytes())
}

/// The alert that the detection of `number` opens.
pub(super) fn alert_id(number: u64) -> AlertId {
    AlertId::new("rule-1", &id(number), &id(number))
}

/// A detection of its own request in a group of its own.
pub(super) fn detection(number: u64) -> Detection {
    Detection {
        rule_id: "rule-1".into(),
        title: "A secret was read".into(),
        level: Level::High,
        tags: ["attack.t1552.007".into()].into(),
        event_id: id(number),
        position: Position { partition: 0, offset: number },
        event_time: epoch(),
        received_at: epoch(),
        cluster: "prod".into(),
        request_key: id(number),
        group_key: id(number),
        labels: vec![("user.name".into(), "eve".to_owned())],
        summary: format!("eve read secret number {number}"),
        history: false,
        correlation: None,
        explanation: watchbell_event::Deferred::default(),
    }
}

/// Retries within milliseconds, so that tests need not wait.
pub(super) fn quick() -> DispatchConfig {
    DispatchConfig {
        retry_min_ms: 20,
        retry_max_ms: 100,
        drain_timeout_ms: 2_000,
        ..DispatchConfig::default()
    }
}

pub(super) fn http(url: &str) -> HttpConfig {
    HttpConfig { timeout_ms: 10_000, ..HttpConfig::new(Secret::new(url)) }
}

pub(super) fn receiver(name: &str, kind: ReceiverKind) -> ReceiverConfig {
    let quota = QuotaConfig { burst: NonZeroU32::new(1000).unwrap(), per_message_ms: 1 };
    ReceiverConfig { name: name.to_owned(), kind, quota: Some(quota), group_wait_ms: Some(0) }
}

pub(super) fn webhook(name: &str, url: &str) -> ReceiverConfig {
    receiver(name, ReceiverKind::Webhook(WebhookConfig { http: http(url), signing_secrets: Vec::new() }))
}

pub(super) fn slack(name: &str, url: &str) -> ReceiverConfig {
    receiver(name, ReceiverKind::Slack(SlackConfig { http: http(url) }))
}

/// Every alert goes to all receivers.
fn router(receivers: &[ReceiverConfig]) -> Router {
    let names: Vec<&str> = receivers.iter().map(|receiver| receiver.name.as_str()).collect();
    let child = |name: &&str| Route {
        receiver: Some((*name).to_owned()),
        continue_matching: true,
        ..Route::default()
    };
    Router::new(Route { routes: names.iter().map(child).collect(), ..Route::default() }, &names).unwrap()
}

impl Rig {
    /// Opens a new store whose alerts go to all `receivers`, and sends to them.
    pub(super) fn start(receivers: Vec<ReceiverConfig>, config: DispatchConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::open(directory, receivers, config)
    }

    /// Opens a store that may exist.
    pub(super) fn open(
        directory: tempfile::TempDir,
        receivers: Vec<ReceiverConfig>,
        config: DispatchConfig,
    ) -> Self {
        Self::open_at(directory, receivers, config, clock())
    }

    /// Opens a store that may exist; the dispatcher lives by the clock.
    pub(super) fn open_at(
        directory: tempfile::TempDir,
        receivers: Vec<ReceiverConfig>,
        config: DispatchConfig,
        clock: impl Fn() -> Timestamp + Clone + Send + Sync + 'static,
    ) -> Self {
        let path = directory.path().join("alerts.db");
        let store = AlertStore::open(&path, StoreConfig::default(), router(&receivers)).unwrap();
        let receivers = receivers.into_iter().map(|config| Receiver::new(config).unwrap()).collect();
        let dispatcher = Dispatcher::new(store.clone(), config, receivers);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(()) };
        let dispatcher = tokio::spawn(dispatcher.run(clock.clone(), shutdown));
        Self { store, directory, clock: Box::new(clock), stop, dispatcher }
    }

    pub(super) fn commit(&self, detections: &[Detection]) {
        let mut positions: Positions = self.store.positions();
        detections.iter().for_each(|detection| positions.advance_past(detection.position));
        self.store.commit(detections, &positions, (self.clock)()).unwrap();
    }

    /// Stops as the process does.
    pub(super) async fn stop(self) -> tempfile::TempDir {
        self.stop.send(()).unwrap();
        self.dispatcher.await.unwrap().unwrap();
        self.directory
    }

    /// Stops as a crash does: no task runs on, nothing is tidied up.
    pub(super) async fn crash(self) -> tempfile::TempDir {
        self.dispatcher.abort();
        assert!(self.dispatcher.await.unwrap_err().is_cancelled());
        self.directory
    }

    /// What became of the notice about alert `number` for `receiver`.
    pub(super) fn delivery(&self, number: u64, receiver: &str) -> DeliveryRecord {
        let mut found = self.store.deliveries(alert_id(number)).unwrap();
        found.retain(|delivery| delivery.receiver == receiver);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    pub(super) async fn wait_for(&self, number: u64, receiver: &str, state: DeliveryState) -> DeliveryRecord {
        until(&format!("alert {number} is {state:?}"), || self.delivery(number, receiver).state == state)
            .await;
        self.delivery(number, receiver)
    }

    pub(super) fn alerts(&self) -> usize {
        let mut cursor = None;
        let mut alerts = 0;
        loop {
            let page = self.store.list(&Filter::default(), 1000, cursor.as_deref()).unwrap();
            alerts += page.alerts.len();
            cursor = page.next_cursor;
            if cursor.is_none() {
                return alerts;
            }
        }
    }
}

/// Waits until something holds.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
