//! Rule files on disk, read under limits.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};

use watchbell_rules::{LoadError, samples};

use crate::files;

const MAX_FILE_BYTES: u64 = 4 << 20;
const MAX_FILES: usize = 50_000;
const MAX_DEPTH: usize = 16;
const TOO_MANY: &str = "more files than are read; this one and those after it are left out";

/// What was found at a path.
#[derive(Default)]
pub(crate) struct RuleFiles {
    /// Name and text of each file, in the order of their names.
    pub(crate) files: Vec<(String, String)>,
    /// What could not be read. One bad file must not take the others with it.
    pub(crate) unreadable: Vec<LoadError>,
}

/// Reads a file, or all `.yml` and `.yaml` files below a directory that do not hold samples.
pub(crate) fn read(path: &Path) -> RuleFiles {
    let mut search = Search::default();
    search.visit(path, 0);
    while let Some((link, depth)) = search.links.pop_front() {
        search.visit(&link, depth);
    }
    let Search { mut paths, found, .. } = search;
    paths.sort();
    paths.retain(|path| !samples::is_sample_file(&path.to_string_lossy()));
    read_all(paths, found)
}

/// Reads a file of samples.
pub(crate) fn read_samples(path: &Path) -> RuleFiles {
    read_all(vec![path.to_owned()], RuleFiles::default())
}

fn read_all(paths: Vec<PathBuf>, mut found: RuleFiles) -> RuleFiles {
    for path in paths {
        match files::read_text(&path, MAX_FILE_BYTES) {
            Ok(text) => found.files.push((path.display().to_string(), text)),
            // What stands around the cause names the file once more.
            Err(error) => found.unreadable.push(unreadable(&path, error.root_cause().to_string())),
        }
    }
    found
}

/// The search for files below a path.
#[derive(Default)]
struct Search {
    paths: Vec<PathBuf>,
    /// Where files and directories really are: links may lead to one by many ways, and in circles.
    visited: HashSet<PathBuf>,
    /// Links still to be followed, with their depth: rules are known by the name of their file, and that is its own
    /// before that of a link to it.
    links: VecDeque<(PathBuf, usize)>,
    found: RuleFiles,
}

impl Search {
    fn visit(&mut self, path: &Path, depth: usize) {
        let (kind, place) = match path.metadata().and_then(|it| Ok((it.file_type(), path.canonicalize()?))) {
            Ok(known) => known,
            Err(error) => return self.refuse(path, error.to_string()),
        };
        if !kind.is_file() && !kind.is_dir() {
            // Reading a pipe would wait for ever.
            return self.refuse(path, "not a regular file".to_owned());
        }
        if !self.visited.insert(place) {
            return;
        }
        if kind.is_dir() {
            return self.visit_members(path, depth);
        }
        if self.paths.len() < MAX_FILES {
            self.paths.push(path.to_owned());
        } else if !self.found.unreadable.iter().any(|problem| problem.reason == TOO_MANY) {
            self.refuse(path, TOO_MANY.to_owned());
        }
    }

    fn visit_members(&mut self, directory: &Path, depth: usize) {
        if depth > MAX_DEPTH {
            return self.refuse(directory, format!("nested deeper than {MAX_DEPTH} directories"));
        }
        let entries = match directory.read_dir() {
            Ok(entries) => entries,
            Err(error) => return self.refuse(directory, error.to_string()),
        };
        let mut paths: Vec<_> =
            entries.flatten().map(|entry| entry.path()).filter(|path| is_wanted(path)).collect();
        paths.sort();
        for path in paths {
            if path.is_symlink() {
                self.links.push_back((path, depth + 1));
            } else {
                self.visit(&path, depth + 1);
            }
        }
    }

    fn refuse(&mut self, path: &Path, reason: String) {
        self.found.unreadable.push(unreadable(path, reason));
    }
}

fn is_wanted(path: &Path) -> bool {
    // A mounted ConfigMap shows each file a second time below a hidden directory.
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let yaml = path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
    !hidden && (yaml || path.is_dir())
}

fn unreadable(path: &Path, reason: String) -> LoadError {
    LoadError { file: path.display().to_string(), line: 0, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_in_order_and_hidden_copies_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "b.samples.yml", "a/c.yaml", "a/readme.md", "..data/b.yml"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let found = read(dir.path());
        let texts: Vec<&str> = found.files.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["a/c.yaml", "b.yml"]);
        assert!(found.unreadable.is_empty());
        assert_eq!(read(&dir.path().join("absent")).unreadable.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_takes_nothing_else_with_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("good.yml"), "x").unwrap();
        std::fs::write(dir.path().join("binary.yml"), [0xff, 0xfe]).unwrap();
        let pipe = dir.path().join("pipe.yml");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let found = read(dir.path());
        assert!(found.files.iter().any(|(name, _)| name.ends_with("good.yml")));
        for (name, reason) in [("binary.yml", "it is not UTF-8 text"), ("pipe.yml", "not a regular file")] {
            let told = found
                .unreadable
                .iter()
                .any(|problem| problem.file.contains(name) && problem.reason == reason);
            assert!(told, "{name}: {:?}", found.unreadable);
        }
    }

    #[test]
    fn links_are_followed_and_each_file_is_read_once() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["rules/..data/mounted.yml", "rules/z/own.yml", "elsewhere/far.yml"] {
            std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            std::fs::write(path(name), "x").unwrap();
        }
        symlink(path("rules"), path("rules/loop")).unwrap();
        symlink(path("rules"), path("rules/z/up")).unwrap();
        std::fs::create_dir(path("rules/a")).unwrap();
        symlink("../z", path("rules/a/z")).unwrap();
        symlink("z/own.yml", path("rules/own-again.yml")).unwrap();
        symlink("..data/mounted.yml", path("rules/mounted.yml")).unwrap();
        symlink(path("elsewhere"), path("rules/outside")).unwrap();
        let found = read(&path("rules"));
        let names: Vec<_> =
            found.files.iter().map(|(name, _)| name.rsplit_once("rules/").unwrap().1).collect();
        assert_eq!(names, ["mounted.yml", "outside/far.yml", "z/own.yml"]);
        assert!(found.unreadable.is_empty(), "{:?}", found.unreadable);
    }
}
