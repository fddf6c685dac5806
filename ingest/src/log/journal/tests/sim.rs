//! A disk in memory that loses power: then of what was not synced an arbitrary part survives.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::disk::{Disk, DiskFile, Entry};

const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub(super) struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<SimFile>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Name operations since the last sync of the directory.
    pending: Vec<NameOp>,
    /// Steps made: every call that changes or syncs something.
    steps: usize,
    plan: Plan,
    dead: bool,
    /// Bytes read of each file.
    read: BTreeMap<usize, usize>,
}

/// What is to go wrong.
#[derive(Clone, Default)]
pub(super) struct Plan {
    /// Power fails during this step.
    pub(super) cut_at: Option<usize>,
    /// The sync at this step fails.
    pub(super) sync_error_at: Option<usize>,
    /// Bytes that fit on the disk.
    pub(super) capacity: Option<usize>,
    /// What the disk says is free.
    pub(super) free: Option<u64>,
    /// No file can be made.
    pub(super) no_handles: bool,
    /// How long each read takes.
    pub(super) read_delay: Option<std::time::Duration>,
}

#[derive(Clone, Default)]
struct SimFile {
    content: Vec<u8>,
    durable: Vec<u8>,
    /// Parts that were written since the last sync.
    dirty: Vec<Range<usize>>,
}

#[derive(Clone)]
enum NameOp {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

impl NameOp {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Unlink(name) => drop(names.remove(name)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

/// Random numbers that a seed determines.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

impl SimDisk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn plan(&self, plan: Plan) {
        self.lock().plan = plan;
    }

    pub(super) fn steps(&self) -> usize {
        self.lock().steps
    }

    /// Turns the power on again. Seed 0: everything that was not synced is lost. Other seeds: an arbitrary
    /// part of it is there, in whole sectors, and of the name operations the first few.
    pub(super) fn reboot(&self, seed: u64) -> Self {
        let state = self.lock();
        let mut dice = Dice::new(seed);
        let mut names = state.durable_names.clone();
        let survive = if seed == 0 { 0 } else { dice.below(state.pending.len() + 1) };
        state.pending[..survive].iter().for_each(|operation| operation.apply(&mut names));
        let files = state.files.iter().map(|file| {
            let content = if seed == 0 { file.durable.clone() } else { file.survivor(&mut dice) };
            SimFile { durable: content.clone(), content, dirty: Vec::new() }
        });
        let files = files.collect();
        let state = State { files, names: names.clone(), durable_names: names, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A copy with bits of a file flipped.
    pub(super) fn flipped(&self, name: &str, at: usize, mask: u8) -> Self {
        let copy = self.reboot(0);
        let mut state = copy.lock();
        let file = state.names[name];
        state.files[file].content[at] ^= mask;
        state.files[file].durable[at] ^= mask;
        drop(state);
        copy
    }

    pub(super) fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(name).map(|file| state.files[*file].content.clone())
    }

    /// Bytes that were read of a file.
    pub(super) fn bytes_read(&self, name: &str) -> usize {
        let state = self.lock();
        state.read.get(&state.names[name]).copied().unwrap_or(0)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }
}

impl SimFile {
    /// What is there after a power cut: some of the unsynced sectors, and any length between.
    fn survivor(&self, dice: &mut Dice) -> Vec<u8> {
        let (short, long) =
            (self.durable.len().min(self.content.len()), self.durable.len().max(self.content.len()));
        let mut survivor = self.durable.clone();
        survivor.resize(short + dice.below(long - short + 1), 0);
        for range in &self.dirty {
            for sector in range.start / SECTOR..=range.end / SECTOR {
                let start = (sector * SECTOR).max(range.start);
                let end = ((sector + 1) * SECTOR).min(range.end).min(survivor.len()).min(self.content.len());
                if start < end && dice.below(2) == 0 {
                    survivor[start..end].copy_from_slice(&self.content[start..end]);
                }
            }
        }
        survivor
    }
}

impl State {
    /// Counts a step. True if power fails during it.
    fn step(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(io::Error::other("power is off"));
        }
        self.steps += 1;
        self.dead = self.plan.cut_at == Some(self.steps);
        Ok(self.dead)
    }

    fn name(&mut self, operation: NameOp) -> io::Result<()> {
        let cut = self.step()?;
        operation.apply(&mut self.names);
        self.pending.push(operation);
        ended(cut)
    }
}

fn ended(cut: bool) -> io::Result<()> {
    if cut { Err(io::Error::other("power fails")) } else { Ok(()) }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<Entry>> {
        let state = self.lock();
        let entry = |(name, file): (&String, &usize)| Entry {
            name: name.clone(),
            len: state.files[*file].content.len() as u64,
        };
        Ok(state.names.iter().map(entry).collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.lock().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimHandle { disk: self.clone(), file }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        if state.plan.no_handles {
            return Err(io::Error::other("too many open files"));
        }
        let file = state.files.len();
        state.files.push(SimFile::default());
        state.name(NameOp::Link(name.to_owned(), file))?;
        Ok(Arc::new(SimHandle { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.lock().name(NameOp::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().name(NameOp::Unlink(name.to_owned()))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.step()? {
            return ended(true);
        }
        state.durable_names = state.names.clone();
        state.pending.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().plan.free.unwrap_or(u64::MAX))
    }
}

struct SimHandle {
    disk: SimDisk,
    file: usize,
}

impl DiskFile for SimHandle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let delay = self.disk.lock().plan.read_delay;
        delay.into_iter().for_each(std::thread::sleep);
        let mut state = self.disk.lock();
        let rest = state.files[self.file].content.get(offset as usize..).unwrap_or_default();
        // at most 300 bytes at once, as a real disk may also return fewer than asked for
        let len = rest.len().min(buffer.len()).min(300);
        buffer[..len].copy_from_slice(&rest[..len]);
        *state.read.entry(self.file).or_default() += len;
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let cut = state.step()?;
        let used: usize = state.files.iter().map(|file| file.content.len()).sum();
        let room = state.plan.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used));
        let written = &bytes[..bytes.len().min(room)];
        let file = &mut state.files[self.file];
        let range = offset as usize..offset as usize + written.len();
        file.content.resize(file.content.len().max(range.end), 0);
        file.content[range.clone()].copy_from_slice(written);
        file.dirty.push(range);
        ended(cut)?;
        if written.len() < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let cut = state.step()?;
        state.files[self.file].content.truncate(len as usize);
        ended(cut)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        let cut = state.step()?;
        if state.plan.sync_error_at == Some(state.steps) {
            return Err(io::Error::other("the disk failed"));
        }
        if !cut {
            let file = &mut state.files[self.file];
            file.durable = file.content.clone();
            file.dirty.clear();
        }
        ended(cut)
    }
}
