//! Prints what a back-test found.

use anyhow::Result;
use serde_json::{Value, json};
use watchbell_event::{EventId, Timestamp};
use watchbell_rules::{Rule, counted_rules};

use super::Trial;
use super::findings::{Day, Findings, Sample, Values};
use crate::cli::output::{self, Format};

/// How many values of each label are shown.
const TOP_VALUES: usize = 5;
/// Longest value that a table shows, in characters.
const MAX_CELL_CHARACTERS: usize = 80;

/// Prints all of it; `complete` says that every event was looked at.
pub(super) fn print(trial: &Trial, complete: bool, format: Format) -> Result<()> {
    let nothing = Findings::default();
    let counted = counted_rules(trial.rules());
    let of_rule = |index: &usize| {
        let rule = trial.rules().get(*index)?;
        let findings = trial.findings.get(&rule.key).unwrap_or(&nothing);
        Some(Outcome { trial, rule, index: *index, counted: counted.get(*index)?, findings })
    };
    let outcomes: Vec<Outcome<'_>> = trial.wanted.iter().filter_map(of_rule).collect();
    match format {
        Format::Json => {
            let rules: Vec<Value> = outcomes.iter().map(Outcome::json).collect();
            let (first, last) = trial.span.unzip();
            let report = json!({
                "complete": complete, "events": trial.events, "first_event_time": first, "last_event_time": last,
                "late_matches": trial.detector.correlator().late_events(), "evicted": evicted(trial),
                "alerts_are_estimated": trial.episodes.is_estimate, "rules": rules,
            });
            output::line(&report.to_string())
        }
        Format::Table => {
            output::line(&headline(trial, complete))?;
            outcomes.iter().try_for_each(Outcome::table)?;
            note_limits(trial);
            Ok(())
        }
    }
}

/// What became of one rule.
struct Outcome<'a> {
    trial: &'a Trial,
    rule: &'a Rule,
    index: usize,
    /// The indexes of the rules that it counts.
    counted: &'a [usize],
    findings: &'a Findings,
}

impl Outcome<'_> {
    fn matches(&self) -> u64 {
        matched(self.trial, self.index)
    }

    fn is_silent(&self) -> bool {
        self.trial.detector.evaluator().rules().is_silent(self.index)
    }

    /// How often it, or a rule that it counts, could not be decided; an event counts for each of them.
    fn not_evaluable(&self) -> u64 {
        let counts = self.trial.detector.evaluator().not_evaluable();
        let of = |index: &usize| counts.get(*index).copied().unwrap_or(0);
        self.counted.iter().chain([&self.index]).map(of).sum()
    }

    /// Titles of the rules that it counts, and how many events they matched.
    fn counted(&self) -> impl Iterator<Item = (&str, u64)> {
        let rules = self.counted.iter().filter_map(|index| Some((self.trial.rules().get(*index)?, *index)));
        rules.map(|(rule, index)| (&*rule.title, matched(self.trial, index)))
    }

    fn json(&self) -> Value {
        let Findings { alerts, days, labels, samples } = self.findings;
        let days: Vec<Value> = days
            .iter()
            .map(|(day, counts)| json!({ "day": day, "matches": counts.matches, "alerts": counts.alerts }))
            .collect();
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(name, values)| (name.clone(), top_json(values))).collect();
        let counted: Vec<Value> =
            self.counted().map(|(rule, matches)| json!({ "rule": rule, "matches": matches })).collect();
        json!({
            "rule_id": self.rule.key, "rule": self.rule.title, "level": self.rule.level,
            "correlation": self.rule.is_correlation(), "silent": self.is_silent(), "matches": self.matches(),
            "alerts": alerts, "not_evaluable": self.not_evaluable(), "counted": counted, "days": days, "top": labels,
            "samples": samples.iter().map(|(id, sample)| sample_json(*id, sample)).collect::<Vec<_>>(),
        })
    }

    fn table(&self) -> Result<()> {
        self.print_headline()?;
        if self.findings.days.is_empty() {
            return Ok(());
        }
        self.print_days()?;
        self.print_labels()?;
        self.print_samples()
    }

    fn print_headline(&self) -> Result<()> {
        let Rule { title, key, level, .. } = self.rule;
        output::line("")?;
        output::line(&output::printable(&format!("{title} ({key}, {level})")))?;
        output::line(&format!("  {} alerts from {} matches", self.findings.alerts, self.matches()))?;
        for (rule, matches) in self.counted() {
            output::line(&output::printable(&format!("  counted: {rule}, {matches} matches")))?;
        }
        if self.is_silent() {
            output::line("  it makes no alerts itself, because a correlation counts it")?;
        }
        let not_evaluable = self.not_evaluable();
        if not_evaluable > 0 {
            output::line(&format!(
                "  could not be decided {not_evaluable} times, because an event lacks a body that is read (see rules \
                 lint --audit-policy)"
            ))?;
        }
        Ok(())
    }

    fn print_days(&self) -> Result<()> {
        output::line("")?;
        let row = |(day, counts): (&String, &Day)| {
            vec![day.clone(), counts.matches.to_string(), counts.alerts.to_string()]
        };
        output::table(&["day", "matches", "alerts"], self.findings.days.iter().map(row).collect())
    }

    fn print_labels(&self) -> Result<()> {
        output::line("")?;
        let labels = self.findings.labels.iter().flat_map(|(name, values)| top_rows(name, values));
        output::table(&["label", "value", "matches"], labels.collect())
    }

    fn print_samples(&self) -> Result<()> {
        let mut samples: Vec<(&EventId, &Sample)> = self.findings.samples.iter().collect();
        if samples.is_empty() {
            return Ok(());
        }
        samples.sort_by_key(|(_, sample)| sample.time);
        output::line("")?;
        let rows = samples.into_iter().map(|(id, sample)| sample_row(*id, sample));
        output::table(&["event", "time", "cluster", "actor", "object", "what"], rows.collect())
    }
}

fn matched(trial: &Trial, index: usize) -> u64 {
    trial.detector.matched().get(index).copied().unwrap_or(0)
}

fn headline(trial: &Trial, complete: bool) -> String {
    let events = trial.events;
    let upto = if complete { "" } else { "the first " };
    match trial.span {
        Some((first, last)) => format!("{upto}{events} events, from {} to {}", seconds(first), seconds(last)),
        None => "no events".to_owned(),
    }
}

fn seconds(time: Timestamp) -> String {
    format!("{}Z", time.to_string().chars().take(19).collect::<String>())
}

/// Says what makes the counts differ from what they would be without limits.
fn note_limits(trial: &Trial) {
    let late = trial.detector.correlator().late_events();
    if late > 0 {
        output::note(&format!("{late} matches came too late to be counted by correlations; see --lateness"));
    }
    let evicted = evicted(trial);
    if evicted > 0 {
        output::note(&format!(
            "correlations gave up {evicted} groups or entries, because their memory was used up"
        ));
    }
    if trial.episodes.is_estimate {
        output::note("so many alerts were open at one time that some may be counted twice");
    }
}

fn evicted(trial: &Trial) -> u64 {
    let stats = trial.detector.correlator().stats();
    stats.iter().map(|stats| stats.evicted_groups + stats.evicted_entries).sum()
}

fn top_json(values: &Values) -> Value {
    let top = values.top(TOP_VALUES);
    let top: Vec<Value> =
        top.into_iter().map(|(value, matches)| json!({ "value": value, "matches": matches })).collect();
    json!({ "values": top, "too_low_by_at_most": values.missing })
}

fn top_rows(name: &str, values: &Values) -> Vec<Vec<String>> {
    let at_least = if values.missing > 0 { ">= " } else { "" };
    let row = |(value, count): (&str, u64)| vec![name.to_owned(), cell(value), format!("{at_least}{count}")];
    values.top(TOP_VALUES).into_iter().map(row).collect()
}

fn sample_json(id: EventId, sample: &Sample) -> Value {
    json!({
        "event_id": id, "time": sample.time, "cluster": sample.cluster, "actor": sample.labels.get("user.name"),
        "object": object(sample), "summary": sample.summary, "labels": sample.labels, "events": sample.events,
    })
}

fn sample_row(id: EventId, sample: &Sample) -> Vec<String> {
    let actor = sample.labels.get("user.name").cloned().unwrap_or_default();
    let time = sample.time.to_string();
    vec![id.to_string(), time, sample.cluster.clone(), actor, object(sample), cell(&sample.summary)]
}

/// What it was about, as in `pods/web in shop`.
fn object(sample: &Sample) -> String {
    let label = |name| sample.labels.get(name).map(String::as_str);
    let kind = label("orchestrator.resource.type").unwrap_or_default();
    let name = label("orchestrator.resource.name").map(|name| format!("/{name}")).unwrap_or_default();
    let namespace = label("orchestrator.namespace").map(|name| format!(" in {name}")).unwrap_or_default();
    format!("{kind}{name}{namespace}").trim().to_owned()
}

fn cell(text: &str) -> String {
    let mut characters = text.chars();
    let mut cell: String = characters.by_ref().take(MAX_CELL_CHARACTERS).collect();
    if characters.next().is_some() {
        cell.push('…');
    }
    cell
}
