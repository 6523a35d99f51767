//! The Node object: registers it, keeps its status true, and renews the lease that says the node is alive.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::options::Options;
use crate::pressure::Pressure;

/// How long a lease says that the node lives, in seconds; it is renewed four times as often.
const LEASE_SECONDS: i32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// The version that the node says it is: that of the API it speaks.
pub(crate) const KUBELET_VERSION: &str = concat!("v1.35.0+carrack-", env!("CARGO_PKG_VERSION"));

/// What the machine is and has, read once.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    info: NodeSystemInfo,
    /// Its memory, in bytes.
    pub memory: u64,
    capacity: BTreeMap<String, Quantity>,
    allocatable: BTreeMap<String, Quantity>,
}

impl Machine {
    /// Reads it from /proc, /etc and the data directory's file system.
    pub(crate) fn read(options: &Options) -> std::io::Result<Self> {
        let memory = memory_bytes()?;
        let cpus = std::thread::available_parallelism()?.get();
        let disk = nix::sys::statvfs::statvfs(&options.place.data_dir)?;
        let disk = disk.blocks() * disk.fragment_size();
        let resources = |memory: u64, disk: u64| {
            BTreeMap::from([
                ("cpu".to_owned(), Quantity(cpus.to_string())),
                ("memory".to_owned(), Quantity(format!("{}Ki", memory / 1024))),
                ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", disk / 1024))),
                ("pods".to_owned(), Quantity(options.max_pods.to_string())),
            ])
        };
        let (memory_left, disk_left) = options.eviction_hard.usable(memory, disk);
        let (capacity, allocatable) = (resources(memory, disk), resources(memory_left, disk_left));
        Ok(Self { info: system_info()?, memory, capacity, allocatable })
    }

    /// What pods can be given: all but what has to stay free before the node counts as under pressure.
    pub(crate) fn allocatable(&self) -> &BTreeMap<String, Quantity> {
        &self.allocatable
    }
}

fn memory_bytes() -> std::io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().map_err(std::io::Error::other)?;
    Ok(kib * 1024)
}

fn system_info() -> std::io::Result<NodeSystemInfo> {
    let trimmed = |path: &str| std::fs::read_to_string(path).map(|s| s.trim().to_owned());
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os =
        release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"');
    Ok(NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: trimmed("/proc/sys/kernel/random/boot_id")?,
        container_runtime_version: format!("carrack://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: trimmed("/proc/sys/kernel/osrelease")?,
        kubelet_version: KUBELET_VERSION.to_owned(),
        kube_proxy_version: String::new(),
        machine_id: trimmed("/etc/machine-id").unwrap_or_default(),
        operating_system: "linux".to_owned(),
        os_image: os.to_owned(),
        system_uuid: trimmed("/sys/class/dmi/id/product_uuid").unwrap_or_default(),
        ..NodeSystemInfo::default()
    })
}

/// The architecture in Go's words.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Makes the Node object, or finds it; an object that others have labelled is left as it is.
pub(crate) async fn register(api: &Api<Node>, options: &Options) -> Result<Node, kube::Error> {
    let own = [
        ("kubernetes.io/hostname", options.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ];
    let mut labels = options.labels.clone();
    labels.extend(own.map(|(k, v)| (k.to_owned(), v.to_owned())));
    let meta = ObjectMeta {
        name: Some(options.node_name.clone()),
        labels: Some(labels.clone()),
        ..ObjectMeta::default()
    };
    match api.create(&PostParams::default(), &Node { metadata: meta, ..Node::default() }).await {
        Ok(node) => Ok(node),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = json!({ "metadata": { "labels": labels } });
            api.patch(&options.node_name, &PatchParams::default(), &Patch::Merge(patch)).await
        }
        Err(error) => Err(error),
    }
}

/// What changes of a node's status while it runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Health {
    /// Why pods can not run here, if so.
    pub not_ready: Option<String>,
    /// The images on the node.
    pub images: Vec<ContainerImage>,
    /// What the node is short of.
    pub pressure: Pressure,
}

/// Posts the node's status. Capacity and allocatable that others have added (extended resources) stay.
pub(crate) async fn post_status(
    api: &Api<Node>,
    options: &Options,
    machine: &Machine,
    health: &Health,
) -> Result<Node, kube::Error> {
    let now = Timestamp::now();
    let before = api.get(&options.node_name).await?.status.unwrap_or_default();
    let status = NodeStatus {
        capacity: Some(machine.capacity.clone()),
        allocatable: Some(machine.allocatable.clone()),
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".to_owned(), address: options.node_ip.to_string() },
            NodeAddress { type_: "Hostname".to_owned(), address: options.node_name.clone() },
        ]),
        conditions: Some(conditions(health, &before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(options.listen.port()) }),
        }),
        images: Some(health.images.clone()),
        node_info: Some(machine.info.clone()),
        ..NodeStatus::default()
    };
    api.patch_status(
        &options.node_name,
        &PatchParams::default(),
        &Patch::Strategic(json!({ "status": status })),
    )
    .await
}

fn conditions(health: &Health, before: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
    let pressure = &health.pressure;
    let verdict = |kind, bad: bool, yes: (&'static str, &'static str), no: (&'static str, &'static str)| {
        let (reason, message) = if bad { yes } else { no };
        (kind, if bad { "True" } else { "False" }, reason, message.to_owned())
    };
    let ready = match &health.not_ready {
        None => ("Ready", "True", "KubeletReady", "the node agent is ready".to_owned()),
        Some(why) => ("Ready", "False", "KubeletNotReady", why.clone()),
    };
    let table = [
        verdict(
            "MemoryPressure",
            pressure.memory,
            ("KubeletHasInsufficientMemory", "the node has little memory left"),
            ("KubeletHasSufficientMemory", "the node has enough memory"),
        ),
        verdict(
            "DiskPressure",
            pressure.disk,
            ("KubeletHasDiskPressure", "the node has little disk left"),
            ("KubeletHasNoDiskPressure", "the node has enough disk"),
        ),
        verdict(
            "PIDPressure",
            pressure.pids,
            ("KubeletHasInsufficientPID", "the node has few process ids left"),
            ("KubeletHasSufficientPID", "the node has enough process ids"),
        ),
        ready,
    ];
    table
        .into_iter()
        .map(|(kind, status, reason, message)| {
            let old = before.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == status);
            NodeCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: old.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
            }
        })
        .collect()
}

/// Renews the node's lease for ever.
pub(crate) async fn heartbeat(client: kube::Client, node: Node) {
    let api: Api<Lease> = Api::namespaced(client, LEASE_NAMESPACE);
    let mut tick = tokio::time::interval(RENEW_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = renew(&api, &node).await {
            tracing::warn!(%error, "the node's lease was not renewed");
        }
    }
}

async fn renew(api: &Api<Lease>, node: &Node) -> Result<(), kube::Error> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(LEASE_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let patch = json!({ "spec": spec });
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let owner = OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.clone(),
                uid: node.metadata.uid.clone().unwrap_or_default(),
                ..OwnerReference::default()
            };
            let metadata =
                ObjectMeta { name: Some(name), owner_references: Some(vec![owner]), ..ObjectMeta::default() };
            api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await.map(drop)
        }
        Err(error) => Err(error),
    }
}
