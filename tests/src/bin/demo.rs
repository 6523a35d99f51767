//! What `cargo xtask demo` shows: a cluster starts on this host, pulls an image from a registry, runs a Deployment and
//! answers on a Service address that eBPF translates.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use carrack_tests::http::{Load, Seen};
use carrack_tests::image::Image;
use carrack_tests::{Cluster, Host, Options, Registry, eventually, host, http, root};
use clap::Parser;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams};

/// The address at which every node answers DNS.
const DNS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 53);

/// Starts a cluster on this host and shows what it can do.
#[derive(Parser)]
struct Args {
    /// Take everything down at the end; exit 0 only if each step held.
    #[arg(long)]
    once: bool,
    /// Where the cluster keeps everything.
    #[arg(long, default_value = "/var/lib/carrack-demo")]
    dir: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let host = Arc::new(Host::here()?);
    let shown = host.clone();
    shown.run(async move { show(host, args).await })
}

/// What the table at the end says.
#[derive(Default)]
struct Figures {
    rows: Vec<(&'static str, String)>,
}

impl Figures {
    fn add(&mut self, what: &'static str, value: impl Into<String>) {
        self.rows.push((what, value.into()));
    }

    fn print(&self) {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
        for (what, value) in &self.rows {
            table.add_row([*what, value]);
        }
        println!("\n{table}");
    }
}

async fn show(host: Arc<Host>, args: Args) -> Result<()> {
    let mut figures = Figures::default();
    let registry_port = free_port(5000)?;
    let options = Options {
        name: "demo".to_owned(),
        port: free_port(6443)?,
        kubelet_port: free_port(10250)?,
        dir: Some(args.dir.clone()),
        node: true,
    };

    let step = Step::new("starting a registry on loopback and pushing an image to it");
    let registry = Registry::start(&host, registry_port).await?;
    let image = Image::busybox()?;
    registry.push(&image, "carrack/busybox", "1").await?;
    step.done(&format!("image pushed to {}", registry.reference("carrack/busybox:1")));

    let step = Step::new("starting the cluster");
    let mut cluster = Cluster::start(host.clone(), options).await?;
    host::join_cgroup(&cluster.cgroup())?;
    step.done(&format!("node Ready after {:.2?}", cluster.ready_after));
    figures.add("cluster ready after", format!("{:.2?}", cluster.ready_after));

    let result = run(&cluster, &registry, &mut figures).await;
    figures.print();
    host::leave_cgroup()?;
    if args.once || result.is_err() {
        let step = Step::new("taking everything down");
        cluster.take_down()?;
        let _ = std::fs::remove_dir_all(&args.dir);
        step.done("nothing is left");
        return result;
    }
    leave_running(&cluster, &args);
    // The registry and the cluster go on without this program.
    std::mem::forget(registry);
    std::mem::forget(cluster);
    Ok(())
}

async fn run(cluster: &Cluster, registry: &Registry, figures: &mut Figures) -> Result<()> {
    let manifest = std::fs::read_to_string(root().join("examples/web.yaml"))?;
    let manifest =
        manifest.replace("localhost:5000/carrack/busybox:1", &registry.reference("carrack/busybox:1"));
    let step = Step::new("applying examples/web.yaml: ConfigMap, Deployment of 3, Service");
    let began = Instant::now();
    cluster.apply(&manifest).await?;
    let pods = cluster.pods_are_ready("app=web", 3, Duration::from_secs(60)).await?;
    let took = began.elapsed();
    step.done(&format!("3 pods Ready after {took:.2?}"));
    figures.add("image pulled in", pulled_in(cluster).await?);
    figures.add("pods ready after", format!("{took:.2?}"));

    let services: Api<Service> = Api::namespaced(cluster.client.clone(), "default");
    let ip =
        services.get("web").await?.spec.and_then(|s| s.cluster_ip).context("the service has no address")?;
    let web = SocketAddr::new(ip.parse()?, 80);
    let step = Step::new("asking the Service's address 300 times");
    let names: BTreeSet<String> = pods.iter().filter_map(|p| p.metadata.name.clone()).collect();
    let seen = ask(web, 300, &names).await?;
    step.done(&format!("every answer came, from {} pods", seen.answers.len()));
    for (pod, count) in &seen.answers {
        figures.add("answers through the ClusterIP", format!("{count:>4}  {pod}"));
    }

    let step = Step::new("looking the Service up by name");
    let name = "web.default.svc.cluster.local";
    let found = resolve(name).await?;
    ensure!(found == web.ip(), "{name} is {found}, not {}", web.ip());
    let text = http::get(SocketAddr::new(found, 80), "/").await?;
    step.done(&format!("{name} is {found}: \"{}\"", text.trim()));
    figures.add("by DNS name", format!("{name} → {found}"));

    replace_a_pod(cluster, web, &names, figures).await?;
    figures.add("memory of carrack", memory(cluster)?);
    Ok(())
}

async fn ask(web: SocketAddr, times: usize, pods: &BTreeSet<String>) -> Result<Seen> {
    let mut seen = Seen::default();
    for _ in 0..times {
        let text = http::get(web, "/").await?;
        let who = text.split_whitespace().next().unwrap_or_default().to_owned();
        *seen.answers.entry(who).or_default() += 1;
    }
    let who: BTreeSet<String> = seen.answers.keys().cloned().collect();
    ensure!(who == *pods, "answers came from {who:?}, the pods are {pods:?}");
    Ok(seen)
}

async fn replace_a_pod(
    cluster: &Cluster,
    web: SocketAddr,
    names: &BTreeSet<String>,
    figures: &mut Figures,
) -> Result<()> {
    let victim = names.first().context("no pod")?;
    let step = Step::new("deleting a pod under load");
    let load = Load::start(web, Duration::from_millis(2));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    cluster.pods("default").delete(victim, &DeleteParams::default()).await?;
    let pods = cluster.pods_are_ready("app=web", 3, Duration::from_secs(60)).await?;
    let took = began.elapsed();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let seen = load.stop().await?;
    let is_new = |pod: &&Pod| pod.metadata.name.as_ref().is_some_and(|name| !names.contains(name));
    let new = pods.iter().find(is_new).context("the pod was not replaced")?;
    ensure!(seen.failures.is_empty(), "{} requests failed, first: {}", seen.failures.len(), seen.failures[0]);
    let name = new.metadata.name.clone().unwrap_or_default();
    step.done(&format!("{victim} was replaced by {name}; {} requests meanwhile, none failed", seen.total()));
    figures.add("pod deleted and gone, replaced", format!("{took:.2?}, {} requests, 0 failed", seen.total()));
    Ok(())
}

/// How long the pull took, as the node's event says.
async fn pulled_in(cluster: &Cluster) -> Result<String> {
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), "default");
    let note = eventually("the node tells of the pull", Duration::from_secs(5), || async {
        let list = events.list(&ListParams::default()).await?;
        let notes = list.items.into_iter().filter_map(|e| e.message);
        Ok(notes.into_iter().find(|m| m.starts_with("Successfully pulled image")))
    })
    .await?;
    let time = note.split(" in ").nth(1).and_then(|rest| rest.split(' ').next());
    time.map(str::to_owned).context("the event of the pull has no time")
}

/// Asks the cluster's DNS for an address, as a program in a pod would.
async fn resolve(name: &str) -> Result<std::net::IpAddr> {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(DNS).await?;
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len())?);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    socket.send(&query).await?;
    let mut answer = [0; 512];
    let length = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut answer))
        .await
        .context("no answer")??;
    ensure!(length >= query.len() + 16 && answer[..2] == query[..2], "the DNS answer is too short");
    ensure!(answer[3] & 0xf == 0 && answer[7] > 0, "DNS knows no {name}");
    let Some([a, b, c, d]) = answer.get(length - 4..length) else { bail!("the DNS answer is too short") };
    Ok(Ipv4Addr::new(*a, *b, *c, *d).into())
}

/// Resident memory of the process that is everything, without what it shares with the file cache.
fn memory(cluster: &Cluster) -> Result<String> {
    let pid = cluster.pid().context("the cluster does not run")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Option<u64> {
        text.lines().find_map(|l| l.strip_prefix(name))?.trim().trim_end_matches("kB").trim().parse().ok()
    };
    let (all, own) = (field("VmRSS:").context("VmRSS")?, field("RssAnon:").context("RssAnon")?);
    Ok(format!("{} MB, {} MB of it its own", all / 1024, own / 1024))
}

fn leave_running(cluster: &Cluster, args: &Args) {
    let config = cluster.kubeconfig();
    println!(
        "\nThe cluster goes on. Try:\n\n  export KUBECONFIG={}\n  kubectl get pods -o wide\n  kubectl logs -l app=web -f\n  \
         kubectl exec -it deploy/web -- sh\n  kubectl scale deploy/web --replicas 10\n\nAnd to end it:\n\n  \
         carrack down --data-dir {dir}/data --run-dir {dir}/run --cgroup {}\n",
        config.display(),
        cluster.cgroup(),
        dir = args.dir.display(),
    );
}

fn free_port(wanted: u16) -> Result<u16> {
    let port = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, wanted)) {
        Ok(_) => wanted,
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port(),
    };
    Ok(port)
}

/// A line that turns while something happens.
struct Step {
    bar: ProgressBar,
    what: &'static str,
}

impl Step {
    fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(80));
        Self { bar, what }
    }

    fn done(self, result: &str) {
        self.bar.finish_and_clear();
        println!("✓ {}: {result}", self.what);
    }
}
