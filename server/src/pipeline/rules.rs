//! The rules in force: the shipped library and a directory over it, compiled off the hot path and swapped
//! between two batches. A set with a mistake in it is reported and the previous set stays.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use arc_swap::ArcSwap;
use watchbell_rules::{Lists, LoadError, RuleSet, Traffic, library, load, load_over};

use crate::config::RulesConfig;
use crate::rule_files::{self, RuleFiles};

/// The current rules and what is wrong with the files they come from.
pub(crate) struct RuleBook {
    /// The files of the shipped library, unless it is switched off.
    shipped: Vec<(String, String)>,
    directory: Option<std::path::PathBuf>,
    lists: Lists,
    current: ArcSwap<RuleSet>,
    state: Mutex<State>,
    /// What detection has learned about the traffic since rules were last planned, and for which set.
    learned: Mutex<Option<(Arc<RuleSet>, Traffic)>>,
}

#[derive(Default)]
struct State {
    fingerprint: Option<blake3::Hash>,
    problems: Vec<Problem>,
    reloads: Vec<RuleReload>,
}

/// Why the directory's rules, or one of them, are not in force.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Problem {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) reason: String,
}

/// One change of the rule files that was taken or refused.
#[derive(Clone, Debug)]
pub(crate) struct RuleReload {
    /// Rules in force afterwards.
    pub(crate) rules: usize,
    /// Why the change was refused; empty if it was taken.
    pub(crate) errors: Vec<Problem>,
}

/// What a mistake in one rule means for the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtMistakes {
    KeepPrevious,
    TakeTheRest,
}

/// Reloads that nobody asked about are forgotten beyond this.
const MAX_REMEMBERED_RELOADS: usize = 16;

impl RuleBook {
    /// Loads the rules for the first time.
    ///
    /// # Errors
    /// If the shipped rules are broken. Of the directory all sound rules are taken: there is no previous set
    /// to stay with, and a server that was restarted at night must detect what it can.
    pub(crate) fn open(config: &RulesConfig) -> Result<Self> {
        let shipped = if config.builtin { library::files() } else { Vec::new() };
        let loaded = load(&shipped, &config.lists);
        if let Some(error) = loaded.errors.first() {
            bail!("the shipped rules are broken: {error}");
        }
        let book = Self {
            shipped,
            directory: config.directory.clone(),
            lists: config.lists.clone(),
            current: ArcSwap::from_pointee(RuleSet::compile(loaded.rules)),
            state: Mutex::default(),
            learned: Mutex::default(),
        };
        book.load_directory(AtMistakes::TakeTheRest);
        book.lock().reloads.clear();
        book.report_unused_lists();
        tracing::info!(rules = book.current().rules().len(), "rules loaded");
        Ok(book)
    }

    /// A list whose name is mistyped would change nothing, and nobody would notice.
    fn report_unused_lists(&self) {
        let (set, shipped) = (self.current(), Lists::shipped());
        let is_used =
            |name: &str| set.rules().iter().any(|rule| rule.lists.iter().any(|list| **list == *name));
        for (name, _) in self.lists.iter().filter(|(name, _)| shipped.get(name).is_none() && !is_used(name)) {
            let known = shipped.iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
            tracing::warn!("no rule uses the list {name} of rules.lists; the shipped ones are: {known}");
        }
    }

    /// The rules in force.
    pub(crate) fn current(&self) -> Arc<RuleSet> {
        self.current.load_full()
    }

    /// True if `set` is the one in force; costs no more than a load.
    pub(crate) fn is_current(&self, set: &Arc<RuleSet>) -> bool {
        Arc::ptr_eq(&self.current.load(), set)
    }

    /// What is wrong with the directory.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.lock().problems.clone()
    }

    /// Reloads since the last call.
    pub(crate) fn take_reloads(&self) -> Vec<RuleReload> {
        std::mem::take(&mut self.lock().reloads)
    }

    /// Looks at the directory, and if anything in it changed, loads and compiles it. Rules that stay are planned
    /// anew if something was learned.
    pub(crate) fn reload(&self) {
        self.load_directory(AtMistakes::KeepPrevious);
        self.replan();
    }

    /// Takes what detection has learned about the traffic with a set. It is used at the next reload, on that
    /// thread, because compiling takes a while.
    pub(crate) fn learn(&self, set: &Arc<RuleSet>, traffic: Traffic) {
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(set), traffic));
    }

    fn replan(&self) {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((set, traffic)) = learned.filter(|(set, _)| self.is_current(set)) else { return };
        let events = traffic.events();
        self.current.store(Arc::new(set.replan(&traffic)));
        metrics::counter!("watchbell_rules_replans_total").increment(1);
        tracing::debug!(events, "rules planned by what is rare in the traffic");
    }

    fn load_directory(&self, at_mistakes: AtMistakes) {
        let Some(directory) = &self.directory else { return };
        let found = rule_files::read(directory);
        let fingerprint = fingerprint(&found);
        if self.lock().fingerprint == Some(fingerprint) {
            return;
        }
        let problems = self.install(found, at_mistakes);
        for problem in &problems {
            tracing::error!(problem.file, problem.line, problem.reason, "failed to load rules");
        }
        let reload = RuleReload { rules: self.current().rules().len(), errors: problems.clone() };
        let outcome = if problems.is_empty() { "taken" } else { "refused" };
        metrics::counter!("watchbell_rules_reloads_total", "outcome" => outcome).increment(1);
        if problems.is_empty() {
            tracing::info!(rules = reload.rules, "rules changed");
        } else {
            tracing::warn!(
                rules = reload.rules,
                problems = problems.len(),
                kept_previous = at_mistakes == AtMistakes::KeepPrevious,
                "rule files have mistakes; while the server runs, nothing of a change is taken before all are mended"
            );
        }
        let mut state = self.lock();
        state.fingerprint = Some(fingerprint);
        state.problems = problems;
        state.reloads.push(reload);
        let surplus = state.reloads.len().saturating_sub(MAX_REMEMBERED_RELOADS);
        state.reloads.drain(..surplus);
    }

    /// Puts the directory's rules over the shipped ones.
    fn install(&self, found: RuleFiles, at_mistakes: AtMistakes) -> Vec<Problem> {
        let mut loaded = load_over(&self.shipped, &found.files, &self.lists);
        loaded.errors.extend(found.unreadable);
        if loaded.errors.is_empty() || at_mistakes == AtMistakes::TakeTheRest {
            self.current.store(Arc::new(RuleSet::compile(loaded.rules)));
        }
        loaded.errors.into_iter().map(Problem::from).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        Self { file: error.file, line: error.line, reason: error.reason }
    }
}

/// Changes when any name or text does, and when a file can no longer be read.
fn fingerprint(found: &RuleFiles) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for (name, text) in &found.files {
        add(name);
        add(text);
    }
    for problem in &found.unreadable {
        add(&problem.file);
        add(&problem.reason);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULE: &str = "title: T\nid: 6f7cf2a7-8a51-4a2e-9a7a-0f4f1d1c5b11\nlogsource: {product: kubernetes}\n\
        detection: {selection: {verb: get}, condition: selection}\n";

    #[test]
    fn a_broken_change_leaves_the_previous_rules_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yml");
        std::fs::write(&file, RULE).unwrap();
        let config = RulesConfig {
            builtin: false,
            directory: Some(dir.path().to_owned()),
            lists: Lists::default(),
            reload_interval: Duration::from_secs(1),
            correlation: watchbell_rules::CorrelationConfig::default(),
        };
        let book = RuleBook::open(&config).unwrap();
        let titles = || book.current().rules().iter().map(|rule| rule.title.to_string()).collect::<Vec<_>>();
        assert_eq!(titles(), ["T"]);

        std::fs::write(&file, RULE.replace("condition: selection", "condition: nothing")).unwrap();
        book.reload();
        assert_eq!(titles(), ["T"]);
        let problem = &book.problems()[0];
        assert!(problem.file.ends_with("a.yml") && problem.line == 4, "{problem:?}");

        std::fs::write(&file, RULE.replace("title: T", "title: U")).unwrap();
        book.reload();
        assert_eq!(titles(), ["U"]);
        assert!(book.problems().is_empty());
        let taken: Vec<bool> = book.take_reloads().iter().map(|reload| reload.errors.is_empty()).collect();
        assert_eq!(taken, [false, true]);
    }

    #[test]
    fn what_was_learned_is_used_for_the_set_it_was_learned_with() {
        let config = RulesConfig {
            builtin: true,
            directory: None,
            lists: Lists::shipped(),
            reload_interval: Duration::from_secs(1),
            correlation: watchbell_rules::CorrelationConfig::default(),
        };
        let book = RuleBook::open(&config).unwrap();
        let first = book.current();
        book.reload();
        assert!(book.is_current(&first));
        book.learn(&first, Traffic::default());
        book.reload();
        let second = book.current();
        assert!(!book.is_current(&first) && second.has_rules_of(&first));
        book.learn(&first, Traffic::default());
        book.reload();
        assert!(book.is_current(&second));
    }

    #[test]
    fn a_start_with_one_broken_rule_takes_the_others() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("good.yml"), RULE).unwrap();
        std::fs::write(dir.path().join("bad.yml"), "title: [").unwrap();
        std::fs::write(dir.path().join("binary.yml"), [0xff]).unwrap();
        let directory = Some(dir.path().to_owned());
        let config = RulesConfig {
            builtin: false,
            directory,
            lists: Lists::default(),
            reload_interval: Duration::from_secs(1),
            correlation: watchbell_rules::CorrelationConfig::default(),
        };
        let book = RuleBook::open(&config).unwrap();
        assert_eq!(book.current().rules().len(), 1);
        assert_eq!(book.problems().len(), 2, "{:?}", book.problems());
    }
}
