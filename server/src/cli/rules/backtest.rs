//! `watchbell rules backtest`: what a rule would have alerted on the events that a server keeps.
//!
//! ```text
//! GET /api/v1/export ──records in log order──► Detector ──detections──► Episodes ──► Findings ──► report
//! ```
//!
//! The rule runs here, with the engine that the server runs; the server only reads.

mod episodes;
mod findings;
mod report;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use watchbell_event::{Detection, Record, Timestamp};
use watchbell_rules::{CorrelationConfig, Detector, Rule, RuleSet, with_counted};

use self::episodes::Episodes;
use self::findings::Findings;
use super::find::{Found, find};
use super::{ListOverrides, exit_code};
use crate::cli::client::{Client, ServerArgs, block_on};
use crate::cli::export::Export;
use crate::cli::output::{self, Format};
use crate::cli::page::time;

/// Which rule to run on which events.
#[derive(Args)]
pub(crate) struct BacktestArgs {
    /// The rule: its id, its name, its title, or a file of rules. The rules that a correlation counts run with it.
    rule: String,
    /// A file or directory of rules to look in; may be repeated. Without any, the shipped rules.
    #[arg(long = "rules", value_name = "PATH")]
    rules: Vec<PathBuf>,
    #[command(flatten)]
    lists: ListOverrides,
    /// Oldest time: RFC 3339, or relative as in now-24h. A correlation knows nothing of what was before.
    #[arg(long, value_parser = time)]
    from: Option<String>,
    /// Newest time, written likewise.
    #[arg(long, value_parser = time)]
    to: Option<String>,
    /// Only events that this search finds, such as 'cluster:prod'.
    #[arg(long, default_value = "*")]
    query: String,
    /// How far an event may lie before the latest one of its cluster and still count in correlations.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    lateness: Duration,
    /// How long an alert stays open without another match, as in alerting.quiet_time.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    quiet_time: Duration,
    /// How many alerts of each rule to show.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(0..=1000))]
    samples: u16,
    /// Stop after so long and show what was found so far, as Ctrl-C does.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_time: Option<Duration>,
    /// `json` prints one object.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    server: ServerArgs,
}

/// How a back-test ended.
enum Ended {
    /// With the last event.
    Complete,
    /// Somebody, or `--max-time`, stopped it.
    Stopped,
    /// The server gave no more.
    Failed(Error),
}

impl BacktestArgs {
    /// Exit code 0 if all events were looked at; 1 if not, or if a file has rules that do not load.
    pub(super) fn run(self) -> Result<ExitCode> {
        let found = find(&self.rule, &self.rules, &self.lists)?;
        let mut trial = Trial::new(&found, &self);
        let client = self.server.client()?;
        let problem = match block_on(self.replay(&client, &mut trial))? {
            Ended::Complete => None,
            Ended::Stopped => Some("stopped before the last event".to_owned()),
            Ended::Failed(error) if trial.events == 0 => return Err(error),
            Ended::Failed(error) => Some(format!("{error:#}")),
        };
        report::print(&trial, problem.is_none(), self.format)?;
        if let Some(problem) = &problem {
            output::note(&format!("{problem}; the above is what was found before"));
        }
        Ok(exit_code(found.sound && problem.is_none()))
    }

    async fn replay(&self, client: &Client, trial: &mut Trial) -> Result<Ended> {
        let mut export = Export::new(client, &self.query, self.from.as_deref(), self.to.as_deref());
        let progress = progress(export.total().await)?;
        let stop = async {
            match self.max_time {
                None => std::future::pending().await,
                Some(time) => tokio::time::sleep(time).await,
            }
        };
        let mut stop = std::pin::pin!(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                () = stop => {}
            }
        });
        let ended = loop {
            let page = tokio::select! {
                biased;
                () = &mut stop => break Ended::Stopped,
                page = export.next() => page,
            };
            match page {
                Ok(Some(records)) => {
                    progress.inc(records.len() as u64);
                    records.into_iter().for_each(|record| trial.take(record));
                    progress.set_message(format!("{} alerts", trial.alerts()));
                }
                Ok(None) => {
                    trial.finish();
                    break Ended::Complete;
                }
                Err(error) => break Ended::Failed(error),
            }
        };
        progress.finish_and_clear();
        Ok(ended)
    }
}

fn progress(total: Option<u64>) -> Result<ProgressBar> {
    let Some(total) = total else { return Ok(ProgressBar::new_spinner()) };
    let style =
        ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} events {per_sec} {eta} {msg}")?;
    Ok(ProgressBar::new(total).with_style(style))
}

/// Rules on trial, and what came of it.
struct Trial {
    detector: Detector,
    /// The indexes of those that are meant; the others are counted by them.
    wanted: Vec<usize>,
    episodes: Episodes,
    findings: HashMap<Arc<str>, Findings>,
    max_samples: usize,
    detections: Vec<Detection>,
    last: Option<Record>,
    events: u64,
    /// When the first and the last event happened.
    span: Option<(Timestamp, Timestamp)>,
}

impl Trial {
    fn new(found: &Found, args: &BacktestArgs) -> Self {
        let needed = with_counted(&found.rules, &found.wanted);
        let wanted = (0..needed.len()).filter(|at| found.wanted.contains(&needed[*at])).collect();
        let rules: Vec<Rule> = needed.iter().map(|index| found.rules[*index].clone()).collect();
        let config =
            CorrelationConfig { lateness_micros: micros(args.lateness), ..CorrelationConfig::default() };
        Self {
            detector: Detector::new(Arc::new(RuleSet::compile(rules)), config),
            wanted,
            episodes: Episodes::new(micros(args.quiet_time)),
            findings: HashMap::new(),
            max_samples: usize::from(args.samples),
            detections: Vec::new(),
            last: None,
            events: 0,
            span: None,
        }
    }

    fn rules(&self) -> &[Rule] {
        self.detector.evaluator().rules().rules()
    }

    /// How many alerts there were so far.
    fn alerts(&self) -> u64 {
        self.findings.values().map(|findings| findings.alerts).sum()
    }

    fn take(&mut self, record: Record) {
        self.events += 1;
        let time = record.envelope.event_time;
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((first.min(time), last.max(time)));
        self.detector.detect(&record, &mut self.detections);
        self.note();
        self.last = Some(record);
    }

    /// No more events come.
    fn finish(&mut self) {
        if let Some(last) = self.last.take() {
            self.detector.finish(&last, &mut self.detections);
            self.note();
        }
    }

    fn note(&mut self) {
        for detection in self.detections.drain(..) {
            let opens = self.episodes.opens(&detection);
            let findings = self.findings.entry(Arc::clone(&detection.rule_id)).or_default();
            findings.take(&detection, opens, self.max_samples);
        }
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use bytes::Bytes;
    use watchbell_event::{Envelope, EventId, Format, Position};
    use watchbell_rules::{Lists, load};

    use super::*;

    /// A detection of a group and a request, so many seconds after 1970 began, without labels.
    pub(super) fn detection(group: u8, request: u8, second: i64) -> Detection {
        static DETECTION: LazyLock<Detection> = LazyLock::new(any_detection);
        let time = Timestamp::from_micros(second * 1_000_000);
        let (event_id, group_key) = (EventId([request; 16]), EventId([group; 16]));
        Detection {
            event_id,
            request_key: event_id,
            group_key,
            event_time: time,
            received_at: time,
            labels: Vec::new(),
            ..DETECTION.clone()
        }
    }

    fn any_detection() -> Detection {
        let rule = "title: R\nid: r\ndetection: {s: {verb: get}, condition: s}\n";
        let rules = load(&[("r.yml".to_owned(), rule.to_owned())], &Lists::default()).rules;
        let mut detector = Detector::new(Arc::new(RuleSet::compile(rules)), CorrelationConfig::default());
        let envelope = Envelope {
            id: EventId([0; 16]),
            received_at: Timestamp::default(),
            event_time: Timestamp::default(),
            source: Arc::from("audit"),
            cluster: Arc::from("prod"),
            format: Format::KubernetesAudit,
            peer: None,
            history: false,
            bytes: Bytes::from_static(br#"{"verb":"get"}"#),
        };
        let mut detections = Vec::new();
        detector
            .detect(&Record { position: Position { partition: 0, offset: 0 }, envelope }, &mut detections);
        detections.remove(0)
    }
}
