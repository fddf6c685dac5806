//! Patterns of file names: `*` and `?` within one component of a path, as shells read them.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Most files that one pattern finds.
const MAX_FILES: usize = 100_000;

/// Which files are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    components: Vec<String>,
}

/// Why text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// What a relative path means depends on where the process was started.
    #[error("the path must begin with /")]
    Relative,
    /// Such a path names something else than it seems to.
    #[error("the path must not hold .. or **")]
    NotPlain,
    /// Elsewhere they stand for alternatives, here they would be taken as they are and match nothing.
    #[error("only * and ? are wildcards; give a path of its own for each alternative of [] or {{}}")]
    Alternatives,
}

impl PathPattern {
    /// Reads an absolute path in which components may hold `*` and `?`.
    ///
    /// # Errors
    /// If it is not one.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let path = Path::new(text);
        if !path.is_absolute() {
            return Err(PatternError::Relative);
        }
        if text.contains(['[', ']', '{', '}']) {
            return Err(PatternError::Alternatives);
        }
        let mut components = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) if !text.contains("**") => {
                    components.push(name.to_string_lossy().into_owned());
                }
                Component::RootDir => {}
                _ => return Err(PatternError::NotPlain),
            }
        }
        Ok(Self { components })
    }

    /// Whether a path is meant.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        let names: Vec<_> = path.components().skip(1).collect();
        names.len() == self.components.len()
            && self
                .components
                .iter()
                .zip(names)
                .all(|(pattern, name)| matches(pattern, &name.as_os_str().to_string_lossy()))
    }

    /// All paths that are there, in no order, and what could not be listed. What is not there is no error: the
    /// directory of a pod comes and goes.
    pub(super) fn find(&self) -> (Vec<PathBuf>, Vec<(PathBuf, io::Error)>) {
        let (mut found, mut errors) = (vec![PathBuf::from("/")], Vec::new());
        for (index, pattern) in self.components.iter().enumerate() {
            let is_last = index + 1 == self.components.len();
            if !pattern.contains(['*', '?']) {
                found.iter_mut().for_each(|path| path.push(pattern));
                continue;
            }
            let mut next = Vec::new();
            for directory in found {
                match list(&directory, pattern, is_last) {
                    Ok(names) => next.extend(names.into_iter().map(|name| directory.join(name))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                    Err(error) => errors.push((directory, error)),
                }
                next.truncate(MAX_FILES);
            }
            found = next;
        }
        (found, errors)
    }
}

fn list(directory: &Path, pattern: &str, is_last: bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_wanted = matches(pattern, &name) && (is_last || !entry.file_type()?.is_file());
        if is_wanted && names.len() < MAX_FILES {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether a name matches, in time proportional to the product of both lengths at most.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut pos, mut star) = (0, 0, None);
    while pos < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, pos));
                at += 1;
            }
            Some(expected) if *expected == '?' || *expected == name[pos] => {
                (at, pos) = (at + 1, pos + 1);
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    (at, pos) = (star_at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_within_one_component() {
        for (pattern, path, expect) in [
            ("/var/log/*.log", "/var/log/a.log", true),
            ("/var/log/*.log", "/var/log/a.log.gz", false),
            ("/var/log/*.log", "/var/log/b/a.log", false),
            ("/var/log/pods/*/*/*.log", "/var/log/pods/a_b_c/d/0.log", true),
            ("/var/log/pods/kube-system_*/*/*.log", "/var/log/pods/shop_b_c/d/0.log", false),
            ("/a/?*b*c", "/a/xbbc", true),
            ("/a/?*b*c", "/a/bc", false),
            ("/a/*", "/a/", false),
        ] {
            assert_eq!(
                PathPattern::parse(pattern).unwrap().matches(Path::new(path)),
                expect,
                "{pattern} {path}"
            );
        }
        assert_eq!(PathPattern::parse("var/log/*.log"), Err(PatternError::Relative));
        assert_eq!(PathPattern::parse("/var/../log"), Err(PatternError::NotPlain));
        assert_eq!(PathPattern::parse("/var/**/x.log"), Err(PatternError::NotPlain));
        assert_eq!(PathPattern::parse("/var/log/[ab].log"), Err(PatternError::Alternatives));
        assert_eq!(PathPattern::parse("/var/log/{a,b}.log"), Err(PatternError::Alternatives));
    }

    #[test]
    fn files_that_are_there_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["pods/a_b_c/d/0.log", "pods/a_b_c/d/0.log.gz", "pods/x_y_z/w/1.log"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let pattern = format!("{}/pods/*/*/*.log", dir.path().display());
        let (mut found, errors) = PathPattern::parse(&pattern).unwrap().find();
        found.sort();
        let expect = ["pods/a_b_c/d/0.log", "pods/x_y_z/w/1.log"].map(|name| dir.path().join(name));
        assert_eq!((found, errors.len()), (expect.to_vec(), 0));
    }
}
