//! Conditions with their macros and lists put in become formulas.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::comparison;
use super::condition::{Comparison, Expression, Operand};
use super::fields::{self, Source};
use crate::formula::Formula;

/// Deepest nesting of macros within macros, and of lists within lists.
pub(crate) const MAX_NESTED_NAMES: usize = 32;
/// Most comparisons and values of one rule, macros and lists counted as often as they are named.
pub(crate) const MAX_NODES: usize = 100_000;

/// What conditions may name.
#[derive(Default)]
pub(super) struct Names<'a> {
    /// Macros, or why one cannot be used.
    pub(super) macros: HashMap<&'a str, Result<Expression<'a>, String>>,
    pub(super) lists: HashMap<&'a str, &'a [String]>,
}

/// Puts in what one rule names.
pub(super) struct Expansion<'a> {
    names: &'a Names<'a>,
    nodes: usize,
    /// The macros that are being put in, outermost first.
    open_macros: Vec<&'a str>,
    open_lists: Vec<&'a str>,
    used_lists: BTreeSet<&'a str>,
}

impl<'a> Expansion<'a> {
    pub(super) fn new(names: &'a Names<'a>) -> Self {
        Self { names, nodes: 0, open_macros: Vec::new(), open_lists: Vec::new(), used_lists: BTreeSet::new() }
    }

    /// The formula of a condition.
    ///
    /// # Errors
    /// What it names that does not exist or contains itself, what it compares wrongly, or the limit that it exceeds.
    pub(super) fn formula(&mut self, expression: &'a Expression<'a>) -> Result<Formula, String> {
        self.count()?;
        match expression {
            Expression::All(parts) => Ok(Formula::All(self.formulas(parts)?)),
            Expression::Any(parts) => Ok(Formula::Any(self.formulas(parts)?)),
            Expression::Not(part) => Ok(self.formula(part)?.negate()),
            Expression::Macro(name) => self.named_macro(name),
            Expression::Check(comparison) => self.comparison(comparison),
        }
    }

    /// How many comparisons and values were made so far.
    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }

    /// The names of the lists that were put in so far.
    pub(super) fn used_lists(&self) -> Vec<Arc<str>> {
        self.used_lists.iter().map(|name| Arc::from(*name)).collect()
    }

    /// The formula of one check.
    fn comparison(&mut self, comparison: &'a Comparison<'_>) -> Result<Formula, String> {
        let source: Source = fields::resolve(&comparison.field)?;
        let mut values = Vec::new();
        for value in &comparison.values {
            if comparison.operator.takes_list() && value.bare {
                self.list_or_value(&value.text, &mut values)?;
            } else {
                values.push(value.text.clone());
            }
        }
        comparison::formula(&source, comparison.operator, &values)
            .map_err(|reason| format!("{}: {reason}", comparison.field.name))
    }

    fn formulas(&mut self, parts: &'a [Expression<'a>]) -> Result<Vec<Formula>, String> {
        parts.iter().map(|part| self.formula(part)).collect()
    }

    fn named_macro(&mut self, name: &'a str) -> Result<Formula, String> {
        let names = self.names;
        match names.macros.get(name) {
            None => Err(format!("there is no macro {name:?}")),
            Some(Err(reason)) => Err(format!("macro {name:?}: {reason}")),
            Some(Ok(_)) if self.open_macros.contains(&name) => Err(format!("macro {name:?} contains itself")),
            Some(Ok(_)) if self.open_macros.len() >= MAX_NESTED_NAMES => {
                Err(format!("macros are nested deeper than {MAX_NESTED_NAMES}"))
            }
            Some(Ok(expression)) => {
                self.open_macros.push(name);
                let formula = self.formula(expression);
                self.open_macros.pop();
                formula
            }
        }
    }

    /// Adds the members of a list of this name, or the text itself.
    fn list_or_value(&mut self, text: &'a str, values: &mut Vec<String>) -> Result<(), String> {
        self.count()?;
        let names = self.names;
        let Some(items) = names.lists.get(text) else {
            values.push(text.to_owned());
            return Ok(());
        };
        if self.open_lists.contains(&text) {
            return Err(format!("list {text:?} contains itself"));
        }
        if self.open_lists.len() >= MAX_NESTED_NAMES {
            return Err(format!("lists are nested deeper than {MAX_NESTED_NAMES}"));
        }
        self.open_lists.push(text);
        self.used_lists.insert(text);
        for item in *items {
            match unquoted(item) {
                Some(literal) => values.push(literal.to_owned()),
                None => self.list_or_value(item, values)?,
            }
        }
        self.open_lists.pop();
        Ok(())
    }

    fn count(&mut self) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(format!("the condition comes to more than {MAX_NODES} comparisons and values"));
        }
        Ok(())
    }
}

/// The text between quotes that an item carries within itself, as those of lists with blanks do.
fn unquoted(item: &str) -> Option<&str> {
    ['"', '\''].iter().find_map(|quote| item.strip_prefix(*quote)?.strip_suffix(*quote))
}

/// A value of an exception as an operand: quotes around it are not part of it.
pub(super) fn operand(text: &str) -> Operand {
    match unquoted(text) {
        Some(literal) => Operand { text: literal.to_owned(), bare: false },
        None => Operand { text: text.to_owned(), bare: true },
    }
}
