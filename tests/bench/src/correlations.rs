//! `bench correlations`: counted events per second on one core with many live groups, by type of correlation,
//! and the memory they take beside their budget.

use std::fs::File;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::Table;
use watchbell_event::{EventId, Position, Timestamp};
use watchbell_rules::{CorrelationConfig, Correlator, Evaluator, Lists, Observed, RuleSet, load};

use crate::random::Random;
use crate::{output, stats};

/// How to measure.
#[derive(Args)]
pub(crate) struct CorrelationsArgs {
    /// Groups that are live at any time.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    groups: u64,
    /// Events that are counted for each type.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    events: u64,
    /// Exit with 1 if a type stays below the goal.
    #[arg(long)]
    strict: bool,
}

const GOAL_PER_SECOND: f64 = 500_000.0;
/// Event time between two events: a window of ten minutes holds 600,000 of them.
const STEP_MICROS: i64 = 1_000;
/// So much an event may lie before the one that came before it.
const DISORDER_MICROS: u64 = 2_000_000;
const PAGE_BYTES: u64 = 4_096;

/// Types and their conditions.
const TYPES: [(&str, &str); 6] = [
    ("event_count", "condition: {gte: 50}"),
    ("value_count", "condition: {field: value, gte: 20}"),
    ("temporal_ordered", ""),
    ("value_sum", "condition: {field: value, gte: 1000000}"),
    ("value_median", "condition: {field: value, gte: 999}"),
    ("new_value", "condition: {field: value}, warm-up: 0"),
];

impl CorrelationsArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut table = Table::new();
        table.set_header([
            "type", "events/s", "ns/event", "groups", "matches", "memory", "grown by", "budget",
        ]);
        let mut slowest = f64::INFINITY;
        for (kind, condition) in TYPES {
            output::note(&format!("counting {} events for {kind}", self.events));
            slowest = slowest.min(self.measure(kind, condition, &mut table)?);
        }
        output::line(&table.to_string())?;
        output::line(&format!(
            "one core, {} groups; the slowest counts {:.0} events/s, the goal is {GOAL_PER_SECOND:.0}",
            self.groups, slowest
        ))?;
        let good = !self.strict || slowest >= GOAL_PER_SECOND;
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn measure(&self, kind: &str, condition: &str, table: &mut Table) -> Result<f64> {
        let rules = format!(
            "title: base\nname: base\ndetection: {{s: {{user|exists: true}}, condition: s}}\n---\n\
             title: other\nname: other\ndetection: {{s: {{other|exists: true}}, condition: s}}\n---\n\
             title: correlation\ncorrelation: {{type: {kind}, rules: [base, other], group-by: [user], \
             timespan: 10m, {condition}}}\n"
        );
        let loaded = load(&[("rules.yml".to_owned(), rules)], &Lists::shipped());
        ensure!(loaded.errors.is_empty(), "the rules do not load: {:?}", loaded.errors);
        let config = CorrelationConfig::default();
        let before = resident_bytes()?;
        let set = Arc::new(RuleSet::compile(loaded.rules));
        let mut evaluator = Evaluator::new(Arc::clone(&set));
        let mut correlator = Correlator::new(set, config.clone());
        let events: Vec<String> = (0..self.groups)
            .map(|group| format!(r#"{{"user":"user-{group}","value":{}}}"#, group % 100))
            .collect();
        let mut random = Random::new(1);
        let cluster = Arc::from("bench");
        let (mut matched, mut found, mut matches) = (Vec::new(), Vec::new(), 0);
        let started = Instant::now();
        for number in 0..self.events {
            let at = usize::try_from(random.next() % self.groups)?;
            let disorder = i64::try_from(random.next() % DISORDER_MICROS)?;
            let time = Timestamp::from_micros(i64::try_from(number)? * STEP_MICROS - disorder);
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let observed = Observed {
                cluster: &cluster,
                id: EventId(id),
                position: Position { partition: 0, offset: number },
                event_time: time,
                received_at: time,
                history: false,
            };
            evaluator.matches(events[at].as_bytes(), &mut matched);
            correlator.take(&observed, &evaluator, &matched, &mut found);
            matches += found.drain(..).count();
        }
        let elapsed = started.elapsed();
        let stats = correlator.stats();
        let bytes: usize = stats.iter().map(|stats| stats.bytes).sum();
        let groups: usize = stats.iter().map(|stats| stats.groups).sum();
        let per_second = stats::per_second(self.events, elapsed);
        table.add_row([
            kind.to_owned(),
            format!("{per_second:.0}"),
            format!("{:.0}", 1e9 / per_second),
            groups.to_string(),
            matches.to_string(),
            mebibytes(bytes as u64),
            mebibytes(resident_bytes()?.saturating_sub(before)),
            mebibytes(config.rule_budget_bytes as u64),
        ]);
        Ok(per_second)
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Memory of this process, as the system sees it.
fn resident_bytes() -> Result<u64> {
    let mut text = String::new();
    File::open("/proc/self/statm")?.take(4_096).read_to_string(&mut text)?;
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.unwrap_or(0) * PAGE_BYTES)
}
