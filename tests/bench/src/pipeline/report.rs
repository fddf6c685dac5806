//! What was measured, against what is wanted: a table for people and one line of JSON.

use comfy_table::{Table, presets};
use serde::Serialize;

use super::steady::Steady;
use crate::stats::{Quantiles, ratio};

/// Everything that one run measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) cores: usize,
    pub(crate) event_bytes_mean: f64,
    /// Measured before the whole path and after its steady rate, in events per second.
    pub(crate) value_parse_per_second: [f64; 2],
    pub(crate) bare_tantivy_per_second: [f64; 2],
    pub(crate) whole_path: Steady,
    pub(crate) half_load_per_second: f64,
    pub(crate) half_load_batch_answer: Quantiles,
    pub(crate) half_load_probe_answer: Quantiles,
    pub(crate) post_to_searchable: Quantiles,
    pub(crate) post_to_alert: Quantiles,
    pub(crate) lost_probes: usize,
    pub(crate) alert_messages: u64,
    pub(crate) frame_bytes: usize,
    pub(crate) fdatasync: Quantiles,
    pub(crate) peak_anonymous_bytes: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) journal_bytes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) disk_bytes: u64,
}

/// One figure that is to be reached.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) name: &'static str,
    pub(crate) measured: f64,
    pub(crate) wanted: f64,
    pub(crate) met: bool,
}

impl Report {
    /// What was measured before the whole path (0) or after its steady rate (1).
    pub(crate) fn add_baselines(&mut self, round: usize, [parsed, indexed]: [f64; 2]) {
        self.value_parse_per_second[round] = parsed;
        self.bare_tantivy_per_second[round] = indexed;
    }

    /// What was measured before the whole path.
    pub(crate) fn first_baselines(&self) -> [f64; 2] {
        [self.value_parse_per_second[0], self.bare_tantivy_per_second[0]]
    }

    pub(crate) fn goals(&self) -> Vec<Goal> {
        let reach =
            |name, measured: f64, wanted: f64| Goal { name, measured, wanted, met: measured >= wanted };
        let below =
            |name, measured: f64, wanted: f64| Goal { name, measured, wanted, met: measured < wanted };
        // A time that was never measured is no good time.
        let time = |quantiles: &Quantiles| if quantiles.count > 0 { quantiles.p99_ms } else { f64::MAX };
        vec![
            reach("bare tantivy / Value parse", self.tantivy_ratio(), 0.25),
            reach("whole path / bare tantivy", self.path_ratio(), 0.7),
            reach("no lag grew", f64::from(u8::from(self.whole_path.steady)), 1.0),
            below(
                "answer p99 at half load, ms",
                time(&self.half_load_batch_answer),
                (5.0 * self.fdatasync.p99_ms).max(100.0),
            ),
            below("POST to alert p99, ms", time(&self.post_to_alert), 500.0),
            below("lost probes", self.lost_probes as f64, 1.0),
            below("peak anonymous memory, MB", megabytes(self.peak_anonymous_bytes), 1_000.0),
        ]
    }

    fn tantivy_ratio(&self) -> f64 {
        ratio(mean(self.bare_tantivy_per_second), mean(self.value_parse_per_second))
    }

    fn path_ratio(&self) -> f64 {
        // What is answered but not indexed does not count.
        let indexed = self.whole_path.indexed_per_second.min(self.whole_path.answered_per_second);
        ratio(indexed, mean(self.bare_tantivy_per_second))
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["measured", "", ""]);
        for row in self.throughput_rows().into_iter().chain(self.latency_rows()) {
            table.add_row(row);
        }
        let mut goals = Table::new();
        goals.load_style(presets::NOTHING).set_header(["goal", "measured", "wanted", ""]);
        for goal in self.goals() {
            let met = if goal.met { "met" } else { "MISSED" };
            goals.add_row([goal.name.to_owned(), plain(goal.measured), plain(goal.wanted), met.to_owned()]);
        }
        format!("{table}\n\n{goals}")
    }

    fn throughput_rows(&self) -> Vec<[String; 3]> {
        let both =
            |[before, after]: [f64; 2]| format!("{before:.0} before, {after:.0} after the steady rate");
        let path = &self.whole_path;
        vec![
            row(
                "serde_json::Value parse",
                rate(mean(self.value_parse_per_second)),
                both(self.value_parse_per_second),
            ),
            row(
                "bare tantivy, parsing included",
                rate(mean(self.bare_tantivy_per_second)),
                format!("{} of Value parse; {}", self.tantivy_ratio(), both(self.bare_tantivy_per_second)),
            ),
            row(
                "whole path, indexed",
                rate(path.indexed_per_second),
                format!("{} of bare tantivy, for {} s", self.path_ratio(), path.seconds),
            ),
            row(
                "whole path, answered",
                rate(path.answered_per_second),
                format!("{} MB/s, {} batches refused", path.event_mb_per_second, path.refused_batches),
            ),
            row(
                "lag, first to last third",
                format!("index {:?} s", path.index_lag_seconds),
                format!("detect {:?} s", path.detect_lag_seconds),
            ),
            row(
                "processor",
                format!("server {} cores", path.cores.server),
                format!(
                    "generator {}, other programs {}, of {}",
                    path.cores.generator, path.cores.others, self.cores
                ),
            ),
        ]
    }

    fn latency_rows(&self) -> Vec<[String; 3]> {
        let times = |times: &Quantiles| format!("p50 {} ms, p99 {} ms", times.p50_ms, times.p99_ms);
        let raw = self.raw_bytes as f64;
        vec![
            row(
                "bare write and fdatasync",
                times(&self.fdatasync),
                format!("frames of {} bytes", self.frame_bytes),
            ),
            row(
                "POST to answer, half load",
                times(&self.half_load_batch_answer),
                format!(
                    "{}; a single event {}",
                    rate(self.half_load_per_second),
                    times(&self.half_load_probe_answer)
                ),
            ),
            row(
                "POST to searchable, half load",
                times(&self.post_to_searchable),
                format!("{} probes", self.post_to_searchable.count),
            ),
            row(
                "POST to alert, half load",
                times(&self.post_to_alert),
                format!("{} probes, {} messages in all", self.post_to_alert.count, self.alert_messages),
            ),
            row(
                "peak anonymous memory",
                format!("{:.0} MB", megabytes(self.peak_anonymous_bytes)),
                String::new(),
            ),
            row(
                "disk bytes per raw byte",
                plain(ratio(self.disk_bytes as f64, raw)),
                format!(
                    "journal {}, index {}, else {}; {:.0} MB raw, {:.0} bytes per event",
                    ratio(self.journal_bytes as f64, raw),
                    ratio(self.index_bytes as f64, raw),
                    ratio(self.disk_bytes.saturating_sub(self.journal_bytes + self.index_bytes) as f64, raw),
                    megabytes(self.raw_bytes),
                    self.event_bytes_mean
                ),
            ),
        ]
    }

    /// For programs: one line.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Line<'a> {
            benchmark: &'static str,
            #[serde(flatten)]
            report: &'a Report,
            tantivy_to_parse: f64,
            whole_path_to_tantivy: f64,
            disk_bytes_per_raw_byte: f64,
            goals: Vec<Goal>,
        }
        serde_json::to_string(&Line {
            benchmark: "pipeline",
            report: self,
            tantivy_to_parse: self.tantivy_ratio(),
            whole_path_to_tantivy: self.path_ratio(),
            disk_bytes_per_raw_byte: ratio(self.disk_bytes as f64, self.raw_bytes as f64),
            goals: self.goals(),
        })
    }
}

fn row(name: &str, value: String, note: String) -> [String; 3] {
    [name.to_owned(), value, note]
}

fn rate(events: f64) -> String {
    format!("{events:.0} events/s")
}

fn mean([first, second]: [f64; 2]) -> f64 {
    f64::midpoint(first, second)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn plain(number: f64) -> String {
    if number == f64::MAX { "never".to_owned() } else { format!("{}", (number * 1000.0).round() / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        let quick = Quantiles { count: 100, p50_ms: 5.0, p99_ms: 20.0, max_ms: 30.0 };
        Report {
            value_parse_per_second: [100_000.0, 100_000.0],
            bare_tantivy_per_second: [31_000.0, 29_000.0],
            whole_path: Steady {
                answered_per_second: 22_000.0,
                indexed_per_second: 21_900.0,
                steady: true,
                ..Steady::default()
            },
            half_load_batch_answer: quick,
            post_to_alert: quick,
            peak_anonymous_bytes: 400_000_000,
            raw_bytes: 100,
            disk_bytes: 50,
            ..Report::default()
        }
    }

    fn missed(change: impl Fn(&mut Report)) -> Vec<&'static str> {
        let mut report = good();
        change(&mut report);
        report.goals().into_iter().filter(|goal| !goal.met).map(|goal| goal.name).collect()
    }

    #[test]
    fn goals_are_met_or_missed_one_by_one() {
        assert_eq!(missed(|_| ()), Vec::<&str>::new());
        let check = |change: fn(&mut Report), name| assert_eq!(missed(change), [name]);
        check(|report| report.value_parse_per_second = [130_000.0; 2], "bare tantivy / Value parse");
        check(|report| report.whole_path.indexed_per_second = 20_000.0, "whole path / bare tantivy");
        check(|report| report.whole_path.steady = false, "no lag grew");
        check(|report| report.half_load_batch_answer.p99_ms = 120.0, "answer p99 at half load, ms");
        check(|report| report.post_to_alert.count = 0, "POST to alert p99, ms");
        check(|report| report.peak_anonymous_bytes = 1_100_000_000, "peak anonymous memory, MB");
    }

    #[test]
    fn a_slow_disk_allows_slow_answers() {
        let slow_disk = |report: &mut Report| {
            report.half_load_batch_answer.p99_ms = 180.0;
            report.fdatasync.p99_ms = 40.0;
        };
        assert_eq!(missed(slow_disk), Vec::<&str>::new());
    }

    #[test]
    fn both_forms_carry_the_ratios() {
        let report = good();
        assert!(report.table().contains("0.73 of bare tantivy"), "{}", report.table());
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!((&json["tantivy_to_parse"], &json["disk_bytes_per_raw_byte"]), (&0.3.into(), &0.5.into()));
        assert_eq!(json["whole_path"]["steady"], true);
    }
}
