//! Finds the rules that correlations refer to, and decides which values flow where.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::model::Correlation;
use crate::rule::Rule;

/// Most correlations that stand one upon the other.
const MAX_CHAIN: usize = 16;

/// The correlations of a set, those referred to before those that refer to them.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) correlations: Vec<Planned>,
    /// For each rule of the set, the correlations that count its matches.
    pub(crate) fed_by: Vec<Vec<Feed>>,
    /// For each rule of the set, whether it only feeds correlations and makes no alert itself.
    pub(crate) silent: Vec<bool>,
    /// The fields that are read from events.
    pub(crate) fields: Vec<Box<str>>,
}

/// A correlation and how it is connected.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The rule's index in the set.
    pub(crate) rule: usize,
    /// What identifies the rule.
    pub(crate) key: Arc<str>,
    /// A hash over everything on which the meaning of its state depends.
    pub(crate) fingerprint: [u8; 32],
    pub(crate) definition: Arc<Correlation>,
    /// For each rule referred to, where values come from.
    pub(crate) members: Vec<Sources>,
    /// The correlations that count its matches.
    pub(crate) feeds: Vec<Feed>,
}

/// A place in the list of rules of a correlation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Feed {
    /// Index in [`Plan::correlations`].
    pub(crate) correlation: usize,
    pub(crate) member: usize,
}

/// Where the values of one match come from.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) group: Vec<Source>,
    pub(crate) counted: Vec<Source>,
    /// What correlations above need and this one does not group by.
    pub(crate) carried: Vec<Source>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A field of the event, by its index in [`Plan::fields`].
    Field(usize),
    /// A value that the correlation below groups by.
    Group(usize),
    /// A value that the correlation below carries.
    Carried(usize),
}

/// A correlation that cannot work, and why.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The rule's index.
    pub(crate) rule: usize,
    pub(crate) line: usize,
    pub(crate) reason: String,
}

impl Plan {
    /// Whether there is anything to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.correlations.is_empty()
    }

    /// The fields that correlations read in the events that a rule matches.
    pub(crate) fn fields_read(&self, rule: usize) -> impl Iterator<Item = &str> {
        let feeds = self.fed_by.get(rule).into_iter().flatten();
        let members =
            feeds.filter_map(|feed| self.correlations.get(feed.correlation)?.members.get(feed.member));
        let sources = members
            .flat_map(|Sources { group, counted, carried }| group.iter().chain(counted).chain(carried));
        sources.filter_map(|source| match source {
            Source::Field(number) => self.fields.get(*number).map(|name| &**name),
            Source::Group(_) | Source::Carried(_) => None,
        })
    }
}

/// For each rule that is a correlation, the rules on single events whose matches it counts, directly or through other
/// correlations, in the order of `rules`. None for other rules, and for correlations that were refused.
#[must_use]
pub fn counted_rules(rules: &[Rule]) -> Vec<Vec<usize>> {
    let links = Links::resolve(rules);
    (0..rules.len()).map(|rule| links.counted(rules, rule)).collect()
}

/// These rules, given by their indexes, and all that they count, directly or through other correlations, in the order of
/// `rules`: what it takes to run them.
#[must_use]
pub fn with_counted(rules: &[Rule], wanted: &[usize]) -> Vec<usize> {
    let links = Links::resolve(rules);
    let (mut open, mut found) = (wanted.to_vec(), BTreeSet::new());
    while let Some(rule) = open.pop() {
        if rule < rules.len() && found.insert(rule) {
            open.extend(links.references[rule].iter().flatten());
        }
    }
    found.into_iter().collect()
}

/// Connects the correlations among `rules`. Those that cannot work are not in the plan.
pub(crate) fn link(rules: &[Rule]) -> (Plan, Vec<Refused>) {
    let mut links = Links::resolve(rules);
    let order = links.order(rules);
    (links.plan(rules, &order), links.refused)
}

/// The rules that each correlation refers to.
struct Links {
    /// For each rule, the indexes of those it refers to; none where it is no correlation or was refused.
    references: Vec<Option<Vec<usize>>>,
    refused: Vec<Refused>,
}

impl Links {
    fn resolve(rules: &[Rule]) -> Self {
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            let names = [rule.id.as_deref(), rule.name.as_deref()];
            for name in names.into_iter().flatten() {
                let known = by_name.entry(name).or_default();
                if !known.contains(&index) {
                    known.push(index);
                }
            }
        }
        let mut links = Self { references: vec![None; rules.len()], refused: Vec::new() };
        for (index, rule) in rules.iter().enumerate() {
            let Some(correlation) = &rule.correlation else { continue };
            links.references[index] = links.find(index, correlation, &by_name);
        }
        links.refuse_dependents(rules);
        links
    }

    fn find(
        &mut self,
        rule: usize,
        correlation: &Correlation,
        by_name: &HashMap<&str, Vec<usize>>,
    ) -> Option<Vec<usize>> {
        let mut found = Vec::new();
        let before = self.refused.len();
        for reference in &correlation.references {
            let name = &reference.name;
            let reason = match by_name.get(name.as_str()).map(Vec::as_slice) {
                None => format!("no rule has the id or name {name:?}"),
                Some([index]) if found.contains(index) => format!("rule {name:?} is listed twice"),
                Some([index]) => {
                    found.push(*index);
                    continue;
                }
                Some(several) => {
                    format!("{} rules have the name {name:?}; refer to one by its id", several.len())
                }
            };
            self.refused.push(Refused { rule, line: reference.line, reason });
        }
        (self.refused.len() == before).then_some(found)
    }

    fn counted(&self, rules: &[Rule], correlation: usize) -> Vec<usize> {
        let (mut open, mut seen, mut counted) = (vec![correlation], HashSet::new(), Vec::new());
        while let Some(rule) = open.pop() {
            let below = self.references[rule].iter().flatten();
            for &below in below.filter(|below| seen.insert(**below)) {
                let is_correlation = rules[below].correlation.is_some();
                if is_correlation { open.push(below) } else { counted.push(below) }
            }
        }
        counted.sort_unstable();
        counted
    }

    /// A correlation over one that was refused could never match.
    fn refuse_dependents(&mut self, rules: &[Rule]) {
        loop {
            let broken =
                |index: &usize| rules[*index].correlation.is_some() && self.references[*index].is_none();
            let dependents: Vec<(usize, usize)> = (0..rules.len())
                .filter_map(|rule| Some((rule, self.references[rule].as_ref()?.iter().position(broken)?)))
                .collect();
            if dependents.is_empty() {
                return;
            }
            for (rule, member) in dependents {
                self.references[rule] = None;
                let reference = rules[rule].correlation.as_ref().and_then(|it| it.references.get(member));
                let Some(reference) = reference else { continue };
                let reason = format!("the correlation {:?} it refers to was refused", reference.name);
                self.refused.push(Refused { rule, line: reference.line, reason });
            }
        }
    }

    /// The correlations in an order in which each stands behind those it refers to. What leads back to
    /// itself is refused.
    fn order(&mut self, rules: &[Rule]) -> Vec<usize> {
        let mut dependents = vec![Vec::new(); rules.len()];
        let mut missing = vec![0_usize; rules.len()];
        let mut ready = Vec::new();
        for (rule, references) in self.references.iter().enumerate() {
            let Some(references) = references else { continue };
            let below = references.iter().filter(|index| rules[**index].correlation.is_some());
            below.clone().for_each(|index| dependents[*index].push(rule));
            missing[rule] = below.count();
            if missing[rule] == 0 {
                ready.push(rule);
            }
        }
        let mut order = Vec::new();
        let mut depth = vec![1_usize; rules.len()];
        while let Some(rule) = ready.get(order.len()).copied() {
            order.push(rule);
            for &dependent in &dependents[rule] {
                missing[dependent] -= 1;
                depth[dependent] = depth[dependent].max(depth[rule] + 1);
                if missing[dependent] == 0 {
                    ready.push(dependent);
                }
            }
        }
        for rule in 0..rules.len() {
            let reason = match (missing[rule] > 0, depth[rule] > MAX_CHAIN) {
                (true, _) => "the correlation leads back to itself, or to one that does".to_owned(),
                (_, true) => format!("the correlation stands on a chain of more than {MAX_CHAIN}"),
                _ => continue,
            };
            self.references[rule] = None;
            self.refused.push(Refused { rule, line: rules[rule].line, reason });
        }
        order.retain(|rule| self.references[*rule].is_some());
        order
    }

    fn plan(&self, rules: &[Rule], order: &[usize]) -> Plan {
        let mut plan = Plan {
            correlations: Vec::new(),
            fed_by: vec![Vec::new(); rules.len()],
            silent: silent(rules, &self.references),
            fields: Vec::new(),
        };
        let place: HashMap<usize, usize> =
            order.iter().enumerate().map(|(place, rule)| (*rule, place)).collect();
        let carried = self.carried(rules, order);
        let mut fields = FieldNumbers::default();
        for (correlation, &rule) in order.iter().enumerate() {
            let (Some(definition), Some(references)) = (&rules[rule].correlation, &self.references[rule])
            else {
                continue;
            };
            let mut members = Vec::new();
            for (member, &below) in references.iter().enumerate() {
                let feed = Feed { correlation, member };
                let child = rules[below].correlation.as_ref().map(|child| (child, &carried[below]));
                let mut source = |name: &str| match child {
                    None => Source::Field(fields.number(name)),
                    Some((child, carried)) => source_in(child, carried, name),
                };
                members.push(Sources {
                    group: group_names(definition, &rules[below]).map(&mut source).collect(),
                    counted: definition.fields.iter().map(|name| source(name)).collect(),
                    carried: carried[rule].iter().map(|name| source(name)).collect(),
                });
                match place.get(&below).and_then(|place| plan.correlations.get_mut(*place)) {
                    Some(Planned { feeds, .. }) => feeds.push(feed),
                    None => plan.fed_by[below].push(feed),
                }
            }
            let fingerprint = fingerprint(definition, references, rules, &members, &plan, &place);
            let (key, definition) = (Arc::clone(&rules[rule].key), Arc::clone(definition));
            plan.correlations.push(Planned {
                rule,
                key,
                fingerprint,
                definition,
                members,
                feeds: Vec::new(),
            });
        }
        plan.fields = fields.names;
        plan
    }

    /// For each correlation, the values that those above it need and that it does not group by. From the
    /// top down, because what is carried up must be carried all the way.
    fn carried(&self, rules: &[Rule], order: &[usize]) -> Vec<Vec<String>> {
        let mut carried: Vec<Vec<String>> = vec![Vec::new(); rules.len()];
        for &rule in order.iter().rev() {
            let (Some(definition), Some(references)) = (&rules[rule].correlation, &self.references[rule])
            else {
                continue;
            };
            for &below in references {
                let Some(child) = &rules[below].correlation else { continue };
                let counted = definition.fields.iter().chain(&carried[rule]).map(String::as_str);
                let needed: Vec<String> =
                    group_names(definition, &rules[below]).chain(counted).map(str::to_owned).collect();
                for name in needed {
                    let grouped = child.group_by.iter().any(|field| field.name == name);
                    if !grouped && !carried[below].contains(&name) {
                        carried[below].push(name);
                    }
                }
            }
        }
        carried
    }
}

/// Rules that some correlation refers to, where none says `generate`.
fn silent(rules: &[Rule], references: &[Option<Vec<usize>>]) -> Vec<bool> {
    let (mut fed, mut loud) = (vec![false; rules.len()], vec![false; rules.len()]);
    for (rule, references) in rules.iter().zip(references) {
        let (Some(correlation), Some(references)) = (&rule.correlation, references) else { continue };
        let marks = if correlation.generate { &mut loud } else { &mut fed };
        references.iter().for_each(|rule| marks[*rule] = true);
    }
    fed.into_iter().zip(loud).map(|(fed, loud)| fed && !loud).collect()
}

/// The fields to group by, as they are called in events that a rule matched.
fn group_names<'a>(definition: &'a Correlation, rule: &'a Rule) -> impl Iterator<Item = &'a str> {
    let names: Vec<&str> = [rule.id.as_deref(), rule.name.as_deref()].into_iter().flatten().collect();
    definition.group_by.iter().map(move |field| field.in_rule(&names))
}

fn source_in(child: &Correlation, carried: &[String], name: &str) -> Source {
    match child.group_by.iter().position(|field| field.name == name) {
        Some(group) => Source::Group(group),
        None => Source::Carried(carried.iter().position(|known| known == name).unwrap_or(usize::MAX)),
    }
}

#[derive(Default)]
struct FieldNumbers {
    names: Vec<Box<str>>,
    numbers: HashMap<Box<str>, usize>,
}

impl FieldNumbers {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.names.push(name.into());
        self.numbers.insert(name.into(), self.names.len() - 1);
        self.names.len() - 1
    }
}

/// Over the definition and everything below it: if any of that changes, counts made before mean something
/// else.
fn fingerprint(
    definition: &Correlation,
    references: &[usize],
    rules: &[Rule],
    members: &[Sources],
    plan: &Plan,
    place: &HashMap<usize, usize>,
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let Correlation { kind, group_by, fields, span_micros, condition, warm_up_micros, .. } = definition;
    let own = format!("{kind:?} {group_by:?} {fields:?} {span_micros} {condition:?} {warm_up_micros}");
    hasher.update(own.as_bytes());
    for (below, sources) in references.iter().zip(members) {
        hasher.update(&sources.carried.len().to_le_bytes());
        match place.get(below).and_then(|place| plan.correlations.get(*place)) {
            Some(child) => hasher.update(&child.fingerprint),
            None => hasher.update(format!("{:?}", rules[*below].formula).as_bytes()),
        };
    }
    *hasher.finalize().as_bytes()
}
