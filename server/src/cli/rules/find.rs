//! Finds the rule that a command is about.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use watchbell_rules::{Loaded, Rule, library, load_over};

use super::{ListOverrides, load_rules, report};
use crate::rule_files;

/// Rules, and which of them are meant.
pub(super) struct Found {
    pub(super) rules: Vec<Rule>,
    /// Their indexes.
    pub(super) wanted: Vec<usize>,
    /// Nothing is wrong with the files.
    pub(super) sound: bool,
}

/// Finds a rule by id, name or title among those of these paths, or among the shipped ones without any. Then it may also
/// be a file: all its rules are meant, and they may refer to shipped ones.
///
/// # Errors
/// If there is no such rule.
pub(super) fn find(rule: &str, paths: &[PathBuf], lists: &ListOverrides) -> Result<Found> {
    let file = Some(Path::new(rule)).filter(|path| paths.is_empty() && path.is_file());
    let Loaded { rules, errors, .. } = match file {
        Some(file) => load_file(file, lists)?,
        None => load_rules(paths, lists)?,
    };
    report(&errors);
    let is_wanted = |found: &Rule| {
        let names = [Some(&*found.title), Some(&*found.key), found.id.as_deref(), found.name.as_deref()];
        *found.file == *rule || (file.is_none() && names.contains(&Some(rule)))
    };
    let wanted: Vec<_> = (0..rules.len()).filter(|index| is_wanted(&rules[*index])).collect();
    match (wanted.is_empty(), file) {
        (false, _) => Ok(Found { rules, wanted, sound: errors.is_empty() }),
        (true, Some(_)) => bail!("there is no sound rule in {rule}"),
        (true, None) => bail!("there is no rule with the id, name, title or file {rule:?}"),
    }
}

/// The rules of a file, and the shipped ones.
fn load_file(file: &Path, lists: &ListOverrides) -> Result<Loaded> {
    let found = rule_files::read(file);
    let mut loaded = load_over(&library::files(), &found.files, &lists.lists()?);
    loaded.errors.extend(found.unreadable);
    lists.note_unread(&loaded.rules);
    Ok(loaded)
}
