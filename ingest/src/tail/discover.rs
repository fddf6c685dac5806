//! Which files there are: those that match, those that were renamed while nobody looked, those that are gone.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use watchbell_event::Timestamp;

use super::container::Container;
use super::file::{About, FileKey, Followed};
use super::state::FileState;
use super::{Tail, TailConfig};
use crate::decode::logs::{CommonFacts, Fact, Field};

/// Names of files that are compressed: they were plain ones before.
const COMPRESSED: [&str; 5] = ["gz", "zst", "bz2", "xz", "lz4"];
/// Paths whose errors are remembered, so that each is reported once.
const MAX_REPORTED: usize = 10_000;

/// Files that could not be read. Each is reported once, and tried again.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    reported: HashSet<PathBuf>,
    /// Since files were looked for last.
    now: usize,
}

impl Unreadable {
    pub(super) fn report(&mut self, path: &Path, error: &io::Error) {
        self.now += 1;
        if self.reported.len() < MAX_REPORTED && self.reported.insert(path.to_owned()) {
            let path = path.display();
            tracing::warn!(
                error = error as &dyn std::error::Error,
                %path,
                "failed to read a log file; it is tried again and again, which is not reported"
            );
        }
    }

    pub(super) fn len(&self) -> usize {
        self.now
    }
}

/// A file that was found.
struct Found {
    path: PathBuf,
    source: usize,
}

impl Tail {
    /// Looks for files.
    pub(super) fn discover(&mut self, now: Timestamp) {
        self.unreadable.now = 0;
        let found = self.find();
        for file in &mut self.files {
            if found.contains_key(&file.key) {
                file.is_there();
            } else if file.is_gone(now) {
                metrics::counter!("watchbell_tail_rotations_total").increment(1);
            }
        }
        let followed: HashSet<FileKey> = self.files.iter().map(|file| file.key).collect();
        let (mut own, mut waiting) = (0, 0);
        for (key, Found { path, source }) in found {
            if followed.contains(&key) {
                continue;
            }
            let about = about(&path, source);
            if self.config.own.is(&about.container) {
                own += 1;
            } else if self.files.len() >= self.config.max_files {
                waiting += 1;
            } else if let Err(error) = self.follow(&path, about, now, false) {
                // it may have gone in the meantime
                if error.kind() != io::ErrorKind::NotFound {
                    self.unreadable.report(&path, &error);
                }
            }
        }
        if self.discovered_at.is_none() {
            self.follow_renamed(now);
        }
        publish(own, waiting);
    }

    /// All files that are meant, each once, whatever the number of its names.
    fn find(&mut self) -> HashMap<FileKey, Found> {
        let mut found: HashMap<FileKey, Found> = HashMap::new();
        for (index, source) in self.config.sources.iter().enumerate() {
            let (paths, errors) = source.pattern.find();
            errors.iter().for_each(|(path, error)| self.unreadable.report(path, error));
            for path in paths {
                if is_compressed(&path) || source.exclude.iter().any(|pattern| pattern.matches(&path)) {
                    continue;
                }
                match fs::metadata(&path) {
                    Ok(metadata) if metadata.is_file() => {
                        found.entry(FileKey::of(&metadata)).or_insert(Found { path, source: index });
                    }
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        self.unreadable.report(&path, &error);
                    }
                    _ => {}
                }
            }
        }
        found
    }

    /// Follows a file from where it was left, if it was followed before.
    fn follow(&mut self, path: &Path, about: About, now: Timestamp, renamed: bool) -> io::Result<()> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let state = self.recall(&file, FileKey::of(&metadata))?;
        let is_first_look = self.had_state && self.discovered_at.is_none();
        let known_before = if is_first_look || state.is_some() { metadata.len() } else { 0 };
        let mut followed = Followed::new(file, about, state.as_ref(), known_before, now)?;
        if renamed {
            followed.is_gone(now);
        }
        self.files.push(followed);
        Ok(())
    }

    /// What is remembered of this file. Of one that was finished only that there was one like it.
    fn recall(&mut self, file: &File, key: FileKey) -> io::Result<Option<FileState>> {
        let mut found = None;
        for (index, state) in self.remembered.iter().enumerate() {
            if state.key == key && state.beginning.is_of(file)? {
                found = Some(index);
            }
        }
        Ok(found.map(|index| match self.remembered.remove(index) {
            state if state.finished => state.begun_anew(),
            state => state,
        }))
    }

    /// Files that were renamed while nothing ran are read to their end.
    fn follow_renamed(&mut self, now: Timestamp) {
        let missing: Vec<FileState> =
            self.remembered.iter().filter(|state| !state.finished).cloned().collect();
        for state in missing {
            let Some(source) = source_of(&self.config, &state.path) else { continue };
            let Some(path) = renamed(&state) else {
                self.give_up(&state, source);
                continue;
            };
            let about = about(&state.path, source);
            if let Err(error) = self.follow(&path, about, now, true) {
                self.unreadable.report(&path, &error);
            }
        }
    }

    /// A file was removed while nothing ran. If there is none like it at all, its disk may only be away for now.
    fn give_up(&mut self, gone: &FileState, source: usize) {
        if !self.files.iter().any(|file| file.about.source == source) {
            return;
        }
        let path = gone.path.display();
        tracing::info!(%path, "a log file is gone; what was written after it was read last is lost");
        metrics::counter!("watchbell_tail_missing_files_total").increment(1);
        for state in self.remembered.iter_mut().filter(|state| *state == gone) {
            state.finished = true;
        }
    }
}

fn about(path: &Path, source: usize) -> About {
    // a link in /var/log/containers leads to one in /var/log/pods, and with Docker on to the file
    let mut paths = vec![path.to_owned()];
    while let (Some(Ok(target)), true) = (paths.last().map(fs::read_link), paths.len() < 4) {
        let parent = paths.last().and_then(|path| path.parent()).unwrap_or(Path::new("/"));
        paths.push(parent.join(target));
    }
    let container = Container::of_paths(paths.iter().map(PathBuf::as_path));
    let file_path = Fact::from(path.to_string_lossy());
    let facts = CommonFacts::new(container.facts().chain([(Field::LogFilePath, file_path)]));
    About { path: path.to_owned(), source, container, facts }
}

fn source_of(config: &TailConfig, path: &Path) -> Option<usize> {
    config.sources.iter().position(|source| source.pattern.matches(path))
}

/// The same file under another name in its directory, or in the one that its path is a link into.
fn renamed(state: &FileState) -> Option<PathBuf> {
    let target = fs::read_link(&state.path).ok();
    let parents = [Some(state.path.as_path()), target.as_deref()];
    parents.into_iter().flatten().filter_map(Path::parent).find_map(|parent| {
        let entries = fs::read_dir(parent).ok()?.filter_map(Result::ok);
        entries.map(|entry| entry.path()).find(|path| !is_compressed(path) && is_same(path, state))
    })
}

fn is_same(path: &Path, state: &FileState) -> bool {
    let is_key = |metadata: fs::Metadata| metadata.is_file() && FileKey::of(&metadata) == state.key;
    let is_beginning = |file: File| state.beginning.is_of(&file).unwrap_or(false);
    fs::symlink_metadata(path).is_ok_and(is_key) && File::open(path).is_ok_and(is_beginning)
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| COMPRESSED.iter().any(|known| extension == *known))
}

fn publish(own: u32, waiting: u32) {
    metrics::gauge!("watchbell_tail_files", "state" => "own").set(f64::from(own));
    metrics::gauge!("watchbell_tail_files", "state" => "waiting").set(f64::from(waiting));
}
