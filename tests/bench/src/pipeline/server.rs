//! The program under test: the watchbell binary as a process of its own, with default settings except for
//! its port and one webhook receiver.

use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::client::Connection;

/// How long it may take to answer first, and to stop.
const START_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// The end of the server's log that errors show, in bytes.
const LOG_TAIL_BYTES: usize = 4_000;

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    data_dir: PathBuf,
}

/// How far the stages have come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Events in the log.
    pub(crate) logged: u64,
    /// Events that can be searched.
    pub(crate) indexed: u64,
    /// Events whose detections are committed.
    pub(crate) detected: u64,
}

impl Server {
    /// Starts the binary with an empty data directory and a receiver of alerts, and waits until it is ready.
    pub(crate) async fn start(binary: &Path, dir: &Path, sink: SocketAddr) -> Result<Self> {
        let receiver = format!("    - name: bench\n      webhook: {{url: 'http://{sink}/alerts'}}\n");
        let config = format!("alerting:\n  receivers:\n{receiver}  route: {{receiver: bench}}\n");
        Self::start_with(binary, dir, &config).await
    }

    /// The same, with this configuration.
    pub(crate) async fn start_with(binary: &Path, dir: &Path, configuration: &str) -> Result<Self> {
        let data_dir = dir.join("data");
        let config = dir.join("watchbell.yaml");
        std::fs::write(&config, configuration)?;
        let address = free_address()?;
        let log = File::create(dir.join("server.log"))?;
        let child = Command::new(binary)
            .arg("serve")
            .args(["--listen", &address.to_string()])
            .args([OsString::from("--config"), config.into()])
            .args([OsString::from("--data-dir"), data_dir.clone().into()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", binary.display()))?;
        let mut server = Self { child, address, token: String::new(), data_dir };
        server.wait_until_ready().await.map_err(|error| error.context(log_tail(dir)))?;
        Ok(server)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}");
            }
            ensure!(Instant::now() < deadline, "the server was not ready within {START_DEADLINE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            let Ok(token) = read_small(&self.data_dir.join("admin.token")) else { continue };
            token.trim().clone_into(&mut self.token);
            let Ok(mut connection) = self.connect().await else { continue };
            let ready = connection.send(hyper::Method::GET, "/readyz", bytes::Bytes::new()).await;
            if ready.is_ok_and(|(status, _)| status.is_success()) {
                return Ok(());
            }
        }
    }

    /// Another connection.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(self.address, &self.token).await
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Bytes on disk below a part of the data directory; all of it for an empty name.
    pub(crate) fn disk_bytes(&self, part: &str) -> u64 {
        tree_bytes(&self.data_dir.join(part))
    }

    /// Tells it to stop and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let kill = format!("kill -TERM {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().context("failed to run sh")?;
        ensure!(status.success(), "failed to tell the server to stop");
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}");
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the server did not stop within {STOP_DEADLINE:?}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Progress {
    pub(crate) async fn read(connection: &mut Connection) -> Result<Self> {
        let status = connection.get("/api/v1/status").await?;
        let sum =
            |positions: &Value| -> Option<u64> { positions.as_object()?.values().map(Value::as_u64).sum() };
        let read = |pointer: &str| {
            let positions = status.pointer(pointer).and_then(sum);
            positions.with_context(|| format!("the server's status has no {pointer}: {status}"))
        };
        Ok(Self {
            logged: read("/log/end")?,
            indexed: read("/index/position")?,
            detected: read("/detect/position")?,
        })
    }

    /// Events in the log that cannot be searched yet.
    pub(crate) fn index_lag(&self) -> u64 {
        self.logged.saturating_sub(self.indexed)
    }

    pub(crate) fn detect_lag(&self) -> u64 {
        self.logged.saturating_sub(self.detected)
    }
}

/// The binary beside this one. Under cargo it is built first, so that no old one is measured.
pub(crate) fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find this program's own file")?;
    let binary = own.with_file_name("watchbell");
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut command = Command::new(cargo);
        command.args(["build", "--package", "watchbell", "--bin", "watchbell"]);
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        let status = command.stdin(Stdio::null()).status().context("failed to run cargo")?;
        ensure!(status.success(), "the server does not build");
    }
    ensure!(
        binary.is_file(),
        "there is no server at {}; build it with `cargo build --release -p watchbell`",
        binary.display()
    );
    Ok(binary)
}

/// A port that is free right now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn read_small(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    File::open(path)?.take(4 << 10).read_to_string(&mut text)?;
    Ok(text)
}

/// The end of what the server said, for errors.
pub(crate) fn log_tail(dir: &Path) -> String {
    let log = std::fs::read(dir.join("server.log")).unwrap_or_default();
    let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
    format!("the server's log ends with:\n{}", String::from_utf8_lossy(tail))
}

fn tree_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return path.metadata().map_or(0, |file| file.len()) };
    entries.flatten().map(|entry| tree_bytes(&entry.path())).sum()
}
