//! The world of a run: machines with disks, the members on them, the network, and the book.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use carrack_store::{
    Blocking, InitialClusterState, InitialMember, OpenError, Options, RaftRuntime, Random, Store,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::book::Book;
use crate::disk::{Fuse, SimDisk};
use crate::network::{Life, Network, Node, url};
use crate::plan::Setup;
use crate::trace::Trace;
use crate::watchdog::Watchdog;

/// How long a store may take to stop, whatever happened to it.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How soon a machine notices that its power is gone, or a member that it could not be opened.
const NOTICE: Duration = Duration::from_millis(20);

/// A machine.
struct Machine {
    disk: Arc<SimDisk>,
    /// Whether its member was added to the cluster later.
    joins: bool,
    /// Whether its member may have been removed from the cluster.
    may_be_removed: bool,
    /// Whether it is to run.
    wanted: bool,
    /// Counts starts that were overtaken by something else.
    turn: u64,
    /// Held while its member runs, so that there is never a second one.
    running: Arc<tokio::sync::Mutex<()>>,
}

/// The world. Shared by all tasks of a run.
pub struct World {
    /// What the seed decided.
    pub setup: Setup,
    /// What happens.
    pub trace: Arc<Trace>,
    /// The ways between machines.
    pub network: Network,
    /// What must always hold.
    pub watchdog: Arc<Watchdog>,
    /// What was seen.
    pub book: Mutex<Book>,
    /// Becomes true when watchers are to end.
    pub over: watch::Sender<bool>,
    machines: Mutex<BTreeMap<Node, Machine>>,
    lives: Mutex<u64>,
}

impl World {
    /// A world with machines that do not run yet.
    pub fn new(setup: Setup, trace: Arc<Trace>) -> Arc<World> {
        let watchdog = Arc::new(Watchdog::default());
        let network = Network::new(setup.seed, Arc::clone(&trace), Arc::clone(&watchdog));
        let world = World {
            trace,
            network,
            watchdog,
            book: Mutex::default(),
            over: watch::Sender::new(false),
            machines: Mutex::default(),
            lives: Mutex::new(0),
            setup,
        };
        (0..world.setup.members).for_each(|node| world.add_machine(node, false));
        Arc::new(world)
    }

    /// Puts up a machine with an empty disk.
    pub fn add_machine(&self, node: Node, joins: bool) {
        let disk = Arc::new(SimDisk::new(self.setup.seed ^ (node as u64) << 32, u64::MAX));
        if self.setup.broken.lying_disks {
            disk.lie_about_syncs();
        }
        self.machines.lock().insert(
            node,
            Machine { disk, joins, may_be_removed: false, wanted: false, turn: 0, running: Arc::default() },
        );
    }

    /// All machines.
    pub fn nodes(&self) -> Vec<Node> {
        self.machines.lock().keys().copied().collect()
    }

    /// The machines with a living member.
    pub fn alive(&self) -> Vec<Node> {
        self.nodes().into_iter().filter(|node| self.network.life(*node).is_some()).collect()
    }

    /// The machine whose member leads, as far as any knows.
    pub fn leader(&self) -> Option<Node> {
        self.alive()
            .into_iter()
            .find(|node| self.network.life(*node).is_some_and(|life| life.store.is_leader()))
    }

    /// A machine's disk.
    pub fn disk(&self, node: Node) -> Option<Arc<SimDisk>> {
        self.machines.lock().get(&node).map(|machine| Arc::clone(&machine.disk))
    }

    /// Starts a member, and starts it again whenever its power was lost, until [`World::stop`].
    pub fn start(self: &Arc<World>, node: Node) {
        let (turn, running) = {
            let mut machines = self.machines.lock();
            let Some(machine) = machines.get_mut(&node) else { return };
            machine.wanted = true;
            machine.turn += 1;
            (machine.turn, Arc::clone(&machine.running))
        };
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let _alone = running.lock().await;
            world.keep_running(node, turn).await;
        });
    }

    /// Whether this start is still the one that counts.
    fn is_wanted(&self, node: Node, turn: u64) -> bool {
        self.machines.lock().get(&node).is_some_and(|machine| machine.wanted && machine.turn == turn)
    }

    async fn keep_running(self: Arc<World>, node: Node, turn: u64) {
        while self.is_wanted(node, turn) {
            match self.open(node).await {
                Ok(life) => self.live(node, turn, life).await,
                Err(error) => {
                    self.judge_open(node, &error);
                    sleep(NOTICE * 10).await;
                }
            }
            if self.disk(node).is_some_and(|disk| disk.is_dead()) {
                self.trace.event(format_args!("m{node} lost power"));
                self.network.end(node);
                sleep(self.setup.reboot).await;
                self.power_on(node);
            }
        }
    }

    /// An error at opening is right only if the disk is dead or full, or if nobody knows the new member yet.
    fn judge_open(&self, node: Node, error: &OpenError) {
        self.trace.event(format_args!("m{node} does not open: {error}"));
        let Some(disk) = self.disk(node) else { return };
        let full =
            matches!(error, OpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull);
        let joining = matches!(error, OpenError::NotReady(_));
        if !disk.is_dead() && !full && !joining {
            self.watchdog.report(format!("m{node} does not open: {error}"));
        }
    }

    async fn open(&self, node: Node) -> Result<Life, OpenError> {
        let number = {
            let mut lives = self.lives.lock();
            *lives += 1;
            *lives
        };
        let (disk, joins) = {
            let machines = self.machines.lock();
            let machine = machines.get(&node).ok_or_else(|| OpenError::NotReady("no machine".to_owned()))?;
            (Arc::clone(&machine.disk), machine.joins)
        };
        let options = self.options(node, number, joins, &disk);
        self.network.prepare(node, number, &disk);
        let store = Store::open(options).await?;
        self.trace.event(format_args!("m{node} starts life {number}, revision {}", store.revision()));
        Ok(Life { number, disk, store })
    }

    fn options(&self, node: Node, life: u64, joins: bool, disk: &Arc<SimDisk>) -> Options {
        let setup = &self.setup;
        let member = |node: Node| InitialMember { name: format!("m{node}"), peer_urls: vec![url(node)] };
        let mut options = Options::new("/store");
        options.segment_bytes = 1 << 20;
        options.max_request_bytes = 64 << 10;
        options.cache_bytes = 1 << 16;
        options.checkpoint_changes = setup.checkpoint_changes;
        options.checkpoint_age = Duration::from_secs(5);
        options.window_revisions = setup.window_revisions;
        options.log_keep_entries = setup.log_keep_entries;
        options.heartbeat = setup.heartbeat;
        options.election = setup.heartbeat * 10;
        options.request_timeout = Duration::from_secs(2);
        options.name = format!("m{node}");
        options.initial_cluster = match joins {
            false => (0..setup.members).map(member).collect(),
            true => self.nodes().into_iter().map(member).collect(),
        };
        if joins {
            options.initial_cluster_state = InitialClusterState::Existing;
        }
        options.transport = Some(Arc::new(self.network.link(node, life)));
        options.raft_runtime = RaftRuntime::Current;
        options.blocking = Blocking::Inline;
        options.random = Random::seeded(setup.seed.wrapping_mul(31).wrapping_add(life));
        options.disk = Arc::clone(disk) as _;
        options
    }

    /// A life, until its power is gone or someone stops it.
    async fn live(self: &Arc<World>, node: Node, turn: u64, life: Life) {
        let Life { number, disk, store } = life.clone();
        self.network.begin(node, life);
        crate::observer::record(self, node, number, &store);
        loop {
            sleep(NOTICE).await;
            if disk.is_dead() || !self.is_wanted(node, turn) {
                break;
            }
            if let Some(why) = store.status().failed.filter(|_| !disk.is_dead()) {
                if self.is_removed(node, &why) {
                    let world = Arc::clone(self);
                    tokio::spawn(async move { world.remove_machine(node).await });
                    break;
                }
                self.watchdog.report(format!("m{node} failed, though nothing is wrong with its disk: {why}"));
                disk.set_fuse(Fuse::Operations(0));
                break;
            }
        }
        if disk.is_dead() {
            self.network.end(node);
            self.bury(node, store);
            return;
        }
        self.trace.event(format_args!("m{node} stops"));
        if timeout(STOP_LIMIT, store.shutdown()).await.is_err() {
            self.watchdog.report(format!("m{node} does not stop"));
        }
        self.network.end(node);
    }

    /// What is left of a member without power has to come to its end, and to nothing else.
    fn bury(&self, node: Node, store: Store) {
        let watchdog = Arc::clone(&self.watchdog);
        tokio::spawn(async move {
            if timeout(STOP_LIMIT, store.shutdown()).await.is_err() {
                watchdog.report(format!("m{node} does not stop after its disk was gone"));
            }
        });
    }

    /// Gives a machine its power back: what was not synced may be lost.
    fn power_on(&self, node: Node) {
        let mut machines = self.machines.lock();
        if let Some(machine) = machines.get_mut(&node).filter(|machine| machine.disk.is_dead()) {
            machine.disk = Arc::new(machine.disk.after_power_loss());
        }
    }

    /// Lets a machine's power go.
    pub fn crash(&self, node: Node, fuse: Fuse) {
        if let Some(disk) = self.disk(node) {
            self.trace.event(format_args!("m{node} will lose power: {fuse:?}"));
            disk.set_fuse(fuse);
            if fuse == Fuse::Operations(0) {
                // Any operation: the power goes now, not when the disk is needed next.
                let _ = carrack_store::disk::Disk::list(disk.as_ref(), std::path::Path::new("/"));
            }
        }
    }

    /// Stops a member in order; returns once it has stopped.
    pub async fn stop(&self, node: Node) {
        let running = {
            let mut machines = self.machines.lock();
            let Some(machine) = machines.get_mut(&node) else { return };
            machine.wanted = false;
            Arc::clone(&machine.running)
        };
        drop(running.lock().await);
        self.trace.event(format_args!("m{node} has stopped"));
    }

    /// Whether somebody asks for the removal of a member, or asked and was not told whether it is out. Gives what was known
    /// before.
    pub fn may_be_removed(&self, node: Node, may: bool) -> bool {
        let mut machines = self.machines.lock();
        machines.get_mut(&node).is_some_and(|machine| std::mem::replace(&mut machine.may_be_removed, may))
    }

    /// Whether a member that stopped working does so because it was removed, as somebody asked for.
    fn is_removed(&self, node: Node, why: &str) -> bool {
        why.contains("was removed from the cluster")
            && self.machines.lock().get(&node).is_some_and(|machine| machine.may_be_removed)
    }

    /// Takes a machine away for good.
    pub async fn remove_machine(&self, node: Node) {
        self.stop(node).await;
        self.machines.lock().remove(&node);
    }
}
