//! A receiver of webhooks that remembers everything it was sent.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::routing::post;
use serde_json::Value;

/// One delivery as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) body: Value,
    pub(crate) at: std::time::Instant,
}

/// An HTTP server on loopback.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) url: String,
    state: Arc<SinkState>,
}

struct SinkState {
    deliveries: Mutex<Vec<Delivery>>,
    refused: Mutex<Vec<std::time::Instant>>,
    /// What to answer; 429 comes with `Retry-After: 2`.
    status: AtomicU16,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let state = Arc::new(SinkState {
            deliveries: Mutex::default(),
            refused: Mutex::default(),
            status: AtomicU16::new(200),
        });
        let router = Router::new().route("/hook", post(receive)).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    /// The part of a configuration that sends everything of level medium and above here.
    pub(crate) fn config(&self) -> String {
        format!(
            "alerting:\n  receivers:\n    - name: sink\n      webhook: {{url: '{}'}}\n  route: {{receiver: sink}}\n",
            self.url
        )
    }

    pub(crate) fn answer(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.state.deliveries.lock().unwrap().clone()
    }

    /// When attempts were refused.
    pub(crate) fn refused(&self) -> Vec<std::time::Instant> {
        self.state.refused.lock().unwrap().clone()
    }

    /// The ids of all alerts that were delivered, as often as they were.
    pub(crate) fn alert_ids(&self) -> Vec<String> {
        let deliveries = self.deliveries();
        let alerts =
            deliveries.iter().flat_map(|delivery| delivery.body["alerts"].as_array().unwrap().clone());
        alerts.map(|alert| alert_id(&alert)).collect()
    }
}

async fn receive(
    State(sink): State<Arc<SinkState>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap) {
    let status = StatusCode::from_u16(sink.status.load(Ordering::SeqCst)).unwrap();
    let mut answer = HeaderMap::new();
    if status.is_success() {
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        let body = serde_json::from_slice(&body).unwrap();
        sink.deliveries.lock().unwrap().push(Delivery { id, body, at: std::time::Instant::now() });
    } else {
        sink.refused.lock().unwrap().push(std::time::Instant::now());
        answer.insert(HeaderName::from_static("retry-after"), HeaderValue::from_static("2"));
    }
    (status, answer)
}

/// The id of an alert in a message.
pub(crate) fn alert_id(alert: &Value) -> String {
    alert["watchbell"]["alert_id"].as_str().unwrap().to_owned()
}
