//! What a seed decides before a run begins: how many members, how much they keep, which faults come when.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::disk::Fuse;
use crate::network::Weather;

/// What is broken on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    /// Disks say that they have synced, and have not.
    pub lying_disks: bool,
    /// The network acknowledges entries that it does not hand over.
    pub false_answers: bool,
    /// Members answer linearizable reads from what they have.
    pub stale_reads: bool,
    /// Holders of leases believe that they have twice the time.
    pub long_leases: bool,
}

/// What a seed decides.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Members at the start.
    pub members: usize,
    /// Clients.
    pub clients: usize,
    /// Calls of each client.
    pub calls: usize,
    /// The longest time between two calls of a client.
    pub think: Duration,
    /// Keys that clients use.
    pub keys: usize,
    /// Changes after which a member writes a checkpoint.
    pub checkpoint_changes: usize,
    /// Revisions in the window of watchers.
    pub window_revisions: usize,
    /// Applied entries that the log keeps.
    pub log_keep_entries: u64,
    /// The time between heartbeats.
    pub heartbeat: Duration,
    /// How long a machine is without power.
    pub reboot: Duration,
    /// The faults, each so long after the one before.
    pub faults: Vec<(Duration, Fault)>,
    /// What is broken on purpose.
    pub broken: Broken,
}

/// Which machine a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The one that leads.
    Leader,
    /// This one of those that are there, counted around.
    Any(usize),
}

/// A shape of partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One machine is cut off.
    Isolate(Whom),
    /// Two sides; the bits say who is where.
    Split(u32),
    /// Two sides that only one machine can talk to both of.
    Bridge(Whom),
    /// Nothing comes out of one machine.
    Mute(Whom),
    /// Nothing comes in.
    Deaf(Whom),
    /// One way only, for one pair.
    OneWay(usize, usize),
}

/// Something that happens to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Power loss.
    Crash(Whom, Fuse),
    /// All lose power.
    Blackout(Fuse),
    /// An orderly stop, and a start after this time.
    Restart(Whom, Duration),
    /// A partition for this time.
    Partition(Shape, Duration),
    /// Bad weather for this time.
    Weather(Weather, Duration),
    /// Syncs take so long, for this time.
    SlowDisk(Whom, Duration, Duration),
    /// The disk is full for this time.
    FullDisk(Whom, Duration),
    /// Nothing comes in or goes out for this time, and everything then.
    Freeze(Whom, Duration),
    /// All clocks jump.
    Jump(Duration),
    /// Leadership is handed over.
    Transfer(usize),
    /// History is forgotten up to so many revisions before the newest.
    Compact(i64),
    /// A member is added; whether as a learner that somebody promotes later.
    Add(bool),
    /// A learner gets a vote.
    Promote,
    /// A member is removed.
    Remove(Whom),
}

impl Setup {
    /// What this seed decides.
    pub fn of(seed: u64, broken: Broken) -> Setup {
        let mut random = StdRng::seed_from_u64(seed);
        let random = &mut random;
        let members = [3, 3, 3, 3, 3, 5, 5, 1][random.random_range(0..8)];
        let heartbeat = Duration::from_millis(random.random_range(30..120));
        let count = random.random_range(2..9);
        let kinds: Vec<u32> = (0..random.random_range(1..6)).map(|_| random.random_range(0..KINDS)).collect();
        let faults = (0..count).map(|_| {
            let pause = Duration::from_millis(random.random_range(50..2000));
            let kind = kinds[random.random_range(0..kinds.len())];
            (pause, fault(random, kind, heartbeat))
        });
        let faults = faults.collect();
        Setup {
            seed,
            members,
            clients: random.random_range(2..6),
            calls: random.random_range(30..90),
            think: Duration::from_millis(random.random_range(1..200)),
            keys: random.random_range(2..10),
            checkpoint_changes: random.random_range(10..200),
            window_revisions: random.random_range(4..64),
            log_keep_entries: random.random_range(0..60),
            heartbeat,
            reboot: Duration::from_millis(random.random_range(20..2000)),
            faults,
            broken,
        }
    }

    /// One of the keys.
    pub fn key(&self, random: &mut StdRng) -> String {
        format!("k{}", random.random_range(0..self.keys))
    }
}

/// Kinds of faults that [`fault`] knows.
const KINDS: u32 = 12;

fn fault(random: &mut StdRng, kind: u32, heartbeat: Duration) -> Fault {
    let long = heartbeat * random.random_range(2..80);
    match kind {
        0 | 1 => Fault::Crash(whom(random), fuse(random)),
        2 => Fault::Blackout(fuse(random)),
        3 => Fault::Restart(whom(random), long),
        4 | 5 => Fault::Partition(shape(random), long),
        6 => Fault::Weather(weather(random), long),
        7 if random.random() => {
            Fault::SlowDisk(whom(random), Duration::from_millis(random.random_range(1..400)), long)
        }
        7 => Fault::FullDisk(whom(random), long),
        8 => Fault::Freeze(whom(random), long),
        9 if random.random() => Fault::Jump(long),
        9 => Fault::Transfer(random.random_range(0..16)),
        10 => Fault::Compact(random.random_range(0..40)),
        _ => match random.random_range(0..5) {
            0 => Fault::Add(false),
            1 | 2 => Fault::Add(true),
            3 => Fault::Promote,
            _ => Fault::Remove(whom(random)),
        },
    }
}

fn whom(random: &mut StdRng) -> Whom {
    if random.random() { Whom::Leader } else { Whom::Any(random.random_range(0..16)) }
}

fn fuse(random: &mut StdRng) -> Fuse {
    match random.random_range(0..4) {
        0 => Fuse::Operations(0),
        1 => Fuse::Operations(random.random_range(0..100)),
        _ => Fuse::Syncs(random.random_range(0..8)),
    }
}

fn shape(random: &mut StdRng) -> Shape {
    match random.random_range(0..6) {
        0 => Shape::Isolate(whom(random)),
        1 => Shape::Split(random.random()),
        2 => Shape::Bridge(whom(random)),
        3 => Shape::Mute(whom(random)),
        4 => Shape::Deaf(whom(random)),
        _ => Shape::OneWay(random.random_range(0..16), random.random_range(0..16)),
    }
}

fn weather(random: &mut StdRng) -> Weather {
    let longest = [1, 5, 50, 300][random.random_range(0..4)];
    Weather {
        delay: (Duration::from_millis(1), Duration::from_millis(longest)),
        lost: [0, 10, 100, 300][random.random_range(0..4)],
        doubled: [0, 50, 300][random.random_range(0..3)],
    }
}
