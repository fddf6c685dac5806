//! What is known of the partitions without opening them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use watchbell_event::Positions;

use super::partition::{self, Entry};
use crate::IndexError;
use crate::schema::{OLDEST_VERSION, VERSION};

const FILE: &str = "manifest.json";
/// Longest manifest that is read, in bytes: room for some hundred thousand partitions.
const MAX_BYTES: u64 = 64 << 20;

/// The partitions by name; names sort in the order in which partitions were begun.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    /// At least this far is the log indexed, whatever the partitions say: those that said more may be gone.
    pub(super) positions: Positions,
    /// At least this high is the next `seq`.
    pub(super) next_seq: u64,
    /// The number of the next partition.
    pub(super) next_number: u64,
    pub(super) partitions: BTreeMap<String, Entry>,
}

/// Read first: another version may have other fields.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// What was found on disk.
pub(super) struct Found {
    pub(super) manifest: Manifest,
    /// Partitions that may be unfinished, oldest first.
    pub(super) unsealed: Vec<String>,
}

/// Reads the manifest and holds it against the partitions that are there. What the manifest does not know is
/// taken in: a partition is never removed because the manifest is missing.
pub(super) fn load(dir: &Path) -> Result<Found, IndexError> {
    let mut manifest = read(dir)?;
    let mut present = BTreeSet::new();
    let partitions_dir = dir.join(partition::DIR);
    let reading = || IndexError::io("read", &partitions_dir);
    for file in fs::read_dir(&partitions_dir).map_err(reading())? {
        let name = file.map_err(reading())?.file_name().to_string_lossy().into_owned();
        if name.starts_with(partition::GONE) {
            let path = partitions_dir.join(&name);
            fs::remove_dir_all(&path).map_err(IndexError::io("remove", &path))?;
        } else if partition::number(&name).is_some() {
            present.insert(name);
        }
    }
    manifest.partitions.retain(|name, _| present.contains(name));
    let sealed = |name: &String| manifest.partitions.get(name).is_some_and(|entry| entry.sealed);
    let unsealed = present.iter().filter(|name| !sealed(name)).cloned().collect();
    if let Some(newest) = present.last().and_then(|name| partition::number(name)) {
        manifest.next_number = manifest.next_number.max(newest + 1);
    }
    Ok(Found { manifest, unsealed })
}

fn read(dir: &Path) -> Result<Manifest, IndexError> {
    let path = dir.join(FILE);
    let corrupt = |reason: String| IndexError::Corrupt { path: path.clone(), reason };
    let bytes = match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Manifest::empty()),
        Ok(metadata) if metadata.len() > MAX_BYTES => return Err(corrupt("it is too long".to_owned())),
        _ => fs::read(&path).map_err(IndexError::io("read", &path))?,
    };
    let read = |error: serde_json::Error| corrupt(error.to_string());
    let Version { version } = serde_json::from_slice(&bytes).map_err(read)?;
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(corrupt(format!("it has version {version}, this program writes {VERSION}")));
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(read)?;
    Ok(Manifest { version: VERSION, ..manifest })
}

impl Manifest {
    fn empty() -> Self {
        Self {
            version: VERSION,
            positions: Positions::default(),
            next_seq: 0,
            next_number: 0,
            partitions: BTreeMap::new(),
        }
    }

    /// Replaces the manifest on disk; it is never seen half written.
    pub(super) fn save(&self, dir: &Path) -> Result<(), IndexError> {
        let path = dir.join(FILE);
        write_atomically(dir, &path, self).map_err(IndexError::io("write", &path))
    }
}

fn write_atomically(dir: &Path, path: &Path, manifest: &Manifest) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(&serde_json::to_vec_pretty(manifest)?)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(dir)?.sync_all()
}
