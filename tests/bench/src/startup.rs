//! `bench startup`: how long the server takes to be ready on a large journal, beside the same server on an
//! empty one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Args;
use serde_json::json;
use watchbell_event::{Envelope, EventId, Format};
use watchbell_ingest::log::{Journal, JournalConfig, Log};

use crate::pipeline::server::{Server, binary};
use crate::random::Random;
use crate::{clock, output};

/// How to measure.
#[derive(Args)]
pub(crate) struct StartupArgs {
    /// Size of the journal on disk, in GB.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    gigabytes: u64,
    /// Exit with 1 if it takes longer than the goal.
    #[arg(long)]
    strict: bool,
    /// Where to keep data while measuring; the default is beside this program, on a real disk.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

const GOAL_SECONDS: f64 = 10.0;
/// Noise that does not compress, so that the disk holds what was asked for.
const EVENT_BYTES: usize = 1_400;
const EVENTS_PER_APPEND: usize = 2_000;

impl StartupArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let binary = binary()?;
        let own = std::env::current_exe()?;
        let parent = self.dir.clone().or_else(|| own.parent().map(Path::to_owned)).context("no directory")?;
        let (empty, full) = (tempfile::tempdir_in(&parent)?, tempfile::tempdir_in(&parent)?);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            output::note(&format!("writing a journal of {} GB", self.gigabytes));
            let written = fill(&full.path().join("data/journal"), self.gigabytes * 1_000_000_000).await?;
            let empty_seconds = start(&binary, empty.path()).await?;
            let full_seconds = start(&binary, full.path()).await?;
            output::line(&format!("ready on an empty journal        {empty_seconds:.2} s"))?;
            output::line(&format!(
                "ready on {:.1} GB, {} events   {full_seconds:.2} s, {:.1} times as long",
                written.bytes as f64 / 1e9,
                written.events,
                full_seconds / empty_seconds
            ))?;
            let met = full_seconds < GOAL_SECONDS;
            let goal = if met { "met" } else { "MISSED" };
            output::line(&format!("goal: below {GOAL_SECONDS} s                 {goal}"))?;
            output::line(
                &json!({ "benchmark": "startup", "journal_bytes": written.bytes, "events": written.events,
                    "empty_seconds": empty_seconds, "full_seconds": full_seconds, "met": met })
                .to_string(),
            )?;
            Ok(if met || !self.strict { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        })
    }
}

struct Written {
    events: u64,
    bytes: u64,
}

/// Fills a journal through its own front door.
async fn fill(dir: &Path, bytes: u64) -> Result<Written> {
    std::fs::create_dir_all(dir)?;
    let log =
        Log::Disk(Journal::open(dir, JournalConfig { keep_free_bytes: 0, ..JournalConfig::default() })?);
    let mut random = Random::new(1);
    let mut written = Written { events: 0, bytes: 0 };
    while written.bytes < bytes {
        let envelopes: Vec<Envelope> = (0..EVENTS_PER_APPEND).map(|_| noise(&mut random)).collect();
        log.append(&envelopes).await?;
        written.events += envelopes.len() as u64;
        written.bytes = log.status().bytes;
    }
    log.close().await;
    Ok(written)
}

fn noise(random: &mut Random) -> Envelope {
    let mut bytes = Vec::with_capacity(EVENT_BYTES + 16);
    bytes.extend_from_slice(b"{\"verb\":\"");
    while bytes.len() < EVENT_BYTES {
        // Six random bits in eight, as characters that JSON text may hold.
        let characters = random.next().to_le_bytes().map(|byte| b'0' + (byte & 0x3f));
        bytes.extend(characters.map(|character| if character == b'\\' { b'~' } else { character }));
    }
    bytes.extend_from_slice(b"\"}");
    let received_at = clock::now();
    Envelope {
        id: EventId::from_hash(&blake3::hash(&bytes)),
        received_at,
        event_time: received_at,
        source: Arc::from("audit"),
        cluster: Arc::from("bench"),
        format: Format::KubernetesAudit,
        peer: None,
        history: false,
        bytes: Bytes::from(bytes),
    }
}

/// Starts the server on a directory and returns the seconds until it was ready.
async fn start(binary: &Path, dir: &Path) -> Result<f64> {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let begun = Instant::now();
    let server = Server::start(binary, dir, nobody).await?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(seconds > 0.0, "the clock stands still");
    drop(server);
    Ok(seconds)
}
