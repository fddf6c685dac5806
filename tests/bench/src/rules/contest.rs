//! Engines in processes of their own, which take turns.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::sets::Set;
use crate::output;

/// One engine with one set of rules.
pub(crate) struct Contender {
    pub(crate) engine: String,
    pub(crate) set: String,
    pub(crate) loaded: Loaded,
    pub(crate) rounds: Vec<Round>,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What an engine says when it has loaded.
#[derive(Debug, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) rules: usize,
    pub(crate) refused: usize,
    pub(crate) load_seconds: f64,
    pub(crate) memory_bytes: u64,
}

/// What an engine says after its turn.
#[derive(Debug, Deserialize)]
pub(crate) struct Round {
    pub(crate) events: u64,
    pub(crate) nanoseconds: u64,
    pub(crate) matches: u64,
    pub(crate) candidates: u64,
}

impl Round {
    /// Nanoseconds per event.
    pub(crate) fn cost(&self) -> f64 {
        self.nanoseconds as f64 / self.events.max(1) as f64
    }
}

impl Contender {
    /// Whether it is an engine of another project.
    pub(crate) fn is_peer(&self) -> bool {
        !matches!(self.engine.as_str(), "reading" | "watchbell")
    }

    /// Starts an engine of this program.
    pub(crate) fn start_own(engine: &str, dir: &Path, set: &Set, events: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("rules-worker");
        Self::start(command, engine, dir, set, events)
    }

    fn start(mut command: Command, engine: &str, dir: &Path, set: &Set, events: &Path) -> Result<Self> {
        let rules = dir.join("rules.yml");
        std::fs::write(&rules, &set.text)?;
        command.arg(engine).arg(&rules).arg(events).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("failed to start {engine}"))?;
        let input = child.stdin.take().context("no standard input")?;
        let mut output = BufReader::new(child.stdout.take().context("no standard output")?);
        let loaded = answer(engine, &mut output)?;
        let (engine, set) = (engine.to_owned(), set.name.clone());
        Ok(Self { engine, set, loaded, rounds: Vec::new(), child, input, output })
    }

    /// Lets it measure for some time.
    pub(crate) fn round(&mut self, length: Duration) -> Result<()> {
        writeln!(self.input, "{}", length.as_millis())?;
        self.rounds.push(answer(&self.engine, &mut self.output)?);
        Ok(())
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer<T: serde::de::DeserializeOwned>(engine: &str, output: &mut BufReader<ChildStdout>) -> Result<T> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    ensure!(!line.is_empty(), "{engine} ended early");
    serde_json::from_str(&line).with_context(|| format!("{engine} answered {line:?}"))
}

/// The program with the other engines, if it could be built.
pub(crate) struct Peers(Option<PathBuf>);

/// With rsigma as it comes, and with what it offers for large sets of rules.
const PEERS: [&str; 3] = ["rsigma", "rsigma-prefiltered", "sigma-rust"];
const BUILD: &str = "cargo build --release --locked --ignore-rust-version";

impl Peers {
    /// Leaves the other engines out.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Builds the program, which is not in the workspace, beside this one.
    pub(crate) fn build() -> Self {
        let built = build();
        if let Err(error) = &built {
            output::note(&format!("the other engines are left out: {error:#}"));
        }
        Self(built.ok())
    }

    /// Starts each of them on a set of rules.
    pub(crate) fn start(&self, set: &Set, dir: &Path, events: &Path) -> Result<Vec<Contender>> {
        let Some(program) = &self.0 else { return Ok(Vec::new()) };
        PEERS.iter().map(|engine| Contender::start(Command::new(program), engine, dir, set, events)).collect()
    }
}

fn build() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/Cargo.toml");
    let own = std::env::current_exe()?;
    let target = own.parent().context("this program lies in no directory")?.join("bench-peers-target");
    output::note("building the other engines");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(BUILD.split(' ').skip(1))
        .arg("--quiet")
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .stdout(Stdio::null())
        .status()
        .context("failed to run cargo")?;
    ensure!(
        status.success(),
        "failed to build them; see what {BUILD} --manifest-path {} says",
        manifest.display()
    );
    Ok(target.join("release/bench-peers"))
}
