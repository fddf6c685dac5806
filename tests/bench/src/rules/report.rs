//! What was measured, against what is wanted: tables for people and one line of JSON.

use anyhow::{Result, ensure};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::contest::{Contender, Round};
use super::sets::SIZES;
use crate::stats::{quantile, ratio};

/// Everything that one run measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    benchmark: &'static str,
    seed: u64,
    events: usize,
    event_bytes_mean: f64,
    engines: Vec<Measured>,
}

/// One engine with one set of rules.
#[derive(Debug, Serialize)]
struct Measured {
    engine: String,
    set: String,
    rules: usize,
    refused: usize,
    load_seconds: f64,
    memory_bytes: u64,
    events_per_second: f64,
    nanoseconds_per_event: f64,
    /// Half of the rounds lie within so many percent of one another.
    spread_percent: f64,
    candidates_per_event: f64,
    matches_per_event: f64,
    #[serde(skip)]
    costs: Vec<f64>,
}

/// One figure that is to be reached.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) name: &'static str,
    pub(crate) measured: Option<f64>,
    pub(crate) wanted: f64,
    pub(crate) met: bool,
}

/// Of the events, one in so many at most and at least matches a rule of a generated set.
const MATCHED_AT_MOST: usize = 250;
const MATCHED_AT_LEAST: usize = 4_000;

impl Report {
    pub(crate) fn new(seed: u64, events: &[&[u8]], contenders: &[Contender]) -> Self {
        let bytes: usize = events.iter().map(|event| event.len()).sum();
        Self {
            benchmark: "rules",
            seed,
            events: events.len(),
            event_bytes_mean: (bytes as f64 / events.len().max(1) as f64).round(),
            engines: contenders.iter().map(Measured::new).collect(),
        }
    }

    /// A benchmark in which nothing matches, or everything does, shows nothing.
    pub(crate) fn check_hit_rates(&self) -> Result<()> {
        for size in SIZES {
            let Some(own) = self.find("watchbell", &size.to_string()) else { continue };
            let rate = own.matches_per_event * self.events as f64;
            let (least, most) = (self.events / MATCHED_AT_LEAST, self.events.div_ceil(MATCHED_AT_MOST));
            ensure!(
                rate > 0.0 && rate >= least as f64 && rate <= most as f64,
                "of {} events, {rate} match the {size} generated rules",
                self.events
            );
        }
        Ok(())
    }

    pub(crate) fn goals(&self) -> Vec<Goal> {
        let reach = |name, measured: Option<f64>, wanted: f64| Goal {
            name,
            measured,
            wanted,
            met: measured.is_some_and(|measured| measured >= wanted),
        };
        let growth = self.compare(("watchbell", "10000"), ("watchbell", "100"));
        let peers =
            ["rsigma", "rsigma-prefiltered"].map(|peer| self.compare((peer, "4000"), ("watchbell", "4000")));
        let best_peer = peers.into_iter().flatten().min_by(f64::total_cmp);
        vec![
            Goal {
                name: "cost with 10,000 rules / with 100, at most",
                measured: growth,
                wanted: 1.5,
                met: growth.is_some_and(|growth| growth <= 1.5),
            },
            reach(
                "speed with 4,000 rules / bare reading",
                self.compare(("reading", ""), ("watchbell", "4000")),
                0.5,
            ),
            reach(
                "speed with the library / bare reading",
                self.compare(("reading", ""), ("watchbell", "library")),
                0.6,
            ),
            reach("speed with 4,000 rules / rsigma at its best", best_peer, 10.0),
        ]
    }

    /// The median of how many times as much one costs as another, each in the same round.
    fn compare(&self, one: (&str, &str), other: (&str, &str)) -> Option<f64> {
        let (one, other) = (self.find(one.0, one.1)?, self.find(other.0, other.1)?);
        let ratios = one.costs.iter().zip(&other.costs).map(|(one, other)| ratio(*one, *other));
        Some(quantile(ratios.collect(), 50))
    }

    fn find(&self, engine: &str, set: &str) -> Option<&Measured> {
        self.engines.iter().find(|measured| measured.engine == engine && measured.set == set)
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header([
            "rules",
            "engine",
            "taken",
            "events/s",
            "ns/event",
            "spread",
            "candidates",
            "matches",
            "memory",
            "loaded in",
        ]);
        for measured in &self.engines {
            table.add_row(measured.row());
        }
        let mut goals = Table::new();
        goals.load_style(presets::NOTHING).set_header(["goal", "measured", "wanted", ""]);
        for goal in self.goals() {
            let measured =
                goal.measured.map_or("not measured".to_owned(), |measured| format!("{measured:.2}"));
            let met = if goal.met { "met" } else { "MISSED" };
            goals.add_row([goal.name.to_owned(), measured, goal.wanted.to_string(), met.to_owned()]);
        }
        format!(
            "{} events of {:.0} bytes, parsing included, one core; candidates and matches are per event\n\n{table}\n\n{goals}",
            self.events, self.event_bytes_mean
        )
    }

    /// For programs: everything measured and the goals.
    pub(crate) fn json(&self) -> Result<String> {
        let mut report = serde_json::to_value(self)?;
        report["goals"] = serde_json::to_value(self.goals())?;
        Ok(report.to_string())
    }
}

impl Measured {
    fn new(contender: &Contender) -> Self {
        let loaded = &contender.loaded;
        let costs: Vec<f64> = contender.rounds.iter().map(Round::cost).collect();
        let median = quantile(costs.clone(), 50);
        let spread = quantile(costs.clone(), 75) - quantile(costs.clone(), 25);
        let total = |count: fn(&Round) -> u64| contender.rounds.iter().map(count).sum::<u64>() as f64;
        let events = total(|round| round.events);
        Self {
            engine: contender.engine.clone(),
            set: contender.set.clone(),
            rules: loaded.rules,
            refused: loaded.refused,
            load_seconds: loaded.load_seconds,
            memory_bytes: loaded.memory_bytes,
            events_per_second: (1e9 / median.max(1.0)).round(),
            nanoseconds_per_event: median.round(),
            spread_percent: (1000.0 * spread / median.max(1.0)).round() / 10.0,
            candidates_per_event: ratio(total(|round| round.candidates), events),
            matches_per_event: total(|round| round.matches) / events.max(1.0),
            costs,
        }
    }

    fn row(&self) -> [String; 10] {
        [
            self.set.clone(),
            self.engine.clone(),
            if self.refused > 0 {
                format!("{}, not {}", self.rules, self.refused)
            } else {
                self.rules.to_string()
            },
            format!("{:.0}", self.events_per_second),
            format!("{:.0}", self.nanoseconds_per_event),
            format!("{} %", self.spread_percent),
            if self.engine == "watchbell" { self.candidates_per_event.to_string() } else { String::new() },
            format!("{:.4}", self.matches_per_event),
            format!("{:.1} MB", self.memory_bytes as f64 / 1e6),
            format!("{:.2} s", self.load_seconds),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(engine: &str, set: &str, costs: &[f64], matches_per_event: f64) -> Measured {
        Measured {
            engine: engine.to_owned(),
            set: set.to_owned(),
            rules: 0,
            refused: 0,
            load_seconds: 0.0,
            memory_bytes: 0,
            events_per_second: 0.0,
            nanoseconds_per_event: 0.0,
            spread_percent: 0.0,
            candidates_per_event: 0.0,
            matches_per_event,
            costs: costs.to_owned(),
        }
    }

    fn report(engines: Vec<Measured>) -> Report {
        Report { benchmark: "rules", seed: 1, events: 2_000, event_bytes_mean: 0.0, engines }
    }

    #[test]
    fn goals_compare_rounds_and_what_was_not_measured_is_missed() {
        let report = report(vec![
            measured("reading", "", &[100.0, 300.0, 100.0], 0.0),
            measured("watchbell", "100", &[100.0, 400.0, 100.0], 0.001),
            measured("watchbell", "10000", &[140.0, 560.0, 300.0], 0.001),
            measured("watchbell", "4000", &[150.0, 450.0, 900.0], 0.001),
            measured("rsigma", "4000", &[3000.0, 9000.0, 9000.0], 0.0),
            measured("rsigma-prefiltered", "4000", &[1200.0, 3600.0, 7200.0], 0.0),
        ]);
        let goals: Vec<_> = report.goals().into_iter().map(|goal| (goal.measured, goal.met)).collect();
        assert_eq!(goals, [(Some(1.4), true), (Some(0.667), true), (None, false), (Some(8.0), false)]);
    }

    #[test]
    fn sets_that_never_or_always_match_are_refused() {
        for (rate, sound) in [(0.0, false), (0.001, true), (0.1, false), (1.0, false)] {
            let report = report(vec![measured("watchbell", "100", &[1.0], rate)]);
            assert_eq!(report.check_hit_rates().is_ok(), sound, "{rate}");
        }
    }
}
