//! Rule files on disk, read under limits.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::files;

const MAX_FILE_BYTES: u64 = 4 << 20;
const MAX_FILES: usize = 50_000;
const MAX_DEPTH: usize = 16;

/// Reads a file, or all `.yml` and `.yaml` files below a directory, in the order of their names.
///
/// # Errors
/// The first file that cannot be read, or a limit that is exceeded.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let mut paths = Vec::new();
    if path.is_dir() {
        collect(path, 0, &mut paths)?;
        paths.sort();
    } else {
        paths.push(path.to_owned());
    }
    paths
        .into_iter()
        .map(|path| Ok((path.display().to_string(), files::read_text(&path, MAX_FILE_BYTES)?)))
        .collect()
}

fn collect(directory: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        bail!("{} is nested deeper than {MAX_DEPTH} directories", directory.display());
    }
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("failed to read the directory {}", directory.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("failed to read {}", directory.display()))?.path();
        // A mounted ConfigMap shows each file a second time below a hidden directory.
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            collect(&path, depth + 1, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            bail!("there are more than {MAX_FILES} rule files below {}", directory.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_in_order_and_hidden_copies_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a/c.yaml", "a/readme.md", "..data/b.yml"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let texts: Vec<String> = read(dir.path()).unwrap().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["a/c.yaml", "b.yml"]);
        assert!(read(&dir.path().join("absent")).is_err());
    }
}
