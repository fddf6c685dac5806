//! Reads rule files: all rules that are sound, and all that is wrong with the others.
//!
//! ```text
//! files ──parse──► documents ──lists, filters, then the rules that they change──► rules
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use watchbell_event::yaml::{self, Node, Value};

use crate::correlate::{self, Refused};
use crate::falco;
use crate::lists::Lists;
use crate::problems::{LoadError, Problems};
use crate::rule::Rule;
use crate::sigma::{self, Filter, MAX_FILTERS, MAX_PIPELINES, Pipeline, collection};

/// Most rules in one set.
pub(crate) const MAX_RULES: usize = 50_000;
/// Most comparisons in one set, over all rules.
pub(crate) const MAX_FORMULA_NODES: usize = 2_000_000;
/// Memory that the regular expressions of one set may take, in bytes.
pub(crate) const MAX_EXPRESSION_BYTES: usize = 256 << 20;

/// What came of reading rule files.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The rules that are sound.
    pub rules: Vec<Rule>,
    /// What is wrong with the others, and with anything else in the files.
    pub errors: Vec<LoadError>,
    /// The lists in force: those given, and those of the files.
    pub lists: Lists,
}

/// Reads files, given as name and text. Each rule loads or is refused on its own; a file that is not YAML is
/// refused as a whole. Of two rules with one id, the second is refused; rules without one that share a title in a
/// file are numbered.
#[must_use]
pub fn load(files: &[(String, String)], lists: &Lists) -> Loaded {
    load_over(&[], files, lists)
}

/// Reads `files` over `base`: where both have a rule of one key or a list of one name, that of `files` is kept,
/// and what `files` say about all rules holds for those of `base`, too. The rules of `files` come first.
#[must_use]
pub fn load_over(base: &[(String, String)], files: &[(String, String)], lists: &Lists) -> Loaded {
    let mut layers = [Layer::parse(files), Layer::parse(base)];
    let mut loaded = Loaded { lists: lists.clone(), ..Loaded::default() };
    for layer in layers.iter_mut().rev() {
        layer.read_lists(&mut loaded.lists);
    }
    let mut filters = Vec::new();
    for layer in &mut layers {
        layer.read_filters(&loaded.lists, &mut filters);
    }
    let mut pipelines = Pipeline::built_in();
    for layer in &mut layers {
        layer.read_pipelines(&mut pipelines);
    }
    Pipeline::sort(&mut pipelines);
    let mut keys = HashSet::new();
    for layer in &mut layers {
        let rules = layer.read_rules(&loaded.lists, &pipelines, &mut filters);
        // Of two rules of one key within a layer, the second has been refused.
        loaded.rules.extend(rules.into_iter().filter(|rule| !keys.contains(&rule.key)));
        keys.extend(loaded.rules.iter().map(|rule| rule.key.clone()));
    }
    for mut file in layers.into_iter().flat_map(|layer| layer.files) {
        let name = file.problems.file();
        let own = filters.iter().filter(|filter| filter.file() == name);
        own.for_each(|filter| filter.report_unused(&mut file.problems));
        loaded.errors.extend(file.problems.into_errors());
    }
    refuse_unlinked(&mut loaded);
    loaded
}

/// Takes out the correlations that refer to nothing, or to themselves.
fn refuse_unlinked(loaded: &mut Loaded) {
    let (_, refused) = correlate::link(&loaded.rules);
    let mut is_refused = vec![false; loaded.rules.len()];
    for Refused { rule, line, reason } in refused {
        let Some(refused) = loaded.rules.get(rule) else { continue };
        loaded.errors.push(LoadError { file: refused.file.to_string(), line, reason });
        is_refused[rule] = true;
    }
    let mut is_refused = is_refused.into_iter();
    loaded.rules.retain(|_| !is_refused.next().unwrap_or(false));
}

/// Files that are read together.
struct Layer<'a> {
    files: Vec<File<'a>>,
}

/// One file.
struct File<'a> {
    documents: Vec<Node>,
    problems: Problems<'a>,
}

impl<'a> Layer<'a> {
    fn parse(files: &'a [(String, String)]) -> Self {
        Self { files: files.iter().map(|(name, text)| File::parse(name, text)).collect() }
    }

    /// Takes the documents that hold lists.
    fn read_lists(&mut self, lists: &mut Lists) {
        let mut seen = BTreeMap::new();
        for file in &mut self.files {
            for document in file.documents.extract_if(.., |document| Lists::are_in(document)) {
                lists.read(&document, &mut seen, &mut file.problems);
            }
        }
    }

    /// Takes the documents that are filters.
    fn read_filters(&mut self, lists: &Lists, filters: &mut Vec<Filter>) {
        for file in &mut self.files {
            for document in file.documents.extract_if(.., |document| document.get("filter").is_some()) {
                if filters.len() >= MAX_FILTERS {
                    file.problems.add(document.line, format!("more than {MAX_FILTERS} filters"));
                    continue;
                }
                filters.extend(Filter::read(&document, lists, &mut file.problems));
            }
        }
    }

    /// Takes the documents that are processing pipelines.
    fn read_pipelines(&mut self, pipelines: &mut Vec<Pipeline>) {
        for file in &mut self.files {
            for document in file.documents.extract_if(.., |document| Pipeline::is_in(document)) {
                if pipelines.len() >= MAX_PIPELINES {
                    file.problems.add(document.line, format!("more than {MAX_PIPELINES} pipelines"));
                    continue;
                }
                pipelines.extend(Pipeline::read(&document, &mut file.problems));
            }
        }
    }

    fn read_rules(&mut self, lists: &Lists, pipelines: &[Pipeline], filters: &mut [Filter]) -> Vec<Rule> {
        let mut rules = Vec::new();
        let mut totals = Totals::default();
        // Lists and macros of Falco files serve the files after them, so their rules are made at the end.
        let mut falco = falco::Collector::default();
        for File { documents, problems } in &mut self.files {
            for document in documents {
                if let Some(items) = document.items() {
                    falco.read(items, problems);
                    continue;
                }
                let Some(mut rule) = sigma::read(document, lists, pipelines, filters, problems) else {
                    continue;
                };
                totals.tell_apart(&mut rule);
                match totals.admit(&rule) {
                    Ok(()) => rules.push(rule),
                    Err(reason) => problems.add(rule.line, reason),
                }
            }
        }
        let (made, errors) = falco.finish();
        for LoadError { file, line, reason } in errors {
            self.refuse(&file, line, reason);
        }
        for rule in made {
            match totals.admit(&rule) {
                Ok(()) => rules.push(rule),
                Err(reason) => self.refuse(&rule.file, rule.line, reason),
            }
        }
        rules
    }

    fn refuse(&mut self, name: &str, line: usize, reason: String) {
        if let Some(file) = self.files.iter_mut().find(|file| file.problems.file() == name) {
            file.problems.add(line, reason);
        }
    }
}

impl<'a> File<'a> {
    fn parse(name: &'a str, text: &str) -> Self {
        let mut problems = Problems::new(name);
        let parsed = yaml::parse(text).or_else(|error| falco::parse_leniently(text).ok_or(error));
        let parsed = parsed.map_err(|error| problems.add(error.line, error.reason));
        let Ok(mut documents) = parsed else { return Self { documents: Vec::new(), problems } };
        documents.retain(|document| document.value != Value::Null);
        if documents.is_empty() {
            problems.add(0, "the file holds no rule");
        }
        Self { documents: collection::resolve(documents, &mut problems), problems }
    }
}

/// What a set has used of its limits.
#[derive(Default)]
struct Totals {
    keys: HashMap<Arc<str>, (Arc<str>, usize)>,
    /// How many rules without an id share a title within a file, and on which lines they begin.
    unnamed: HashMap<Arc<str>, (usize, HashSet<usize>)>,
    nodes: usize,
    expression_bytes: usize,
}

impl Totals {
    /// Rules without an id that have one title in one file are told apart by their number, from the second on. The
    /// same document read twice stays what it is, so that it is refused.
    fn tell_apart(&mut self, rule: &mut Rule) {
        if rule.id.is_some() {
            return;
        }
        let (count, lines) = self.unnamed.entry(rule.key.clone()).or_default();
        if !lines.insert(rule.line) {
            return;
        }
        // A title may itself end in a number.
        let mut key = rule.key.clone();
        loop {
            *count += 1;
            if *count > 1 {
                key = format!("{}#{count}", rule.key).into();
            }
            if !self.keys.contains_key(&key) {
                break;
            }
        }
        rule.key = key;
    }

    fn admit(&mut self, rule: &Rule) -> Result<(), String> {
        if let Some((file, line)) = self.keys.get(&rule.key) {
            return Err(format!("a rule with the id {:?} is already in {file}, line {line}", rule.key));
        }
        if self.keys.len() >= MAX_RULES {
            return Err(format!("more than {MAX_RULES} rules"));
        }
        let nodes = self.nodes + rule.formula.size();
        if nodes > MAX_FORMULA_NODES {
            return Err(format!("more than {MAX_FORMULA_NODES} comparisons in all rules together"));
        }
        let expression_bytes = self.expression_bytes + rule.formula.expression_bytes();
        if expression_bytes > MAX_EXPRESSION_BYTES {
            return Err(format!(
                "the regular expressions of all rules together take more than {MAX_EXPRESSION_BYTES} bytes"
            ));
        }
        (self.nodes, self.expression_bytes) = (nodes, expression_bytes);
        self.keys.insert(rule.key.clone(), (rule.file.clone(), rule.line));
        Ok(())
    }
}
