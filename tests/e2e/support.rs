//! One running watchbell, as a user has it: a process with a data directory, reached over HTTP.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_watchbell");
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server whose data directory outlives its process.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    scheme: &'static str,
    child: Option<Child>,
}

impl Server {
    /// Starts a server; `config` is YAML without `listen` and `data_dir`.
    pub(crate) async fn start(config: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self::start_with("http", config, http).await
    }

    /// Starts a server that speaks `http` or `https` and is reached with this client.
    pub(crate) async fn start_with(scheme: &'static str, config: &str, http: reqwest::Client) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self { dir, base: String::new(), http, scheme, child: None };
        server.configure(config);
        server.restart().await;
        server
    }

    /// Changes the configuration for the next start.
    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(self.dir.path().join("watchbell.yaml"), config).unwrap();
    }

    /// Starts the process again on the same data and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let port = free_port();
        self.base = format!("{}://127.0.0.1:{port}", self.scheme);
        let child = Command::new(BINARY)
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(self.data_dir())
            .arg("--config")
            .arg(self.dir.path().join("watchbell.yaml"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let started = Instant::now();
        loop {
            // Another test's server may answer on the port until this one has noticed that it is taken.
            let is_serving = self.log().contains(&format!("serving address=127.0.0.1:{port} "));
            if is_serving
                && let Ok(response) = self.http.get(format!("{}/healthz", self.base)).send().await
                && response.status().is_success()
            {
                return;
            }
            let exited = self.child.as_mut().unwrap().try_wait().unwrap();
            if exited.is_some() && self.log().ends_with("Address already in use (os error 98)\n") {
                // Another test was given the same port in the meantime.
                return Box::pin(self.restart()).await;
            }
            assert!(exited.is_none() && started.elapsed() < PATIENCE, "no answer; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the process as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends the process as an operator would, and returns its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        let _ = Command::new("kill").arg(child.id().to_string()).status();
        child.wait().unwrap().code()
    }

    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn admin_token(&self) -> String {
        std::fs::read_to_string(self.data_dir().join("admin.token")).unwrap().trim().to_owned()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Waits until the log says something.
    pub(crate) async fn wait_for_log(&self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert!(started.elapsed() < PATIENCE, "{text:?} is not in the log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The port that an input was given at the last start, which was configured as port 0.
    pub(crate) fn input_port(&self, input: &str) -> u16 {
        let log = self.log();
        let named = [format!("input=\"{input}\""), format!("input={input}")];
        let mut listening = log.lines().rev().filter(|line| line.contains("listening"));
        let line = listening.find(|line| named.iter().any(|named| line.contains(named)));
        let line = line.unwrap_or_else(|| panic!("{input} does not listen:\n{log}"));
        let (_, address) = line.split_once("address=").unwrap();
        let port = address.split_whitespace().next().unwrap().rsplit(':').next().unwrap();
        port.parse().unwrap()
    }

    /// A new token for one or more clusters.
    pub(crate) async fn token(&self, clusters: &[&str]) -> String {
        let scopes: Vec<String> = clusters.iter().map(|cluster| format!("ingest:{cluster}")).collect();
        let new = json!({ "name": "agent", "scopes": scopes }).to_string();
        let request = self.http.post(format!("{}/api/v1/tokens", self.base)).bearer_auth(self.admin_token());
        let made: Value = request.body(new).send().await.unwrap().json().await.unwrap();
        made["secret"].as_str().unwrap_or_else(|| panic!("no token: {made}")).to_owned()
    }

    /// The most memory that the process ever had.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.as_ref().unwrap().id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    fn log_file(&self) -> std::path::PathBuf {
        self.dir.path().join("server.log")
    }

    /// A request with the admin token.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.base)).bearer_auth(self.admin_token())
    }

    /// Posts a body to the receiver with the admin token.
    pub(crate) async fn post(&self, cluster: &str, body: impl Into<reqwest::Body>) -> Response {
        let url = format!("{}/ingest/audit/{cluster}", self.base);
        self.http.post(url).bearer_auth(self.admin_token()).body(body).send().await.unwrap()
    }

    /// Posts events as an API server does, again while the log is catching up; they must be stored.
    pub(crate) async fn ingest(&self, cluster: &str, events: &[Value]) -> Value {
        let started = Instant::now();
        loop {
            let response = self.post(cluster, event_list(events).to_string()).await;
            let status = response.status();
            let answer = response.text().await.unwrap();
            if status.is_success() {
                return serde_json::from_str(&answer).unwrap();
            }
            let again = answer.contains("log_busy") && started.elapsed() < PATIENCE;
            assert!(again, "{status}: {answer}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn search(&self, query: &str) -> Value {
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        self.json(&format!("/api/v1/search?limit=1000&q={query}")).await
    }

    pub(crate) async fn count(&self, query: &str) -> u64 {
        self.search(query).await["total"]["value"].as_u64().unwrap()
    }

    /// Waits until a search finds this many events, and fails with what it found otherwise.
    pub(crate) async fn wait_for_count(&self, query: &str, expect: u64) {
        let started = Instant::now();
        loop {
            let found = self.count(query).await;
            if found == expect {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{query}: {found} events, expected {expect}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The alerts that somebody is notified of.
    pub(crate) async fn alerts(&self) -> Vec<Value> {
        self.json("/api/v1/alerts?level=medium&limit=1000").await["alerts"].as_array().unwrap().clone()
    }

    /// Waits until the alerts satisfy a condition, and returns them.
    pub(crate) async fn wait_for_alerts(&self, what: &str, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let started = Instant::now();
        loop {
            let alerts = self.alerts().await;
            if done(&alerts) {
                return alerts;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: {alerts:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Runs a command line against this server.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        Command::new(BINARY)
            .args(args)
            .env("WATCHBELL_URL", &self.base)
            .env("WATCHBELL_TOKEN", self.admin_token())
            .env("WATCHBELL_DATA_DIR", self.data_dir())
            .output()
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command that needs no server.
pub(crate) fn run(args: &[&str], dir: &Path) -> Output {
    Command::new(BINARY).args(args).current_dir(dir).output().unwrap()
}

/// An `EventList` as an API server posts it.
pub(crate) fn event_list(events: &[Value]) -> Value {
    json!({ "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": events })
}

/// A complete, harmless event; `audit_id` makes it one of its kind.
pub(crate) fn event(audit_id: &str) -> Value {
    json!({
        "level": "Metadata", "auditID": audit_id, "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/shop/configmaps/settings", "verb": "get",
        "user": { "username": "alice@example.org", "groups": ["developers", "system:authenticated"] },
        "sourceIPs": ["10.1.2.3"], "userAgent": "kubectl/v1.35.0",
        "objectRef": { "resource": "configmaps", "namespace": "shop", "name": "settings", "apiVersion": "v1" },
        "responseStatus": { "metadata": {}, "code": 200 },
        "requestReceivedTimestamp": "2026-01-31T08:15:00.000001Z",
        "stageTimestamp": "2026-01-31T08:15:00.004201Z",
        "annotations": { "authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "" }
    })
}

/// An event of 100 KiB that cannot be made shorter by leaving out what matters least.
pub(crate) fn long_event(audit_id: &str) -> Value {
    let mut event = event(audit_id);
    event["user"]["groups"] = (0..2_000).map(|number| format!("{number:050}")).collect();
    event
}

/// Asks again and again until something is so.
pub(crate) async fn wait_until(what: &str, is_so: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "{what}: not so after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A binding to cluster-admin, which a shipped rule of level high or above alerts on.
pub(crate) fn cluster_admin_binding(audit_id: &str, user: &str) -> Value {
    let mut event = event(audit_id);
    event["level"] = json!("RequestResponse");
    event["verb"] = json!("create");
    event["requestURI"] = json!("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings");
    event["user"]["username"] = json!(user);
    event["objectRef"] = json!({ "resource": "clusterrolebindings", "name": "oops",
        "apiGroup": "rbac.authorization.k8s.io", "apiVersion": "v1" });
    event["responseStatus"]["code"] = json!(201);
    event["requestObject"] = json!({ "kind": "ClusterRoleBinding",
        "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": { "name": "oops" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "User", "name": user }] });
    event
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
