//! `watchbell rules eval`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use watchbell_event::audit::AuditEvent;
use watchbell_event::log::LogDocument;
use watchbell_event::{EventId, Format, Position, Timestamp};
use watchbell_rules::samples::format_of;
use watchbell_rules::{Correlated, CorrelationConfig, Correlator, Evaluator, Language, Observed, RuleSet};

use super::events::each_event;
use super::{ListOverrides, exit_code, load_rules, report};
use crate::cli::output;
use crate::clock::now;

/// Which rules to try on which events.
#[derive(Args)]
pub(crate) struct EvalArgs {
    /// A file or directory of rules; may be repeated. Without any, the shipped rules.
    #[arg(long = "rules", value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Events, one JSON object per line, or one EventList or array; gzip is decompressed; `-` is standard input. What is
    /// printed as `event` is the number of the line, from 0, or of the event if the file is a list.
    #[arg(long, value_name = "FILE")]
    events: PathBuf,
    #[command(flatten)]
    lists: ListOverrides,
    /// How far an event may lie before those above it in the file and still count in correlations.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    lateness: std::time::Duration,
    /// Exit with 1 if a rule does not load or something in the file is not an event.
    #[arg(long)]
    strict: bool,
    /// Which of the Falco rules that match an event to print; Sigma rules are always all printed.
    #[arg(long, value_enum, default_value_t = Matching::All)]
    matching: Matching,
}

/// Which Falco rules count for one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Matching {
    /// Only the first, as Falco itself does it.
    First,
    /// Every one that matches.
    All,
}

impl Matching {
    /// Takes away the matches that do not count.
    fn apply(self, set: &RuleSet, matches: &mut Vec<usize>) {
        let is_falco =
            |index: &usize| set.rules().get(*index).is_some_and(|rule| rule.language == Language::Falco);
        let first = matches.iter().copied().find(is_falco);
        matches.retain(|index| self == Self::All || !is_falco(index) || Some(*index) == first);
    }
}

impl EvalArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let loaded = load_rules(&self.rules, &self.lists)?;
        report(&loaded.errors);
        if loaded.rules.is_empty() {
            bail!("none of the rules can be used");
        }
        let lateness_micros = i64::try_from(self.lateness.as_micros()).unwrap_or(i64::MAX);
        let mut trial =
            Trial::new(Arc::new(RuleSet::compile(loaded.rules)), self.matching, lateness_micros, now());
        let unreadable = each_event(&self.events, |number, event| trial.take(number, event))?;
        trial.finish()?;
        Ok(exit_code(!self.strict || (loaded.errors.is_empty() && unreadable == 0)))
    }
}

/// Rules on trial: what matches is printed.
struct Trial {
    set: Arc<RuleSet>,
    matching: Matching,
    evaluator: Evaluator,
    correlator: Correlator,
    matches: Vec<usize>,
    correlated: Vec<Correlated>,
    cluster: Arc<str>,
    now: Timestamp,
    latest: Timestamp,
    from_the_future: u64,
    taken: u64,
}

impl Trial {
    fn new(set: Arc<RuleSet>, matching: Matching, lateness_micros: i64, now: Timestamp) -> Self {
        let listed_events = usize::MAX;
        let config = CorrelationConfig { lateness_micros, listed_events, ..CorrelationConfig::default() };
        Self {
            evaluator: Evaluator::new(Arc::clone(&set)),
            correlator: Correlator::new(Arc::clone(&set), config),
            set,
            matching,
            matches: Vec::new(),
            correlated: Vec::new(),
            cluster: Arc::from(""),
            now,
            latest: Timestamp::default(),
            from_the_future: 0,
            taken: 0,
        }
    }

    /// Evaluates one event; false if it is not a JSON object.
    fn take(&mut self, number: u64, event: &[u8]) -> Result<bool> {
        let format = format_of(event);
        let readable = self.evaluator.matches_of(format, event, &mut self.matches);
        self.matching.apply(&self.set, &mut self.matches);
        for index in self.matches.iter().filter(|index| !self.set.is_silent(**index)) {
            let Some(rule) = self.set.rules().get(*index) else { continue };
            let found =
                json!({ "rule_id": rule.key, "rule": rule.title, "level": rule.level, "event": number });
            output::line(&found.to_string())?;
        }
        if self.set.has_correlations() {
            let time = self.time_of(format, event);
            let mut id = [0; 16];
            id[..8].copy_from_slice(&self.taken.to_be_bytes());
            self.taken += 1;
            let observed = Observed {
                cluster: &self.cluster,
                id: EventId(id),
                position: Position { partition: 0, offset: number },
                event_time: time,
                received_at: time,
                history: true,
            };
            self.correlator.take(&observed, &self.evaluator, &self.matches, &mut self.correlated);
            self.print_correlated()?;
        }
        Ok(readable)
    }

    /// An event without a time is taken to have happened with the one before it. So is one from the future: it would make
    /// all those after it too late.
    fn time_of(&mut self, format: Format, event: &[u8]) -> Timestamp {
        let claimed = match format {
            Format::Log => LogDocument::parse(event).time(),
            _ => AuditEvent::parse(event).claimed_time(),
        };
        let believable = claimed.filter(|time| Timestamp::event_time(Some(*time), self.now) == *time);
        self.from_the_future += u64::from(claimed.is_some() && believable.is_none());
        self.latest = believable.unwrap_or(self.latest);
        self.latest
    }

    /// No more events come: decides what still waited for some.
    fn finish(&mut self) -> Result<()> {
        self.correlator.finish(&mut self.correlated);
        self.print_correlated()?;
        let late = self.correlator.late_events();
        if self.from_the_future > 0 {
            let events = self.from_the_future;
            output::note(&format!(
                "{events} event(s) say that they are from the future; each was taken to have happened with the one before it"
            ));
        }
        if late > 0 {
            output::note(&format!("{late} matches came too late to be counted; see --lateness"));
        }
        Ok(())
    }

    fn print_correlated(&mut self) -> Result<()> {
        for correlated in self.correlated.drain(..) {
            let Some(rule) = self.set.rules().get(correlated.rule) else { continue };
            let events: Vec<u64> = correlated.events.iter().map(|event| event.position.offset).collect();
            let group: serde_json::Map<_, _> =
                correlated.group.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            let found = json!({ "rule_id": rule.key, "rule": rule.title, "level": rule.level,
                "event": events.last(), "events": events, "group": group, "reached": correlated.value,
                "window_start": correlated.window_start, "window_end": correlated.window_end });
            output::line(&found.to_string())?;
        }
        Ok(())
    }
}
