//! A pod of its own for each test: run directory, control groups, a root filesystem made of busybox.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use carrack_cgroups::{Cgroups, DevicePolicy, Limits};
use carrack_runtime::{Root, Spec};
use carrack_supervisor::{
    ContainerSpec, ContainerStatus, Event, Exec, ExecSpec, ExitRecord, LogLimits, Sandbox, SandboxConfig,
    StartError,
};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// The binary that is `carrack supervisor` here.
pub const EXE: &str = env!("CARGO_BIN_EXE_carrack-supervisor");
/// Longer than anything takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A pod whose every trace is removed, and looked for, when it is dropped.
pub struct Pod {
    pub dir: tempfile::TempDir,
    pub cgroups: Cgroups,
    pub sandbox: Sandbox,
    cgroup_name: String,
}

impl Pod {
    /// A pod with namespaces of its own.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A pod with a changed configuration.
    pub async fn with(change: impl FnOnce(&mut SandboxConfig)) -> Self {
        let dir = tempfile::Builder::new().prefix("carrack-test-").tempdir().unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup_name = format!("carrack-test-supervisor-{}-{number}", std::process::id());
        let cgroups = Cgroups::open(&cgroup_name).expect("these tests need root");
        make_root(&dir.path().join("layer"));
        let mut config = config(dir.path(), &cgroups);
        change(&mut config);
        let sandbox = carrack_supervisor::start(Path::new(EXE), &config).await.unwrap();
        Self { dir, cgroups, sandbox, cgroup_name }
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// A container of the given id that runs a shell script.
    pub fn script(&self, id: &str, script: &str) -> ContainerSpec {
        self.command(id, &["sh", "-c", script])
    }

    /// A container of the given id, with a control group without limits and an upper directory of its own.
    pub fn command(&self, id: &str, args: &[&str]) -> ContainerSpec {
        let limits = Limits { device_policy: DevicePolicy::Container, ..Limits::default() };
        self.limited(id, args, &limits)
    }

    pub fn limited(&self, id: &str, args: &[&str], limits: &Limits) -> ContainerSpec {
        let cgroup = self.cgroups.create(&format!("pod/{id}"), limits).unwrap();
        let [upper, work] = ["upper", "work"].map(|name| self.dir.path().join(id).join(name));
        std::fs::create_dir_all(&upper).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        let root = Root::Overlay { lower: vec![self.dir.path().join("layer")], upper, work };
        let mut spec = Spec::new(root, args.iter().map(ToString::to_string).collect());
        spec.cgroups.v2_dir = cgroup.v2_dir();
        spec.cgroups.procs = cgroup.procs_files();
        ContainerSpec {
            id: id.into(),
            name: id.into(),
            restart: 0,
            spec,
            log_path: None,
            stdin: false,
            stdin_once: false,
        }
    }

    /// Runs it to its end: its record and its log without times.
    pub async fn run(&self, container: &ContainerSpec) -> (ExitRecord, String) {
        let mut events = self.sandbox.events();
        self.sandbox.start_container(container).await.unwrap();
        let record = exited(&mut events, &container.id).await;
        (record, self.log(&container.name))
    }

    /// What a script prints, when it ends well.
    pub async fn output(&self, container: &ContainerSpec) -> String {
        let (record, log) = self.run(container).await;
        assert_eq!(record.exit_code, 0, "{log}");
        log
    }

    /// Why it does not start.
    pub async fn failure(&self, container: &ContainerSpec) -> carrack_supervisor::StartFailure {
        match self.sandbox.start_container(container).await {
            Err(StartError::Failed(failure)) => failure,
            other => panic!("started: {other:?}"),
        }
    }

    /// Text of the log, without time, stream and tag.
    pub fn log(&self, name: &str) -> String {
        let lines = self.raw_log(name);
        lines.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n").collect()
    }

    pub fn raw_log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("logs").join(name).join("0.log")).unwrap_or_default()
    }

    /// Waits until the log holds `text`.
    pub async fn logged(&self, name: &str, text: &str) {
        for _ in 0..3000 {
            if self.raw_log(name).contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{text:?} never came: {:?}", self.raw_log(name));
    }

    pub async fn status(&self, id: &str) -> ContainerStatus {
        let states = self.sandbox.list().await.unwrap();
        states.into_iter().find(|state| state.id == id).map(|state| state.status).unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let kill = |pid: u32| {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        };
        // Only while it is this pod's: the number could be somebody else's by now.
        let cmdline = std::fs::read(format!("/proc/{}/cmdline", self.sandbox.pid())).unwrap_or_default();
        if String::from_utf8_lossy(&cmdline).contains(self.dir.path().to_str().unwrap()) {
            kill(self.sandbox.pid());
        }
        self.cgroups.purge().unwrap();
        if std::thread::panicking() {
            return;
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "a mount is left: {mounts}");
        assert!(!self.cgroups.v2_path().exists(), "{} is left", self.cgroup_name);
    }
}

pub fn config(dir: &Path, cgroups: &Cgroups) -> SandboxConfig {
    let cgroup = cgroups.create("pod/sandbox", &Limits::default()).unwrap();
    SandboxConfig {
        dir: dir.join("run"),
        log_dir: dir.join("logs"),
        hostname: "test-pod".into(),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        sysctls: [("net.ipv4.ip_unprivileged_port_start".into(), "80".into())].into(),
        cgroup_procs: cgroup.procs_files(),
        oom_score_adj: -900,
        logs: LogLimits::default(),
    }
}

/// A root filesystem with busybox and a few files that tests look for.
fn make_root(root: &Path) {
    let busybox = Path::new("/bin/busybox");
    assert!(busybox.exists(), "busybox-static is missing: run `cargo xtask setup`");
    for dir in ["bin", "etc", "tmp", "root", "home/web"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    let list = std::process::Command::new(busybox).arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:1000:\nlogs:x:50:web\n").unwrap();
    std::fs::write(root.join("etc/plain"), "not a program\n").unwrap();
}

/// The record of a container's end, as an event.
pub async fn exited(events: &mut tokio::sync::mpsc::Receiver<Event>, id: &str) -> ExitRecord {
    let wait = async {
        loop {
            match events.recv().await.expect("events end with the supervisor") {
                Event::Exited(record) if record.id == id => return record,
                Event::Gone => panic!("the supervisor is gone"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{id} does not end"))
}

/// A shell script to exec.
pub fn exec_script(script: &str) -> ExecSpec {
    let args = ["sh", "-c", script].iter().map(ToString::to_string).collect();
    ExecSpec {
        process: carrack_runtime::ExecProcess { args, env: Vec::new(), cwd: None, user: None, tty: false },
        stdin: false,
    }
}

/// Runs it to its end: exit code, stdout and stderr.
pub async fn exec_to_end(mut exec: Exec) -> (i32, String, String) {
    let code = tokio::time::timeout(PATIENCE, exec.wait()).await.unwrap().unwrap();
    let out = read_to_end(exec.stdout.take().unwrap()).await;
    let err = read_to_end(exec.stderr.take().unwrap()).await;
    (code, out, err)
}

/// Everything a non-blocking descriptor gives until its end.
pub async fn read_to_end(fd: OwnedFd) -> String {
    let mut pipe = Receiver::from_owned_fd_unchecked(fd).unwrap();
    let mut all = Vec::new();
    // A terminal ends with EIO.
    let _ = tokio::time::timeout(PATIENCE, pipe.read_to_end(&mut all)).await.unwrap();
    String::from_utf8_lossy(&all).into_owned()
}
