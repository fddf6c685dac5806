//! A rule as people see it: what it says about itself, and the formula that decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use watchbell_event::{Format, Level};

use crate::correlate::{Correlation, counted_rules};
use crate::falco::Template;
use crate::formula::{Body, Formula};

/// One detection rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What identifies the rule: its id, or file and title where it has none.
    pub key: Arc<str>,
    /// The id as the rule gives it.
    pub id: Option<String>,
    /// The name by which other documents refer to the rule.
    pub name: Option<String>,
    /// What the rule finds, in a few words.
    pub title: Arc<str>,
    /// How urgent a match is; medium where the rule says nothing.
    pub level: Level,
    /// Such as `stable` or `experimental`.
    pub status: Option<String>,
    /// What the rule finds and why it matters.
    pub description: String,
    /// Who wrote it.
    pub author: Option<String>,
    /// Where to read more.
    pub references: Vec<String>,
    /// Such as `attack.t1552.007`.
    pub tags: Arc<[Arc<str>]>,
    /// What may match without being an incident.
    pub false_positives: Vec<String>,
    /// What the rule is written for.
    pub log_source: LogSource,
    /// The format of the events that the rule looks at, which its log source says.
    pub format: Format,
    /// Matches with equal values of these fields belong to one alert. If empty: `user.name`, or `source.ip`
    /// where nobody was authenticated.
    pub group_by: Vec<String>,
    /// What to do when the rule matches.
    pub next_steps: Vec<String>,
    /// The named lists that it reads, in the order of their names.
    pub lists: Vec<Arc<str>>,
    /// The file it was read from.
    pub file: Arc<str>,
    /// The line its document begins on.
    pub line: usize,
    /// What it is written in.
    pub language: Language,
    /// What an alert says in place of the summary that is made for every event.
    pub(crate) output: Option<Arc<Template>>,
    /// What must hold for an event; nothing does if the rule is a correlation.
    pub(crate) formula: Formula,
    /// What is counted, if the rule is a correlation.
    pub(crate) correlation: Option<Arc<Correlation>>,
}

/// The bodies that each rule reads: `request`, `response`; of a correlation, those that the rules it counts read.
#[must_use]
pub fn needed_bodies(rules: &[Rule]) -> Vec<BTreeSet<&'static str>> {
    let of_rule = |(rule, counted): (&Rule, Vec<usize>)| {
        let counted = counted.iter().filter_map(|index| rules.get(*index));
        std::iter::once(rule).chain(counted).flat_map(Rule::bodies).collect()
    };
    rules.iter().zip(counted_rules(rules)).map(of_rule).collect()
}

impl Rule {
    /// Whether it counts what other rules match; see [`counted_rules`](crate::counted_rules).
    #[must_use]
    pub fn is_correlation(&self) -> bool {
        self.correlation.is_some()
    }

    /// The bodies that it reads: `request`, `response`.
    #[must_use]
    pub fn bodies(&self) -> Vec<&'static str> {
        let named = [(Body::Request, "request"), (Body::Response, "response")];
        named.into_iter().filter(|(body, _)| self.formula.reads(*body)).map(|(_, name)| name).collect()
    }
}

/// What a rule is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Sigma.
    Sigma,
    /// A Falco rule file.
    Falco,
}

/// Sigma's `logsource`. Which of them are about log lines is said in `SEMANTICS.md`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSource {
    /// Such as `process_creation`.
    pub category: Option<String>,
    /// Such as `kubernetes`.
    pub product: Option<String>,
    /// Such as `audit`.
    pub service: Option<String>,
}

impl LogSource {
    /// The format of the events that it stands for: log lines for what is named here, else audit events.
    pub(crate) fn format(&self) -> Format {
        let [category, product, service] =
            [&self.category, &self.product, &self.service].map(|part| part.as_deref().unwrap_or_default());
        match (category, product, service) {
            ("webserver", _, _)
            | (_, "nginx" | "apache" | "envoy" | "istio", _)
            | (_, "linux", "auth" | "pam" | "sshd" | "sudo" | "syslog")
            | (_, "kubernetes", "container") => Format::Log,
            _ => Format::KubernetesAudit,
        }
    }
}
