//! Times create, start, wait and delete of a static `true`, beside `crun run` and `runc run` of the same, on this host.
//!
//! `cargo run --profile bench -p carrack-supervisor --example create_true [-- <times>]`, as root, with busybox-static,
//! crun and runc installed; `cargo xtask vm --bench` does the same on a kernel with control groups of version 2 alone,
//! without which crun does not start. All sides make the same namespaces but for the network's, user and default mounts, a memory and
//! a process limit, and a log or pipe for the output; carrack also syncs an exit record. `pod` includes making and
//! ending the whole pod: a supervisor process with a network namespace. The run directory is a tmpfs of the bench's own,
//! as /run is on most hosts; add `disk` to have it, and with it the synced records, on the disk of the temporary directory.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use carrack_cgroups::{Cgroups, DevicePolicy, Limits};
use carrack_runtime::{Root, Spec};
use carrack_supervisor::{ContainerSpec, Event, Sandbox, SandboxConfig};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|word| word == "supervisor") {
        return carrack_supervisor::main(&args[2..]);
    }
    let times = args.get(1).and_then(|times| times.to_str()?.parse().ok()).unwrap_or(100);
    let disk = args.get(2).is_some_and(|word| word == "disk");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(bench(times, disk)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Directories and control groups, removed at the end.
struct Place {
    run: tempfile::TempDir,
    mounted: bool,
    disk: tempfile::TempDir,
    cgroups: Cgroups,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = self.cgroups.purge() {
            eprintln!("{error}");
        }
        if self.mounted
            && let Err(error) = rustix::mount::unmount(self.run.path(), rustix::mount::UnmountFlags::DETACH)
        {
            eprintln!("{}: {error}", self.run.path().display());
        }
    }
}

async fn bench(times: usize, disk: bool) -> Result<(), Failure> {
    let mut place = Place {
        run: tempfile::Builder::new().prefix("carrack-bench-").tempdir()?,
        mounted: false,
        disk: tempfile::Builder::new().prefix("carrack-bench-").tempdir()?,
        cgroups: Cgroups::open(&format!("carrack-bench-{}", std::process::id()))?,
    };
    if !disk {
        rustix::mount::mount("tmpfs", place.run.path(), "tmpfs", rustix::mount::MountFlags::empty(), None)?;
        place.mounted = true;
    }
    let root = place.disk.path().join("root");
    std::fs::create_dir_all(root.join("bin"))?;
    std::fs::copy("/bin/busybox", root.join("bin/true"))
        .map_err(|error| format!("busybox-static is missing (run `cargo xtask setup`): {error}"))?;

    let plain = containers(&place, times, &|_| Ok(Root::Path(root.clone()))).await?;
    let overlay = containers(&place, times, &|id| overlay(&place, id)).await?;
    let pods = pods(&place, times.div_ceil(4), &root).await?;
    let others: Vec<_> =
        OTHERS.iter().map(|name| (*name, other(name, &place, times.div_ceil(2), &root))).collect();

    println!("create, start, wait, delete of a static `true`: median (10th to 90th percentile)");
    print_line("container, plain root", &plain);
    print_line("container, overlay root", &overlay);
    print_line("pod with a container", &pods);
    for (name, taken) in others {
        match taken {
            Ok(taken) => {
                print_line(&format!("{name} run"), &taken);
                println!("{name} run takes {:.1} times as long as a container", ratio(&taken, &plain));
                println!(
                    "{name} run takes {:.1} times as long as a pod with a container",
                    ratio(&taken, &pods)
                );
            }
            Err(error) => println!("{name} does not work here: {error}"),
        }
    }
    Ok(())
}

/// The runtimes that ours is measured beside.
const OTHERS: [&str; 2] = ["crun", "runc"];

/// Containers one after the other in one pod.
async fn containers(
    place: &Place,
    times: usize,
    root: &dyn Fn(&str) -> Result<Root, Failure>,
) -> Result<Vec<Duration>, Failure> {
    let sandbox = carrack_supervisor::start(Path::new("/proc/self/exe"), &config(place)?).await?;
    let mut events = sandbox.events();
    let mut taken = Vec::new();
    for number in 0..times {
        let id = format!("c{number}");
        let root = root(&id)?;
        let begin = Instant::now();
        container(place, &sandbox, &mut events, &id, root).await?;
        taken.push(begin.elapsed());
    }
    print_memory(sandbox.pid())?;
    sandbox.shutdown().await?;
    std::fs::remove_dir_all(place.run.path().join("pod"))?;
    Ok(taken)
}

/// A whole pod each time.
async fn pods(place: &Place, times: usize, root: &Path) -> Result<Vec<Duration>, Failure> {
    let mut taken = Vec::new();
    for _ in 0..times {
        let begin = Instant::now();
        let sandbox = carrack_supervisor::start(Path::new("/proc/self/exe"), &config(place)?).await?;
        let mut events = sandbox.events();
        container(place, &sandbox, &mut events, "c", Root::Path(root.to_owned())).await?;
        sandbox.shutdown().await?;
        place.cgroups.get("pod")?.remove()?;
        std::fs::remove_dir_all(place.run.path().join("pod"))?;
        taken.push(begin.elapsed());
    }
    Ok(taken)
}

/// From nothing to nothing: control group, process, end, record, removal.
async fn container(
    place: &Place,
    sandbox: &Sandbox,
    events: &mut tokio::sync::mpsc::Receiver<Event>,
    id: &str,
    root: Root,
) -> Result<(), Failure> {
    let limits = Limits {
        memory_limit: Some(64 << 20),
        pids_limit: Some(100),
        device_policy: DevicePolicy::Container,
        ..Limits::default()
    };
    let cgroup = place.cgroups.create(&format!("pod/{id}"), &limits)?;
    let mut spec = Spec::new(root, vec!["/bin/true".into()]);
    spec.cgroups.v2_dir = cgroup.v2_dir();
    spec.cgroups.procs = cgroup.procs_files();
    let container = ContainerSpec {
        id: id.into(),
        name: "true".into(),
        restart: 0,
        spec,
        log_path: None,
        stdin: false,
        stdin_once: false,
    };
    sandbox.start_container(&container).await?;
    loop {
        match events.recv().await {
            Some(Event::Exited(record)) if record.id == id && record.exit_code == 0 => break,
            Some(Event::Started { .. }) => {}
            other => return Err(format!("unexpected: {other:?}").into()),
        }
    }
    sandbox.remove(id).await?;
    cgroup.remove()?;
    Ok(())
}

fn overlay(place: &Place, id: &str) -> Result<Root, Failure> {
    let [upper, work] = ["upper", "work"].map(|name| place.disk.path().join(id).join(name));
    std::fs::create_dir_all(&upper)?;
    std::fs::create_dir_all(&work)?;
    Ok(Root::Overlay { lower: vec![place.disk.path().join("root")], upper, work })
}

fn config(place: &Place) -> Result<SandboxConfig, Failure> {
    let cgroup = place.cgroups.create("pod/sandbox", &Limits::default())?;
    Ok(SandboxConfig {
        dir: place.run.path().join("pod"),
        log_dir: place.disk.path().join("logs"),
        hostname: "bench".into(),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        sysctls: [].into(),
        cgroup_procs: cgroup.procs_files(),
        oom_score_adj: 0,
        logs: carrack_supervisor::LogLimits::default(),
    })
}

/// `<program> run` with the program's own default configuration, without a terminal.
fn other(program: &str, place: &Place, times: usize, root: &Path) -> Result<Vec<Duration>, Failure> {
    let bundle = place.disk.path().join(program);
    std::fs::create_dir_all(&bundle)?;
    let made = Command::new(program).arg("spec").current_dir(&bundle).status()?;
    if !made.success() {
        return Err(format!("{program} spec: {made}").into());
    }
    let path: PathBuf = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/bin/true"]);
    config["root"] = serde_json::json!({"path": root, "readonly": false});
    config["linux"]["resources"]["memory"] = serde_json::json!({"limit": 64 << 20});
    config["linux"]["resources"]["pids"] = serde_json::json!({"limit": 100});
    std::fs::write(&path, serde_json::to_vec(&config)?)?;
    let mut taken = Vec::new();
    for number in 0..times {
        let begin = Instant::now();
        let run = Command::new(program)
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(format!("carrack-bench-{}-{number}", std::process::id()))
            .stdin(Stdio::null())
            .output()?;
        taken.push(begin.elapsed());
        if !run.status.success() {
            return Err(String::from_utf8_lossy(&run.stderr).into_owned().into());
        }
    }
    Ok(taken)
}

fn percentile(taken: &[Duration], percent: usize) -> Duration {
    let mut sorted = taken.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

fn ratio(a: &[Duration], b: &[Duration]) -> f64 {
    percentile(a, 50).as_secs_f64() / percentile(b, 50).as_secs_f64()
}

fn print_line(name: &str, taken: &[Duration]) {
    let ms = |percent| percentile(taken, percent).as_secs_f64() * 1e3;
    println!("{name:26} {:6.2} ms ({:.2} to {:.2}), {} times", ms(50), ms(10), ms(90), taken.len());
}

fn print_memory(pid: u32) -> Result<(), Failure> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let wanted = ["Rss:", "Pss:", "Anonymous:"];
    let lines = rollup.lines().filter(|line| wanted.iter().any(|key| line.starts_with(key)));
    let figures: Vec<String> =
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    println!("idle supervisor: {}", figures.join(", "));
    Ok(())
}
