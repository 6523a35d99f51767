//! [`Network`]: starts the parts and joins them.

use std::collections::HashSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use carrack_ebpf_abi::Settings;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::bpf::{self, Hooks, Setup};
use crate::dns::{self, Resolver, zone::Zone};
use crate::error::{AttachError, NetworkError};
use crate::host;
use crate::ipam::{Ipam, file_error, is_good_id};
use crate::link::{LinkState, Links, Plan, link_name, mac_text, netlink::Netlink};
use crate::resolv::{ClusterResolver, HostResolver, resolv_conf};
use crate::saved;
use crate::services::{self, NodePorts, Services};
use crate::sys;
use crate::types::{Config, DnsConfig, DnsPolicy, PodAddress, PodRef, Service, Stats};

/// MTU of pods' links where nothing says otherwise.
const DEFAULT_MTU: u32 = 1500;
/// MTU limits of a link that carries IPv4.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 576..=65_535;
/// How many pods' links can be worked on at once.
const LANES: usize = 64;

/// The network of this node, running.
pub struct Network {
    config: Arc<Config>,
    host_resolver: HostResolver,
    pods: Arc<Pods>,
    services: Arc<Mutex<Services>>,
    /// Tells the collector that something is due sooner or for the first time.
    retired: Arc<Notify>,
    resolver: Arc<Resolver>,
    tables: Mutex<Option<watch::Sender<Option<saved::Table>>>>,
    tasks: Mutex<Option<Tasks>>,
}

/// What runs until [`Network::stop`].
struct Tasks {
    running: JoinSet<()>,
    writer: JoinHandle<()>,
}

/// Pods' addresses and links.
struct Pods {
    links: Links,
    ipam: Mutex<Ipam>,
    mtu: u32,
    /// One pod's link is worked on by one thread at a time; which lane a pod has follows from its id.
    lanes: [Mutex<()>; LANES],
    hasher: RandomState,
}

impl Network {
    /// Brings the network up, taking over what an earlier process left in place. Has to be called in the host's network
    /// namespace, by root.
    pub async fn start(config: Config) -> Result<Network, NetworkError> {
        let config = Arc::new(config);
        let prepared = config.clone();
        let (pods, services) = blocking(move || prepare(&prepared)).await?;
        let resolver =
            Arc::new(Resolver::new(&config.cluster_domain, &config.upstream_dns, config.dns_address));
        if let Some(services) = saved::read(&config.state_dir) {
            resolver.set_zone(zone(&config, &services));
        }
        let services = Arc::new(Mutex::new(services));
        let retired = Arc::new(Notify::new());
        let mut running = dns::serve(resolver.clone()).await?;
        running.spawn(collect(services.clone(), retired.clone()));
        let (tables, receiver) = watch::channel(None);
        let writer = tokio::spawn(saved::keep_writing(config.state_dir.clone(), receiver));
        Ok(Network {
            host_resolver: HostResolver::read(),
            pods: Arc::new(pods),
            services,
            retired,
            resolver,
            tables: Mutex::new(Some(tables)),
            tasks: Mutex::new(Some(Tasks { running, writer })),
            config,
        })
    }

    /// Gives the pod whose network namespace is at `netns` an address and a link. The same id gets the same address,
    /// also after a restart; calling again repairs what is missing, or moves the link to another namespace.
    pub async fn attach(&self, pod: &PodRef, netns: &Path) -> Result<PodAddress, AttachError> {
        let (pods, pod, netns) = (self.pods.clone(), pod.clone(), netns.to_owned());
        blocking(move || pods.attach(&pod, &netns)).await
    }

    /// Takes the pod's link away and frees its address. Succeeds if there is neither.
    pub async fn detach(&self, id: &str) -> Result<(), NetworkError> {
        let (pods, id) = (self.pods.clone(), id.to_owned());
        blocking(move || pods.detach(&id)).await
    }

    /// Detaches every pod whose id is not in `ids`: what a crash may have left.
    pub async fn retain(&self, ids: &HashSet<String>) -> Result<(), NetworkError> {
        let (pods, ids) = (self.pods.clone(), ids.clone());
        blocking(move || pods.retain(&ids)).await
    }

    /// Makes `services` the whole table of services. Writes only what differs from the current one; connections that are
    /// made meanwhile get back ends of the old table or of the new one. After an error the same call may be made again.
    pub async fn set_services(&self, services: Vec<Service>) -> Result<(), NetworkError> {
        let (config, maps) = (self.config.clone(), self.services.clone());
        let resolver = self.resolver.clone();
        let services = Arc::new(services);
        let table = services.clone();
        let due = blocking(move || {
            let ports = services::ports(&table, config.dns_address, dns::SERVER);
            let due = maps.lock().set(&ports)?;
            resolver.set_zone(zone(&config, &table));
            Ok::<_, NetworkError>(due)
        });
        if due.await?.is_some() {
            self.retired.notify_one();
        }
        if let Some(tables) = self.tables.lock().as_ref() {
            tables.send_replace(Some(services));
        }
        Ok(())
    }

    /// The content of the `/etc/resolv.conf` of a pod in `namespace`.
    pub fn resolv_conf(&self, namespace: &str, policy: DnsPolicy, extra: &DnsConfig) -> String {
        let cluster = ClusterResolver {
            dns_address: self.config.dns_address,
            domain: &self.config.cluster_domain,
            upstream: &self.config.upstream_dns,
        };
        resolv_conf(&cluster, &self.host_resolver, namespace, policy, extra)
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let services = self.services.lock();
        let (frontends, backends) = services.size();
        let (addresses_used, addresses_free) = self.pods.ipam.lock().pool().usage();
        Stats {
            counters: services.counters(),
            addresses_used,
            addresses_free,
            frontends,
            backends,
            dns_queries: self.resolver.queries(),
        }
    }

    /// Stops answering DNS; everything else stays in place for the next start.
    pub async fn stop(&self) {
        self.tables.lock().take();
        let tasks = self.tasks.lock().take();
        if let Some(mut tasks) = tasks {
            tasks.running.shutdown().await;
            if let Err(error) = tasks.writer.await {
                tracing::warn!(%error, "services were not saved");
            }
        }
    }

    /// Removes everything the network made on this host: programs, links with their routes, addresses, settings, records. Has to
    /// be called in the host's network namespace, after [`Network::stop`]. Succeeds if there is nothing.
    pub fn purge(config: &Config) -> Result<(), NetworkError> {
        let netlink = |action: &str| {
            let action = action.to_owned();
            move |source| NetworkError::Netlink { action, source }
        };
        let bpffs = host::bpffs_path(&config.run_dir);
        bpf::remove_all(&bpffs, &config.state_dir)?;
        host::unmount_bpffs(&config.run_dir)?;
        for link in Links::list().map_err(netlink("list links"))? {
            Links::remove_named(&link).map_err(netlink(&format!("remove {link}")))?;
        }
        Links::remove_local_address(dns::SERVER.0).map_err(netlink("remove the DNS address"))?;
        host::restore_settings(&config.state_dir)?;
        for file in [Ipam::path(&config.state_dir), saved::path(&config.state_dir)] {
            host::remove_file(&file)?;
        }
        Ok(())
    }
}

/// All that is done before the first task: everything the kernel has to know.
fn prepare(config: &Config) -> Result<(Pods, Services), NetworkError> {
    let netlink = |action: &str| {
        let action = action.to_owned();
        move |source| NetworkError::Netlink { action, source }
    };
    for dir in [&config.run_dir, &config.state_dir] {
        fs::create_dir_all(dir).map_err(file_error("create", dir))?;
    }
    let ipam = Ipam::open(&config.state_dir, config.pod_cidr)?;
    let uplink = find_uplink(config)?;
    let mtu = config.mtu.or(uplink.as_ref().map(|link| link.mtu)).unwrap_or(DEFAULT_MTU);
    if !MTU_RANGE.contains(&mtu) {
        return Err(NetworkError::Config(format!("an MTU of {mtu} is out of range ({MTU_RANGE:?})")));
    }
    Links::add_local_address(dns::SERVER.0).map_err(netlink("give lo the DNS address"))?;
    let links = Links::open(config.node_ip).map_err(netlink("read the addresses of this host"))?;
    if let Some(uplink) = &uplink {
        host::prepare_uplink(&config.state_dir, &uplink.name)?;
    }
    let bpffs = host::mount_bpffs(&config.run_dir)?;
    let setup = setup(config, uplink.as_ref())?;
    let uplink = uplink.as_ref().map(|link| (link.name.as_str(), link.index));
    let hooks = Hooks { cgroup: &config.service_cgroup, uplink, state_dir: &config.state_dir };
    let maps = bpf::install(&bpffs, &setup, &hooks)?;
    let pods = Pods {
        links,
        ipam: Mutex::new(ipam),
        mtu,
        lanes: [const { Mutex::new(()) }; LANES],
        hasher: RandomState::new(),
    };
    Ok((pods, Services::adopt(maps)?))
}

fn find_uplink(config: &Config) -> Result<Option<LinkState>, NetworkError> {
    let Some(name) = &config.uplink else { return Ok(None) };
    let found = Links::find(name)
        .map_err(|source| NetworkError::Netlink { action: format!("look at uplink {name}"), source })?;
    match found {
        Some(link) => Ok(Some(link)),
        None => Err(NetworkError::Config(format!("there is no interface {name} to use as uplink"))),
    }
}

/// What the programs are told of this node.
fn setup(config: &Config, uplink: Option<&LinkState>) -> Result<Setup, NetworkError> {
    let failed = |source| NetworkError::Netlink { action: "read this host's addresses".into(), source };
    let socket = Netlink::open().map_err(failed)?;
    let outward = |ip: &Ipv4Addr| !ip.is_loopback() && *ip != dns::SERVER.0;
    let mut node_addresses: Vec<_> =
        Links::addresses().map_err(failed)?.into_iter().filter(outward).collect();
    if outward(&config.node_ip) && !node_addresses.contains(&config.node_ip) {
        node_addresses.push(config.node_ip);
    }
    let NodePorts { min, max } = NodePorts::default();
    let word = |ip: Ipv4Addr| u32::from_ne_bytes(ip.octets());
    let settings = Settings {
        host_netns_cookie: sys::netns_cookie(&socket).map_err(failed)?,
        node_address: word(config.node_ip),
        pod_network: word(config.pod_cidr.network()),
        pod_mask: word(config.pod_cidr.netmask()),
        uplink_header: if uplink.is_none_or(|link| link.ethernet) { 14 } else { 0 },
        nat_port_min: host::NAT_PORTS.0,
        nat_port_max: host::NAT_PORTS.1,
        node_port_min: min,
        node_port_max: max,
    };
    Ok(Setup { settings, node_addresses, native: vec![config.pod_cidr.trunc()] })
}

impl Pods {
    fn lane(&self, id: &str) -> MutexGuard<'_, ()> {
        let index = usize::try_from(self.hasher.hash_one(id)).unwrap_or(0) % LANES;
        // The index is within the array.
        self.lanes.get(index).unwrap_or(&self.lanes[0]).lock()
    }

    fn attach(&self, pod: &PodRef, netns: &Path) -> Result<PodAddress, AttachError> {
        if !is_good_id(&pod.id) {
            return Err(AttachError::BadId(pod.id.clone()));
        }
        let _lane = self.lane(&pod.id);
        let ip = {
            let mut ipam = self.ipam.lock();
            let used = ipam.pool().usage().0;
            ipam.allocate(&pod.id)?
                .ok_or_else(|| AttachError::Exhausted { cidr: ipam.pool().cidr(), used })?
        };
        let plan = Plan::new(pod, ip, self.mtu);
        self.links.ensure(&plan, netns)?;
        Ok(PodAddress { ip, mac: mac_text(plan.pod_mac), host_link: plan.host_link, mtu: plan.mtu })
    }

    /// The link goes before the address is free: nobody else may have it while packets still come from the old place.
    fn detach(&self, id: &str) -> Result<(), NetworkError> {
        let _lane = self.lane(id);
        Links::remove(id)
            .map_err(|source| NetworkError::Netlink { action: format!("remove the link of {id}"), source })?;
        self.ipam.lock().release(id)
    }

    fn retain(&self, ids: &HashSet<String>) -> Result<(), NetworkError> {
        let known = self.ipam.lock().ids();
        for id in known.iter().filter(|id| !ids.contains(*id)) {
            self.detach(id)?;
        }
        let kept: HashSet<String> = ids.iter().map(|id| link_name(id)).collect();
        let links =
            Links::list().map_err(|source| NetworkError::Netlink { action: "list links".into(), source })?;
        for link in links.iter().filter(|link| !kept.contains(*link)) {
            Links::remove_named(link)
                .map_err(|source| NetworkError::Netlink { action: format!("remove {link}"), source })?;
        }
        Ok(())
    }
}

fn zone(config: &Config, services: &[Service]) -> Zone {
    Zone::new(&config.cluster_domain, config.dns_address, config.pod_cidr, services)
}

/// Deletes what services no longer name, when it is due.
async fn collect(services: Arc<Mutex<Services>>, retired: Arc<Notify>) {
    loop {
        let due = services.lock().next_due();
        match due {
            None => retired.notified().await,
            Some(due) => {
                tokio::time::sleep_until(due.into()).await;
                if let Err(error) = services.lock().collect(Instant::now()) {
                    tracing::warn!(%error, "old entries of services stay until the next start");
                }
            }
        }
    }
}

/// Runs system calls on a thread where they may block.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<NetworkError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(NetworkError::Task(error.to_string()).into()),
    }
}
