//! A node, its pods and the outside, each in a network namespace of its own, all in a cgroup of their own.
//!
//! Whatever is made here goes when its value is dropped, also when a test fails. One [`Lab`] exists at a time in a process:
//! the process is in its cgroup.
#![allow(dead_code, unreachable_pub)]

pub mod net;

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;

use carrack_network::{
    Config, Endpoint, Network, NetworkError, PodAddress, PodRef, Protocol, Service, ServicePort,
};
use nix::sched::{CloneFlags, setns, unshare};

static ONE_LAB: Mutex<()> = Mutex::new(());

/// The node's address on the link to the outside.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// A host outside, which knows nothing of pods.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Where control groups of version 2 are: beside those of version 1, or alone.
fn unified() -> &'static Path {
    let trees = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    trees.into_iter().find(|tree| tree.join("cgroup.procs").is_file()).expect("cgroup2 is mounted")
}

/// How much slower this machine is than those that time limits are chosen for: what `CARRACK_SLOW` says.
pub fn slowness() -> u32 {
    std::env::var("CARRACK_SLOW").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1).max(1)
}

/// A network namespace.
#[derive(Clone)]
pub struct Netns(Arc<OwnedFd>);

impl Netns {
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace (are you root?)");
            fs::File::open("/proc/thread-self/ns/net").unwrap().into()
        };
        let namespace = Netns(Arc::new(std::thread::spawn(make).join().unwrap()));
        namespace.ip("link set lo up");
        namespace
    }

    /// A path that leads here as long as this process lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }

    /// Runs `work` here, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&*self.0, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        match std::thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Starts `work` here, on a thread that goes on.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = self.clone();
        std::thread::spawn(move || {
            setns(&*namespace.0, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// Runs a program here; its output.
    pub fn command(&self, program: &str, arguments: &str) -> (bool, String) {
        let output = self.run(|| Command::new(program).args(arguments.split_whitespace()).output().unwrap());
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs ip(8) here, which has to succeed.
    pub fn ip(&self, arguments: &str) -> String {
        let (good, text) = self.command("ip", arguments);
        assert!(good, "ip {arguments}: {text}");
        text
    }

    /// Waits until the kernel has noticed that both ends of a link are up.
    pub fn wait_until_up(&self, link: &str) {
        while !self.ip(&format!("-br link show {link}")).contains(" UP ") {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Runs tc(8) here, which has to succeed.
    pub fn tc(&self, arguments: &str) -> String {
        let (good, text) = self.command("tc", arguments);
        assert!(good, "tc {arguments}: {text}");
        text
    }

    /// The ids of the programs that are filters of an interface, which they are on kernels without tcx.
    pub fn filter_programs(&self, interface: &str) -> BTreeSet<u32> {
        let of = |direction| self.tc(&format!("filter show dev {interface} {direction}"));
        let text = ["ingress", "egress"].map(of).concat();
        let mut words = text.split_whitespace();
        let mut found = BTreeSet::new();
        while words.find(|word| *word == "id").is_some() {
            found.extend(words.next().and_then(|id| id.parse::<u32>().ok()));
        }
        found
    }

    /// Everything that a network could leave behind here.
    pub fn inventory(&self) -> String {
        let parts = ["-br link", "-br addr", "route show table all", "neigh", "rule"];
        let mut parts: Vec<_> = parts.iter().map(|part| format!("{part}:\n{}", self.ip(part))).collect();
        parts.push(format!("qdisc:\n{}", self.tc("qdisc show")));
        // Link-local IPv6 addresses and their routes come a second after their link.
        let is_late = |word: &str| word.starts_with("fe80:") || word.starts_with("ff00:");
        let mut text = String::new();
        for line in parts.iter().flat_map(|part| part.lines()) {
            let route = line.split_whitespace().take(2).any(is_late);
            let words = line.split_whitespace().filter(|word| !route && !is_late(word));
            text += &(words.collect::<Vec<_>>().join(" ") + "\n");
        }
        let mut text: String =
            text.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
        for key in ["ip_forward", "ip_local_reserved_ports", "conf/all/forwarding", "conf/default/forwarding"]
        {
            let value = self.run(|| fs::read_to_string(format!("/proc/sys/net/ipv4/{key}")).unwrap());
            text += &format!("{key}: {value}");
        }
        text
    }
}

/// Where a test takes place.
pub struct Lab {
    pub node: Netns,
    pub outside: Netns,
    pub cgroup: PathBuf,
    pub dir: tempfile::TempDir,
    former: PathBuf,
    _one: MutexGuard<'static, ()>,
}

impl Lab {
    /// A node with an uplink `up0` to the outside.
    pub fn new() -> Self {
        let one = ONE_LAB.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let former = fs::read_to_string("/proc/self/cgroup").unwrap();
        let former = former.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
        let cgroup = unified().join(format!("carrack-test-net-{}", std::process::id()));
        fs::create_dir_all(cgroup.join("pods")).unwrap();
        let lab = Lab {
            node: Netns::new(),
            outside: Netns::new(),
            dir: tempfile::tempdir().unwrap(),
            former: unified().join(former),
            cgroup,
            _one: one,
        };
        fs::write(lab.cgroup.join("pods/cgroup.procs"), std::process::id().to_string()).unwrap();
        let outside = lab.outside.path();
        lab.node.ip(&format!("link add up0 type veth peer name eth0 netns {}", outside.display()));
        lab.node.ip(&format!("addr add {NODE}/24 dev up0"));
        lab.node.ip("link set up0 up");
        lab.outside.ip(&format!("addr add {OUTSIDE}/24 dev eth0"));
        lab.outside.ip("link set eth0 up");
        lab.node.wait_until_up("up0");
        lab
    }

    pub fn config(&self) -> Config {
        Config {
            run_dir: self.dir.path().join("run"),
            state_dir: self.dir.path().join("state"),
            pod_cidr: "10.244.7.0/24".parse().unwrap(),
            node_ip: NODE,
            uplink: Some("up0".into()),
            service_cgroup: self.cgroup.clone(),
            dns_address: DNS,
            cluster_domain: "cluster.local".into(),
            upstream_dns: Vec::new(),
            mtu: None,
        }
    }

    pub fn start(&self) -> Node {
        self.try_start(self.config()).unwrap()
    }

    pub fn try_start(&self, config: Config) -> Result<Node, NetworkError> {
        Node::start(&self.node, config)
    }

    pub fn purge(&self, config: &Config) -> Result<(), NetworkError> {
        self.node.run(|| Network::purge(config))
    }

    /// Moves this process out of the cgroup whose sockets reach services, and back in.
    pub fn outside_of_cgroup<T>(&self, work: impl FnOnce() -> T) -> T {
        let id = std::process::id().to_string();
        fs::write(self.former.join("cgroup.procs"), &id).unwrap();
        let value = work();
        fs::write(self.cgroup.join("pods/cgroup.procs"), &id).unwrap();
        value
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let result = self.node.run(|| Network::purge(&self.config()));
        let _ = fs::write(self.former.join("cgroup.procs"), std::process::id().to_string());
        let removed = [self.cgroup.join("pods"), self.cgroup.clone()].map(fs::remove_dir);
        if !std::thread::panicking() {
            result.unwrap();
            removed.into_iter().collect::<io::Result<()>>().unwrap();
        }
    }
}

/// The network of the node: a process of its own in all but name, whose threads are all in the node's namespace.
pub struct Node {
    handle: tokio::runtime::Handle,
    pub network: Arc<Network>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn start(namespace: &Netns, config: Config) -> Result<Self, NetworkError> {
        let (started, starts) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let handle = tokio::runtime::Handle::current();
                match Network::start(config).await {
                    Ok(network) => {
                        let network = Arc::new(network);
                        started.send(Ok((handle, network.clone()))).unwrap();
                        let _ = stopped.await;
                        network.stop().await;
                    }
                    Err(error) => started.send(Err(error)).unwrap(),
                }
            });
        });
        let (handle, network) = starts.recv().unwrap()?;
        Ok(Node { handle, network, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs a call of the network on its own threads.
    pub fn call<T, F>(&self, call: impl FnOnce(Arc<Network>) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (answer, answers) = mpsc::channel();
        let network = self.network.clone();
        self.handle.spawn(async move { answer.send(call(network).await).unwrap() });
        answers.recv().unwrap()
    }

    pub fn set_services(&self, services: Vec<Service>) {
        self.call(|network| async move { network.set_services(services).await }).unwrap();
    }

    pub fn attach(&self, id: &str, netns: &Netns) -> PodAddress {
        let (pod, path) = (pod_ref(id), netns.path());
        self.call(|network| async move { network.attach(&pod, &path).await }).unwrap()
    }

    pub fn detach(&self, id: &str) {
        let id = id.to_owned();
        self.call(|network| async move { network.detach(&id).await }).unwrap();
    }

    /// A pod in a new namespace.
    pub fn pod(&self, id: &str) -> Pod {
        let netns = Netns::new();
        let address = self.attach(id, &netns);
        Pod { ip: address.ip, address, netns }
    }

    pub fn counter(&self, name: &str) -> u64 {
        let stats = self.network.stats();
        let found = stats.counters.iter().find(|(counter, _)| *counter == name);
        found.unwrap_or_else(|| panic!("no counter {name}")).1
    }

    /// Stops it as the end of its process would.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shut_down();
    }
}

pub struct Pod {
    pub ip: Ipv4Addr,
    pub address: PodAddress,
    pub netns: Netns,
}

pub fn pod_ref(id: &str) -> PodRef {
    PodRef { id: id.into(), namespace: "default".into(), name: format!("pod-{id}") }
}

pub fn endpoint(ip: Ipv4Addr, port: u16) -> Endpoint {
    Endpoint {
        address: ip.into(),
        port,
        ready: true,
        serving: true,
        terminating: false,
        hostname: None,
        node: None,
        local: true,
    }
}

pub fn port(protocol: Protocol, port: u16, node_port: Option<u16>, endpoints: Vec<Endpoint>) -> ServicePort {
    ServicePort { name: None, protocol, port, node_port, endpoints }
}

pub fn service(name: &str, ip: &str, ports: Vec<ServicePort>) -> Service {
    Service {
        namespace: "default".into(),
        name: name.into(),
        cluster_ips: ip.parse().into_iter().collect(),
        headless: ip.is_empty(),
        external_name: None,
        session_affinity_seconds: None,
        publish_not_ready: false,
        ports,
    }
}

/// The network of another node.
pub fn start_in(namespace: &Netns, config: Config) -> Result<Node, NetworkError> {
    Node::start(namespace, config)
}
