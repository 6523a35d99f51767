//! A disk in memory that loses power: what was not synced survives in part, sector by sector, at random by seed.
//! It can also be slow, be full, fail its syncs, and lie about them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use carrack_store::disk::{Disk, DiskFile};
use parking_lot::{Mutex, MutexGuard};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

const SECTOR: usize = 512;

/// How often space is looked for at one moment of paused time before there is some.
const PATIENCE: u32 = 3;

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

/// When the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fuse {
    /// Not by itself.
    Never,
    /// After so many more operations of any kind.
    Operations(u64),
    /// At a sync, after so many other ones: it may be done, or in part, but nobody is told.
    Syncs(u64),
}

struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    unsynced_names: Vec<NameChange>,
    random: StdRng,
    fuse: Fuse,
    dead: bool,
    capacity: u64,
    no_copies: bool,
    fail_syncs: bool,
    lie: bool,
    sync_delay: Duration,
    /// Until when the disk is busy with syncs.
    busy: Option<Instant>,
    syncs: u64,
    /// When a write last found no space, and how often it did at that time.
    full: Option<(Instant, u32)>,
}

impl State {
    /// A write finds no space. Who tries again and again without letting time go by blocks the whole simulation, as a
    /// member blocks its own thread: then someone makes room.
    fn no_space(&mut self) -> io::Error {
        let now = Instant::now();
        let times = self.full.filter(|(at, _)| *at == now).map_or(1, |(_, times)| times + 1);
        self.full = Some((now, times));
        if times >= PATIENCE {
            self.capacity = u64::MAX;
        }
        io::ErrorKind::StorageFull.into()
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.unsynced_names.push(change);
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].now.len() as u64).sum()
    }

    /// Counts an operation, and fails it if the power is gone.
    fn alive(&mut self, sync: bool) -> io::Result<()> {
        let burnt = match &mut self.fuse {
            Fuse::Never => false,
            Fuse::Operations(left) => burn(left, true),
            Fuse::Syncs(left) => burn(left, sync),
        };
        if burnt {
            self.dead = true;
        }
        if self.dead { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }

    fn sync(&mut self, inode: usize) -> io::Result<()> {
        if self.fail_syncs {
            return Err(io::Error::other("the disk does not answer"));
        }
        let was_dead = self.dead;
        let alive = self.alive(true);
        let just_done = alive.is_err() && !was_dead && self.random.random();
        if (alive.is_ok() && !self.lie) || just_done {
            let inode = &mut self.inodes[inode];
            for change in std::mem::take(&mut inode.unsynced) {
                apply(&mut inode.synced, &change);
            }
        }
        alive?;
        self.syncs += 1;
        if !self.sync_delay.is_zero() {
            let now = Instant::now();
            self.busy = Some(self.busy.map_or(now, |busy| busy.max(now)) + self.sync_delay);
        }
        Ok(())
    }
}

/// Counts down; whether it is over.
fn burn(left: &mut u64, counts: bool) -> bool {
    let over = counts && *left == 0;
    *left -= u64::from(counts && *left > 0);
    over
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

/// How much of what was not synced survives.
#[derive(Clone, Copy)]
enum Survival {
    Nothing,
    /// Any sector may or may not.
    Some,
    Everything,
}

impl Survival {
    fn of(self, random: &mut StdRng) -> bool {
        match self {
            Survival::Nothing => false,
            Survival::Some => random.random(),
            Survival::Everything => true,
        }
    }
}

/// The disk. Files work on it until it loses power; then all they get is errors.
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk of so many bytes.
    pub fn new(seed: u64, capacity: u64) -> SimDisk {
        SimDisk::of(StdRng::seed_from_u64(seed), capacity)
    }

    fn of(random: StdRng, capacity: u64) -> SimDisk {
        let state = State {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            random,
            fuse: Fuse::Never,
            dead: false,
            capacity,
            no_copies: false,
            fail_syncs: false,
            lie: false,
            sync_delay: Duration::ZERO,
            busy: None,
            syncs: 0,
            full: None,
        };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Lets the power go after so many more operations.
    pub fn die_after(&self, operations: u64) {
        self.set_fuse(Fuse::Operations(operations));
    }

    /// Says when the power goes.
    pub fn set_fuse(&self, fuse: Fuse) {
        self.state.lock().fuse = fuse;
    }

    /// Whether the power is gone.
    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// Changes how much fits on the disk.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Syncs that were done.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Lets all writes, or none, fail for lack of space.
    pub fn set_no_copies(&self, full: bool) {
        self.state.lock().no_copies = full;
    }

    /// Lets all syncs fail from now on.
    pub fn fail_syncs(&self) {
        self.state.lock().fail_syncs = true;
    }

    /// Lets syncs say that they are done, and do nothing: the fault that no store survives.
    pub fn lie_about_syncs(&self) {
        self.state.lock().lie = true;
    }

    /// How long a sync takes. The caller goes on at once: whoever speaks for the member has to wait until
    /// [`SimDisk::busy_until`].
    pub fn set_sync_delay(&self, delay: Duration) {
        self.state.lock().sync_delay = delay;
    }

    /// When the syncs so far are done.
    pub fn busy_until(&self) -> Option<Instant> {
        self.state.lock().busy
    }

    /// Flips a bit of a file, behind everybody's back.
    pub fn flip(&self, path: &Path, at: usize) {
        let mut state = self.state.lock();
        if let Some(inode) = state.names.get(path).copied() {
            state.inodes[inode].now[at] ^= 1;
        }
    }

    /// What is in a file; nothing, if there is none.
    pub fn contents(&self, path: &Path) -> Vec<u8> {
        let state = self.state.lock();
        state.names.get(path).map(|inode| state.inodes[*inode].now.clone()).unwrap_or_default()
    }

    /// Cuts a file off, behind everybody's back.
    pub fn cut(&self, path: &Path, len: usize) {
        let mut state = self.state.lock();
        if let Some(inode) = state.names.get(path).copied() {
            state.inodes[inode].now.truncate(len);
        }
    }

    /// Another disk with the same files, all of it synced. Nobody has them open.
    pub fn copy(&self) -> SimDisk {
        let state = self.state.lock();
        let copy = SimDisk::new(0, state.capacity);
        {
            let mut copied = copy.state.lock();
            let now = |inode: &Inode| Inode {
                now: inode.now.clone(),
                synced: inode.now.clone(),
                ..Inode::default()
            };
            copied.inodes = state.inodes.iter().map(now).collect();
            (copied.names, copied.synced_names) = (state.names.clone(), state.names.clone());
        }
        copy
    }

    /// The disk after the power came back: what was synced, and a random part of the rest. This one is dead.
    pub fn after_power_loss(&self) -> SimDisk {
        let mut state = self.state.lock();
        state.dead = true;
        let State { inodes, synced_names, unsynced_names, random, capacity, lie, .. } = &mut *state;
        let survival = match random.random_range(0..4) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::Some,
        };
        // Names change in order, as in a journal.
        let keep = random.random_range(0..=unsynced_names.len());
        let mut names = synced_names.clone();
        for change in &unsynced_names[..keep] {
            apply_name(&mut names, change);
        }
        let inodes = inodes.iter().map(|inode| survivor(inode, survival, random)).collect();
        let after = SimDisk::of(StdRng::from_rng(random), *capacity);
        {
            let mut state = after.state.lock();
            state.inodes = inodes;
            state.synced_names = names.clone();
            state.names = names;
            state.lie = *lie;
        }
        after
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        state.alive(false)?;
        Ok(state)
    }
}

fn survivor(inode: &Inode, survival: Survival, random: &mut StdRng) -> Inode {
    let mut bytes = inode.synced.clone();
    for change in &inode.unsynced {
        match change {
            Change::SetLen(_) => {
                if survival.of(random) {
                    apply(&mut bytes, change);
                }
            }
            Change::Write(at, data) => {
                for (nth, sector) in data.chunks(SECTOR).enumerate() {
                    if survival.of(random) {
                        apply(&mut bytes, &Change::Write(at + (nth * SECTOR) as u64, sector.to_vec()));
                    }
                }
            }
        }
    }
    Inode { now: bytes.clone(), synced: bytes, unsynced: Vec::new(), locked: false }
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
        let state = Arc::clone(&self.state);
        Ok(Box::new(SimFile { inode, state, holds_lock: AtomicBool::new(false) }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.alive()?;
        Ok(state.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        // Both names may be there after a power loss, never none.
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
        let mut state = self.state.lock();
        state.alive(true)?;
        state.synced_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let state = self.alive()?;
        Ok(state.capacity.saturating_sub(state.used()))
    }
}

struct SimFile {
    inode: usize,
    state: Arc<Mutex<State>>,
    holds_lock: AtomicBool,
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        state.alive(false)?;
        work(&mut state)
    }

    fn change(&self, change: Change) -> io::Result<()> {
        self.with(|state| {
            let len = state.inodes[self.inode].now.len() as u64;
            let grown = match &change {
                Change::SetLen(wanted) => *wanted,
                Change::Write(at, data) => at + data.len() as u64,
            };
            let more = grown.saturating_sub(len);
            if state.no_copies || (more > 0 && state.used() + more > state.capacity) {
                return Err(state.no_space());
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
        self.state.lock().sync(self.inode)
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
            self.state.lock().inodes[self.inode].locked = false;
        }
    }
}
