use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::feeds::Feeds;
use crate::http::{self, Access, App, listener};
use crate::inputs::Inputs;
use crate::pipeline::{Pipeline, stopped};
use crate::roles::{Role, Roles};
use crate::self_audit::{Actor, SelfAudit};
use crate::tls::Tls;
use crate::tokens::{Scope, TokenFile, Tokens};
use crate::{clock, demo, files, telemetry};

/// How to run the server.
#[derive(Args)]
pub(crate) struct ServeArgs {
    /// The configuration file; every setting has a default.
    #[arg(long, env = "WATCHBELL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen; overrides the configuration.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where to keep everything; overrides the configuration.
    #[arg(long, env = "WATCHBELL_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What this process does, separated by commas: receive, detect, index, query, alert; overrides the configuration.
    /// By default everything.
    #[arg(long, value_name = "ROLES")]
    roles: Option<Roles>,
    /// Replay a recorded scenario, ordinary work and an attack, and show the alerts as they fire.
    #[arg(long)]
    demo: bool,
}

impl ServeArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut config = Config::load(self.config.as_deref())?;
        config.listen = self.listen.unwrap_or(config.listen);
        config.data_dir = self.data_dir.unwrap_or(config.data_dir);
        config.roles = self.roles.unwrap_or(config.roles);
        config.roles.check(&config)?;
        if self.demo && !config.roles.are_all() {
            bail!("--demo sends, detects, searches and alerts, so it needs all roles in one process");
        }
        if self.demo && self.config.is_none() {
            // The alerts are what should be seen, not the log.
            config.log.filter = "warn".to_owned();
        }
        check_plaintext(&config)?;
        telemetry::start_logs(&config.log)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let served = runtime.block_on(serve(config, self.config, self.demo));
        runtime.shutdown_timeout(Duration::from_secs(5));
        served.map(|()| ExitCode::SUCCESS)
    }
}

/// Load, build, announce, wait, drain.
async fn serve(mut config: Config, config_file: Option<PathBuf>, with_demo: bool) -> Result<()> {
    let metrics = telemetry::start_metrics()?;
    allow_open_files();
    let _lock = lock_data_dir(&config.data_dir)?;
    let admin_token = ensure_admin_token(&config.data_dir)?;
    let tokens = Tokens::open(TokenFile::in_data_dir(&config.data_dir))?;
    let tls = config.tls.take().map(|tls| Tls::open(config_file, tls).map(Arc::new)).transpose()?;
    let socket = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("failed to listen on {} (is another server running?)", config.listen))?;
    let address = socket.local_addr()?;
    let inputs = match config.roles.has(Role::Receive) {
        true => Some(Inputs::bind(&config, tls.as_ref()).await?),
        false => None,
    };
    let external_url = &mut config.alerting.dispatch.external_url;
    *external_url = external_url.take().or_else(|| local_url(address, tls.is_some(), with_demo));
    let external_url = external_url.clone();
    let notifies = config.roles.has(Role::Alert);
    if external_url.is_none() && notifies && !config.alerting.receivers.is_empty() {
        tracing::warn!("alerting.external_url is not set: messages carry ids instead of links");
    }

    let (stop, stopping) = watch::channel(false);
    let pipeline = Pipeline::start(&mut config, &stopping).await?;
    let self_audit = SelfAudit::new(pipeline.ingest());
    let access = Access { tokens, tls: tls.clone(), self_audit: self_audit.clone() };
    let app = Arc::new(App::new(&config, access, pipeline, metrics));
    self_audit.started(&config).await;
    // of several receivers, one that gets nothing says nothing: feeds are watched where all events are seen
    let watches_feeds = config.roles.has(Role::Index) && !config.ingest.feed_silence.is_zero();
    let feeds = watches_feeds
        .then(|| Feeds::open(&config.data_dir, config.ingest.feed_silence, clock::now()))
        .transpose()?;
    let upkeep = tokio::spawn(upkeep(Arc::clone(&app), self_audit.clone(), feeds, stopping.clone()));
    let watching = tls.clone().map(|tls| tokio::spawn(watch_tls(tls, stopping.clone())));

    let limits = listener::Limits {
        max_connections: config.max_connections,
        drain_deadline: config.shutdown_deadline.mul_f32(0.4),
    };
    let serving =
        listener::run(socket, tls, http::router(Arc::clone(&app)), limits, stopped(stopping.clone()));
    let serving = tokio::spawn(serving);
    let inputs = inputs.map(|inputs| inputs.serve(&app, &stopping)).unwrap_or_default();
    let data_dir = config.data_dir.display();
    let roles = app.pipeline.roles().to_string();
    tracing::info!(%address, tls = app.tls.is_some(), roles, %data_dir, external_url, "serving");
    let demo = with_demo.then(|| tokio::spawn(demo::run(address, admin_token, stopping)));

    let failed = tokio::select! {
        signal = wait_for_signal() => signal.map(|()| None)?,
        stage = app.pipeline.stage_failed() => Some(stage),
    };
    tracing::info!("stopping: no new connections, finishing open requests");
    // Nobody who is told to stop waits longer than the deadline.
    let drain = async {
        self_audit.stopping().await;
        stop.send_replace(true);
        let _ = serving.await;
        for input in inputs {
            let _ = input.await;
        }
        let _ = upkeep.await;
        app.pipeline.drain().await;
    };
    if tokio::time::timeout(config.shutdown_deadline, drain).await.is_err() {
        tracing::warn!(
            "not everything was finished before the deadline; the rest is picked up at the next start"
        );
    }
    demo.into_iter().chain(watching).for_each(|task| task.abort());
    tracing::info!("stopped");
    match failed {
        None => Ok(()),
        Some(stage) => {
            bail!("the {stage} stage broke down (see above); start again, it continues where it was")
        }
    }
}

/// Where this machine's own browsers reach the server. None if it serves others: such a link would lead them to their own
/// machine.
fn local_url(address: SocketAddr, tls: bool, with_demo: bool) -> Option<String> {
    if !address.ip().is_loopback() && !with_demo {
        return None;
    }
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if tls { "https" } else { "http" };
    Some(format!("{scheme}://{}", SocketAddr::new(host, address.port())))
}

/// Small regular chores: changed tokens, silent feeds, full quotas, gauges.
async fn upkeep(
    app: Arc<App>,
    self_audit: SelfAudit,
    mut feeds: Option<Feeds>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopping.changed() => return,
        }
        for change in app.tokens.take_changes() {
            self_audit.token_changed(&Actor::operator(), &change).await;
        }
        for reload in app.tls.iter().flat_map(|tls| tls.take_reloads()) {
            self_audit.tls_reloaded(&reload).await;
        }
        for reload in app.pipeline.take_rule_reloads() {
            self_audit.rules_reloaded(&reload).await;
        }
        for change in
            feeds.iter_mut().flat_map(|feeds| feeds.look(|| app.pipeline.audit_totals(), clock::now()))
        {
            self_audit.feed_changed(&change).await;
        }
        app.quota.prune();
        app.pipeline.publish_gauges();
    }
}

/// Takes changed certificates for as long as the server runs.
async fn watch_tls(tls: Arc<Tls>, stopping: watch::Receiver<bool>) {
    while tokio::time::timeout(tls.reload_interval(), stopped(stopping.clone())).await.is_err() {
        let tls = Arc::clone(&tls);
        let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
    }
}

async fn wait_for_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            // other servers read their configuration again then, so people send it
            _ = hangup.recv() => tracing::warn!(
                "SIGHUP changes nothing: rules, tokens and certificates are looked at all the time, other settings need \
                 a restart"
            ),
        }
    }
}

/// Connections, journal and index share the files a process may open; the usual soft limit of 1,024 is for
/// programs that use `select`.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if setrlimit(Resource::Nofile, raised).is_err() {
        tracing::warn!("failed to raise the limit of open files");
    }
}

fn check_plaintext(config: &Config) -> Result<()> {
    if config.tls.is_none() && !config.allow_plaintext && !config.listen.ip().is_loopback() {
        bail!(
            "refusing to serve plain HTTP on {}: tokens would travel readable. Set tls.cert_file and tls.key_file, \
             or listen on 127.0.0.1, or set allow_plaintext: true if a proxy in front speaks TLS",
            config.listen
        );
    }
    Ok(())
}

/// Makes the data directory and holds it, so that two servers never write the same journal.
fn lock_data_dir(data_dir: &Path) -> Result<std::fs::File> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .recursive(true)
        .create(data_dir)
        .with_context(|| format!("failed to make the data directory {}", data_dir.display()))?;
    let path = data_dir.join("server.lock");
    let lock = std::fs::File::create(&path).with_context(|| format!("failed to open {}", path.display()))?;
    if lock.try_lock().is_err() {
        bail!("another server is using the data directory {}", data_dir.display());
    }
    Ok(lock)
}

/// The token that may do everything, made at the first start.
fn ensure_admin_token(data_dir: &Path) -> Result<String> {
    const MAX_TOKEN_BYTES: u64 = 4 << 10;
    let path = data_dir.join("admin.token");
    if path.exists() {
        return Ok(files::read_text(&path, MAX_TOKEN_BYTES)?.trim().to_owned());
    }
    let file = TokenFile::in_data_dir(data_dir);
    let (_, token) = file.create("admin (made at the first start)", vec![Scope::Admin], clock::now())?;
    files::write_private(&path, format!("{token}\n").as_bytes())?;
    tracing::info!(path = %path.display(), "wrote the admin token");
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_this_machine_only_if_nobody_else_is_told() {
        for (address, tls, demo, expect) in [
            ("127.0.0.1:8080", false, false, Some("http://127.0.0.1:8080")),
            ("[::1]:8443", true, false, Some("https://[::1]:8443")),
            ("0.0.0.0:8080", false, false, None),
            ("[::]:8080", true, false, None),
            ("10.0.0.7:8080", true, false, None),
            ("0.0.0.0:8080", false, true, Some("http://127.0.0.1:8080")),
        ] {
            let url = local_url(address.parse().unwrap(), tls, demo);
            assert_eq!(url.as_deref(), expect, "{address} {demo}");
        }
    }
}
