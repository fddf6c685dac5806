//! What was measured, as a table, as a line of JSON, and against the goals.

use std::time::Duration;

use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use super::Route;
use super::detection::Detection;
use super::tail::Measured;
use crate::stats::{per_second, ratio};

const MB: f64 = 1e6;
/// The Kafka path takes in at least this share of the rate of the HTTP path.
const KAFKA_SHARE: f64 = 0.95;
/// Detection from a topic takes at least this share of the rate of the rules alone.
const DETECTION_SHARE: f64 = 0.8;
/// Megabytes of files per second of one core, up to the log.
const TAIL_MB_PER_SECOND: f64 = 100.0;

/// One route.
#[derive(Clone)]
pub(super) struct Row {
    route: Route,
    events: u64,
    bytes: u64,
    /// Until everything was durable, and until everything was evaluated and could be searched.
    logged: Duration,
    whole: Duration,
    /// Processor time of the server.
    core_seconds: f64,
}

impl Row {
    pub(super) fn new(
        route: Route,
        events: u64,
        bytes: u64,
        [logged, whole]: [Duration; 2],
        core: f64,
    ) -> Self {
        Self { route, events, bytes, logged, whole, core_seconds: core }
    }

    /// Events per second that are evaluated and can be searched.
    fn indexed(&self) -> f64 {
        per_second(self.events, self.whole)
    }

    fn per_core(&self) -> f64 {
        self.events as f64 / self.core_seconds.max(0.01)
    }

    fn json(&self) -> Value {
        json!({ "route": self.route.name(), "events": self.events, "bytes": self.bytes,
            "logged_per_second": per_second(self.events, self.logged).round(),
            "indexed_per_second": self.indexed().round(),
            "mb_per_second": ratio(self.bytes as f64 / MB, self.whole.as_secs_f64()),
            "events_per_core_second": self.per_core().round(),
            "mb_per_core_second": ratio(self.bytes as f64 / MB, self.core_seconds) })
    }
}

/// Messages that a consumer only counted.
pub(super) struct Bare {
    pub(super) route: Route,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) took: Duration,
}

impl Bare {
    fn per_second(&self) -> f64 {
        per_second(self.messages, self.took)
    }
}

/// All of it.
#[derive(Default)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) bare: Vec<Bare>,
    pub(super) detection: Option<Detection>,
    pub(super) tail: Option<Measured>,
    /// Why topics were not measured.
    pub(super) no_broker: Option<String>,
}

/// What is to be reached.
pub(super) struct Goal {
    name: &'static str,
    reached: Option<f64>,
    wanted: f64,
}

impl Goal {
    /// What could not be measured is not met.
    pub(super) fn is_met(&self) -> bool {
        self.reached.is_some_and(|reached| reached >= self.wanted)
    }
}

impl Report {
    /// The goals about what was asked for.
    pub(super) fn goals(&self, only: Option<Route>) -> Vec<Goal> {
        let wants = |routes: &[Route]| only.is_none_or(|only| routes.contains(&only));
        let mut goals = Vec::new();
        if wants(&[Route::KafkaAudit]) {
            let reached = self.best(Route::KafkaAudit).zip(self.best(Route::Audit));
            let reached = reached.map(|(kafka, http)| ratio(kafka, http));
            goals.push(Goal { name: "indexed from a topic / over HTTP", reached, wanted: KAFKA_SHARE });
        }
        if wants(&[Route::Detection]) {
            let share = |found: &Detection| ratio(found.from_topic, found.rules_alone);
            let reached = self.detection.as_ref().map(share);
            goals.push(Goal {
                name: "detection from a topic / rules alone",
                reached,
                wanted: DETECTION_SHARE,
            });
        }
        if wants(&[Route::Files]) {
            let reached = self.tail.as_ref().map(Measured::up_to_the_log);
            let name = "MB/s of one core from files up to the log";
            goals.push(Goal { name, reached, wanted: TAIL_MB_PER_SECOND });
        }
        goals
    }

    /// The better of several turns: what else runs on a machine only takes away.
    fn best(&self, route: Route) -> Option<f64> {
        self.rows.iter().filter(|row| row.route == route).map(Row::indexed).reduce(f64::max)
    }

    pub(super) fn table(&self, only: Option<Route>) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["route", "logged/s", "indexed/s", "MB/s", "events/core-s", "MB/core-s"]);
        for row in &self.rows {
            let mb = row.bytes as f64 / MB;
            table.add_row([
                row.route.name().to_owned(),
                format!("{:.0}", per_second(row.events, row.logged)),
                format!("{:.0}", row.indexed()),
                format!("{:.1}", mb / row.whole.as_secs_f64()),
                format!("{:.0}", row.per_core()),
                format!("{:.1}", mb / row.core_seconds.max(0.01)),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.to_string();
        for bare in &self.bare {
            let mb = bare.bytes as f64 / MB / bare.took.as_secs_f64();
            let name = bare.route.name();
            text += &format!(
                "\nonly counting what {name} reads: {:.0} messages/s, {mb:.0} MB/s",
                bare.per_second()
            );
        }
        if let Some(Detection { from_topic, rules_alone }) = self.detection {
            text += &format!(
                "\ndetection from a topic: {from_topic:.0} events/s; the rules alone: {rules_alone:.0}"
            );
        }
        if let Some(tail) = &self.tail {
            text += &tail.text();
        }
        if let Some(reason) = &self.no_broker {
            text += &format!("\ntopics were not measured: {reason}");
        }
        for goal in self.goals(only) {
            let verdict = if goal.is_met() { "met" } else { "MISSED" };
            let reached = goal.reached.map_or("not measured".to_owned(), |reached| format!("{reached:.2}"));
            text += &format!("\ngoal: {} ≥ {}: {reached}, {verdict}", goal.name, goal.wanted);
        }
        text
    }

    pub(super) fn json(&self, only: Option<Route>) -> String {
        let goals = self.goals(only);
        let goals: Vec<Value> = goals
            .iter()
            .map(|goal| json!({ "name": goal.name, "reached": goal.reached, "wanted": goal.wanted, "met": goal.is_met() }))
            .collect();
        let bare = |bare: &Bare| json!({ "route": bare.route.name(), "messages_per_second": bare.per_second().round() });
        json!({
            "benchmark": "sources",
            "routes": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "only_counting": self.bare.iter().map(bare).collect::<Vec<_>>(),
            "detection": self.detection.as_ref().map(|found| json!({ "from_topic_per_second": found.from_topic.round(),
                "rules_alone_per_second": found.rules_alone.round() })),
            "tail": self.tail.as_ref().map(Measured::json),
            "goals": goals,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_compare_what_was_measured_and_what_was_not_is_missed() {
        let row = |route, events| Row::new(route, events, 1, [Duration::from_secs(1); 2], 1.0);
        let rows = vec![row(Route::Audit, 100), row(Route::KafkaAudit, 90), row(Route::KafkaAudit, 96)];
        let report = Report { rows, ..Report::default() };
        let verdicts = |only| report.goals(only).iter().map(Goal::is_met).collect::<Vec<_>>();
        assert_eq!(verdicts(None), [true, false, false]);
        assert_eq!(verdicts(Some(Route::Bulk)), [] as [bool; 0]);
        assert!(report.table(None).contains("0.96, met"), "{}", report.table(None));
        assert!(report.json(None).contains("\"met\":true"));
    }
}
