//! One engine in a process of its own. It loads rules and events, says what that took, and then measures a
//! round whenever it reads a line, so that engines can take turns.
//!
//! Both `bench` and the program with the other engines (`peers`) include this file.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

/// Largest file of events or rules, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// Events that are tried to see how slow an engine is.
const TRIED_EVENTS: usize = 64;

/// An engine with its rules.
pub(crate) struct Engine {
    /// Rules that it took.
    pub(crate) rules: usize,
    /// Rules that it refused.
    pub(crate) refused: usize,
    /// Evaluates one event, given as its bytes.
    pub(crate) evaluate: Evaluate,
}

type Evaluate = Box<dyn FnMut(&[u8]) -> Outcome>;

/// What came of one event.
#[derive(Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// Rules that matched.
    pub(crate) matches: u64,
    /// Rules that were looked at, where the engine tells.
    pub(crate) candidates: u64,
}

/// Loads an engine by `load`, given the rules' text and the events, and measures until standard input ends.
pub(crate) fn serve(
    rules: &Path,
    events: &Path,
    load: impl FnOnce(&str, &[&[u8]]) -> Result<Engine, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let rules = String::from_utf8(read(rules)?)?;
    let bytes = read(events)?;
    let events: Vec<&[u8]> = lines(&bytes).collect();
    let memory_before = anonymous_bytes();
    let started = Instant::now();
    let mut engine = load(&rules, &events)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let tried = Round::over(&mut engine, &events, events.len().div_ceil(TRIED_EVENTS).max(1));
    let memory = anonymous_bytes().saturating_sub(memory_before);
    say(&json!({ "rules": engine.rules, "refused": engine.refused, "load_seconds": load_seconds,
        "memory_bytes": memory, "events": events.len() }))?;
    for line in io::stdin().lock().lines() {
        let length = Duration::from_millis(line?.trim().parse()?);
        let round = Round::lasting(&mut engine, &events, length, &tried);
        say(&json!({ "events": round.events, "nanoseconds": round.nanoseconds(),
            "matches": round.outcome.matches, "candidates": round.outcome.candidates }))?;
    }
    Ok(())
}

/// What was measured at one go.
#[derive(Default)]
struct Round {
    events: u64,
    time: Duration,
    outcome: Outcome,
}

impl Round {
    /// Whole passes over the events in their order; if an engine is too slow for one, over every n-th event.
    fn lasting(engine: &mut Engine, events: &[&[u8]], length: Duration, tried: &Self) -> Self {
        let all_events_take = tried.time.as_nanos() * events.len() as u128 / u128::from(tried.events.max(1));
        let step = all_events_take.div_ceil(length.as_nanos().max(1));
        let step = usize::try_from(step).unwrap_or(usize::MAX).max(1);
        let mut all = Self::default();
        while all.time < length {
            let pass = Self::over(engine, events, step);
            all.events += pass.events;
            all.time += pass.time;
            all.outcome.matches += pass.outcome.matches;
            all.outcome.candidates += pass.outcome.candidates;
        }
        all
    }

    fn over(engine: &mut Engine, events: &[&[u8]], step: usize) -> Self {
        let mut outcome = Outcome::default();
        let started = Instant::now();
        for event in events.iter().step_by(step) {
            let of_event = (engine.evaluate)(event);
            outcome.matches += of_event.matches;
            outcome.candidates += of_event.candidates;
        }
        Self { events: events.len().div_ceil(step) as u64, time: started.elapsed(), outcome }
    }

    fn nanoseconds(&self) -> u64 {
        u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The lines that are not empty.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The content of a file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)).map_err(named)?;
    Ok(bytes)
}

fn say(line: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Memory of this process that no file backs; 0 where the system does not tell.
fn anonymous_bytes() -> u64 {
    let status = read(Path::new("/proc/self/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes << 10)
}
