//! A disk in memory that loses power: what was not synced survives in part, sector by sector, at random by seed.
//! It can also be full, and fail its syncs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use carrack_store::disk::{Disk, DiskFile};

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    /// What is on the platter, and what happened since.
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    locked: bool,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(PathBuf, usize),
    Remove(PathBuf),
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    unsynced_names: Vec<NameChange>,
    random: u64,
}

impl State {
    /// xorshift: the same seed gives the same accidents.
    fn coin(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 40 & 1 == 1
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.unsynced_names.push(change);
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].now.len() as u64).sum()
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Set(path, inode) => drop(names.insert(path.clone(), *inode)),
        NameChange::Remove(path) => drop(names.remove(path)),
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::SetLen(len) => bytes.resize(*len as usize, 0),
        Change::Write(at, data) => {
            let (at, end) = (*at as usize, *at as usize + data.len());
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(data);
        }
    }
}

/// The disk. Clones of files work on it until it loses power; then all they get is errors.
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
    dead: Arc<AtomicBool>,
    /// Operations until the power goes.
    fuse: Arc<AtomicU64>,
    capacity: Arc<AtomicU64>,
    fail_syncs: Arc<AtomicBool>,
    /// Whether even writes to space that was taken fail, as on a copy-on-write file system.
    no_copies: Arc<AtomicBool>,
}

impl SimDisk {
    pub(crate) fn new(seed: u64, capacity: u64) -> SimDisk {
        let state = State { random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, ..State::default() };
        SimDisk {
            state: Arc::new(Mutex::new(state)),
            dead: Arc::default(),
            fuse: Arc::new(AtomicU64::new(u64::MAX)),
            capacity: Arc::new(AtomicU64::new(capacity)),
            fail_syncs: Arc::default(),
            no_copies: Arc::default(),
        }
    }

    /// Lets the power go after so many more operations.
    pub(crate) fn die_after(&self, operations: u64) {
        self.fuse.store(operations, Ordering::SeqCst);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Changes how much fits on the disk.
    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.capacity.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Lets all writes, or none, fail for lack of space.
    pub(crate) fn set_no_copies(&self, full: bool) {
        self.no_copies.store(full, Ordering::SeqCst);
    }

    /// Lets all syncs fail from now on.
    pub(crate) fn fail_syncs(&self) {
        self.fail_syncs.store(true, Ordering::SeqCst);
    }

    /// Flips a bit of a file, behind everybody's back.
    pub(crate) fn flip(&self, path: &Path, at: usize) {
        let mut state = self.lock();
        let inode = state.names[path];
        state.inodes[inode].now[at] ^= 1;
    }

    /// The disk after the power came back: what was synced, and a random part of the rest.
    pub(crate) fn after_power_loss(&self) -> SimDisk {
        self.dead.store(true, Ordering::SeqCst);
        let mut state = self.lock();
        let keep = if state.unsynced_names.is_empty() {
            0
        } else {
            let random = state.random as usize;
            random % (state.unsynced_names.len() + 1)
        };
        // Names change in order, as in a journal.
        let mut names = state.synced_names.clone();
        for change in &state.unsynced_names[..keep] {
            apply_name(&mut names, change);
        }
        let mut inodes = state.inodes.clone();
        for inode in &mut inodes {
            let mut bytes = std::mem::take(&mut inode.synced);
            for change in std::mem::take(&mut inode.unsynced) {
                match change {
                    Change::SetLen(_) => {
                        if state.coin() {
                            apply(&mut bytes, &change);
                        }
                    }
                    Change::Write(at, data) => {
                        for (nth, sector) in data.chunks(SECTOR).enumerate() {
                            if state.coin() {
                                apply(
                                    &mut bytes,
                                    &Change::Write(at + (nth * SECTOR) as u64, sector.to_vec()),
                                );
                            }
                        }
                    }
                }
            }
            *inode = Inode { now: bytes.clone(), synced: bytes, unsynced: Vec::new(), locked: false };
        }
        let random = state.random;
        let after = SimDisk::new(1, self.capacity.load(Ordering::SeqCst));
        *after.lock() =
            State { inodes, names: names.clone(), synced_names: names, unsynced_names: Vec::new(), random };
        after
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        alive(&self.dead, &self.fuse)?;
        Ok(self.lock())
    }
}

/// Counts an operation, and fails it if the power is gone.
fn alive(dead: &AtomicBool, fuse: &AtomicU64) -> io::Result<()> {
    let left = fuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1)));
    if left == Ok(0) {
        dead.store(true, Ordering::SeqCst);
    }
    if dead.load(Ordering::SeqCst) { Err(io::Error::other("the power is gone")) } else { Ok(()) }
}

impl Disk for SimDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.alive().map(drop)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.alive()?;
        let inode = match state.names.get(path) {
            Some(inode) => *inode,
            None if !create => return Err(io::ErrorKind::NotFound.into()),
            None => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.change_name(NameChange::Set(path.to_owned(), inode));
                inode
            }
        };
        Ok(Box::new(SimFile {
            inode,
            state: Arc::clone(&self.state),
            dead: Arc::clone(&self.dead),
            fuse: Arc::clone(&self.fuse),
            capacity: Arc::clone(&self.capacity),
            fail_syncs: Arc::clone(&self.fail_syncs),
            no_copies: Arc::clone(&self.no_copies),
            holds_lock: AtomicBool::new(false),
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.alive()?;
        Ok(state.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        // One step, as rename(2) is: both names change or none, so it is recorded as the new name first.
        state.change_name(NameChange::Set(to.to_owned(), inode));
        state.change_name(NameChange::Remove(from.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        state.synced_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let state = self.alive()?;
        Ok(self.capacity.load(Ordering::SeqCst).saturating_sub(state.used()))
    }
}

struct SimFile {
    inode: usize,
    state: Arc<Mutex<State>>,
    dead: Arc<AtomicBool>,
    fuse: Arc<AtomicU64>,
    capacity: Arc<AtomicU64>,
    fail_syncs: Arc<AtomicBool>,
    no_copies: Arc<AtomicBool>,
    holds_lock: AtomicBool,
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        alive(&self.dead, &self.fuse)?;
        work(&mut self.state.lock().expect("not poisoned"))
    }

    fn change(&self, change: Change) -> io::Result<()> {
        self.with(|state| {
            let len = state.inodes[self.inode].now.len() as u64;
            let grown = match &change {
                Change::SetLen(wanted) => *wanted,
                Change::Write(at, data) => at + data.len() as u64,
            };
            let more = grown.saturating_sub(len);
            if self.no_copies.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if more > 0 && state.used() + more > self.capacity.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let inode = &mut state.inodes[self.inode];
            apply(&mut inode.now, &change);
            inode.unsynced.push(change);
            Ok(())
        })
    }
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimFile({})", self.inode)
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.inodes[self.inode].now.len() as u64))
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|state| {
            let bytes = state.inodes[self.inode].now.get(offset as usize..offset as usize + into.len());
            into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write(offset, bytes.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        if self.fail_syncs.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk does not answer"));
        }
        self.with(|state| {
            let inode = &mut state.inodes[self.inode];
            for change in std::mem::take(&mut inode.unsynced) {
                apply(&mut inode.synced, &change);
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let now = self.len()?;
        if now < len { self.change(Change::SetLen(len)) } else { Ok(()) }
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.with(|state| {
            let inode = &mut state.inodes[self.inode];
            let free = !inode.locked;
            inode.locked = true;
            if free {
                self.holds_lock.store(true, Ordering::SeqCst);
            }
            Ok(free)
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *self.holds_lock.get_mut() {
            self.state.lock().expect("not poisoned").inodes[self.inode].locked = false;
        }
    }
}
