//! `bench rules`: what evaluating an event costs with few and with many rules, beside other engines and beside bare
//! reading, on the same events in the same run, on one core.

mod contest;
mod generate;
mod report;
mod rounds;
mod sets;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::contest::{Contender, Peers};
use self::report::Report;
use self::sets::Set;
use crate::output;

pub(crate) use worker::{WorkerArgs, watchbell};

/// The shipped rules in one text.
pub(crate) fn library() -> String {
    Set::library().text
}

/// How to measure.
#[derive(Args)]
pub(crate) struct RulesArgs {
    /// Measure the rules of this directory, too.
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Measure on these events, one per line, instead of the recorded ones.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// How often each engine takes its turn.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rounds: u64,
    /// How long each turn takes, in milliseconds.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    round_ms: u64,
    /// Measure watchbell alone.
    #[arg(long)]
    alone: bool,
    /// Print only the line of JSON.
    #[arg(long)]
    json: bool,
    /// Equal seeds make equal rules.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Exit with 1 if a goal is missed.
    #[arg(long)]
    strict: bool,
}

/// The recorded events, in the order in which they happened.
const RECORDED: [&str; 3] = ["bootstrap.jsonl", "work.jsonl", "attack.jsonl"];

impl RulesArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        output::warn_of_debug_build();
        let report = self.measure()?;
        output::report(|| report.table(), &report.json()?, self.json)?;
        let missed = report.goals().iter().any(|goal| !goal.met);
        Ok(if missed && self.strict { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn measure(&self) -> Result<Report> {
        let bytes = self.event_bytes()?;
        let events: Vec<&[u8]> = rounds::lines(&bytes).collect();
        ensure!(!events.is_empty(), "there are no events");
        output::note("making rules");
        let mut sets = Set::generated(self.seed, &events)?;
        sets.push(Set::library());
        if let Some(directory) = &self.rules {
            sets.push(Set::directory(directory)?);
        }
        let peers = if self.alone { Peers::none() } else { Peers::build() };
        let dir = tempfile::tempdir()?;
        let events_file = dir.path().join("events.jsonl");
        std::fs::write(&events_file, &bytes)?;

        let mut contenders =
            vec![Contender::start_own("reading", dir.path(), &Set::default(), &events_file)?];
        for set in &sets {
            output::note(&format!("loading {} into each engine", set.name));
            contenders.push(Contender::start_own("watchbell", dir.path(), set, &events_file)?);
            contenders.extend(peers.start(set, dir.path(), &events_file)?);
        }
        let round = Duration::from_millis(self.round_ms);
        output::note(&format!("{} rounds of {round:?} for each of {}", self.rounds, contenders.len()));
        for _ in 0..self.rounds {
            // What is compared most closely runs close together: a machine is not equally fast for long.
            for is_peer in [false, true] {
                let mut turns = contenders.iter_mut().filter(|contender| contender.is_peer() == is_peer);
                turns.try_for_each(|contender| contender.round(round))?;
            }
        }
        let report = Report::new(self.seed, &events, &contenders);
        report.check_hit_rates()?;
        Ok(report)
    }

    fn event_bytes(&self) -> Result<Vec<u8>> {
        if let Some(file) = &self.events {
            return rounds::read(file).context("failed to read events");
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/recorded");
        let files = RECORDED.map(|name| rounds::read(&folder.join(name)));
        let files: Vec<Vec<u8>> =
            files.into_iter().collect::<Result<_, _>>().context("failed to read events")?;
        Ok(files.concat())
    }
}
