//! Rule files on disk, read under limits.

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
    let mut found = RuleFiles::default();
    let mut paths = Vec::new();
    collect(path, 0, &mut paths, &mut found.unreadable);
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
            Err(error) => found.unreadable.push(unreadable(&path, format!("{error:#}"))),
        }
    }
    found
}

fn collect(path: &Path, depth: usize, paths: &mut Vec<PathBuf>, problems: &mut Vec<LoadError>) {
    let kind = match path.metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(error) => return problems.push(unreadable(path, error.to_string())),
    };
    if kind.is_file() {
        if paths.len() < MAX_FILES {
            paths.push(path.to_owned());
        } else if paths.len() == MAX_FILES && !problems.iter().any(|problem| problem.reason == TOO_MANY) {
            problems.push(unreadable(path, TOO_MANY.to_owned()));
        }
        return;
    }
    if !kind.is_dir() {
        // Reading a pipe would wait for ever.
        return problems.push(unreadable(path, "not a regular file".to_owned()));
    }
    if depth > MAX_DEPTH {
        return problems.push(unreadable(path, format!("nested deeper than {MAX_DEPTH} directories")));
    }
    match path.read_dir() {
        Err(error) => problems.push(unreadable(path, error.to_string())),
        Ok(entries) => {
            for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_wanted(path)) {
                collect(&path, depth + 1, paths, problems);
            }
        }
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
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        let found = read(dir.path());
        assert!(found.files.iter().any(|(name, _)| name.ends_with("good.yml")));
        for (name, reason) in
            [("binary.yml", "not UTF-8"), ("pipe.yml", "not a regular file"), ("loop", "nested deeper")]
        {
            let told = found
                .unreadable
                .iter()
                .any(|problem| problem.file.contains(name) && problem.reason.contains(reason));
            assert!(told, "{name}: {:?}", found.unreadable);
        }
    }
}
