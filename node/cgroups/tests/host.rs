//! Control groups of this host, for real. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use carrack_cgroups::{Cgroups, DevicePolicy, Limits, Mode};
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A subtree of its own for each test, removed at its end however it ends.
struct Scratch(Cgroups);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(
            Cgroups::open(&format!("carrack-test-cgroups-{name}-{}", std::process::id()))
                .expect("needs root"),
        )
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.0.purge() {
            eprintln!("purge: {error}");
        }
        assert!(!self.0.v2_path().exists() || std::thread::panicking(), "the subtree is gone");
    }
}

/// A shell that waits for a line before it runs `script`, put into the group first.
fn run_in(group: &carrack_cgroups::Cgroup, script: &str) -> Child {
    let mut child = Command::new("sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for file in group.procs_files() {
        std::fs::write(&file, child.id().to_string())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child
}

fn readable(fd: impl AsFd, within: Duration) -> bool {
    let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec::try_from(within).unwrap();
    rustix::event::poll(&mut fds, Some(&limit)).unwrap() > 0
}

#[test]
fn limits_of_a_group_in_use_go_up_and_down() {
    let scratch = Scratch::new("limit");
    let sized = |memory: u64, cpu: u64| Limits {
        memory_limit: Some(memory),
        cpu_millis_limit: Some(cpu),
        cpu_millis_request: Some(cpu),
        ..Limits::default()
    };
    let pod = scratch.0.create("pod1", &sized(64 << 20, 500)).unwrap();
    let group = scratch.0.create("pod1/c1", &Limits { oom_group: true, ..sized(64 << 20, 500) }).unwrap();
    let mut child = run_in(&group, "exec sleep 100");
    let (memory_file, cpu_file) = match scratch.0.mode() {
        Mode::V2 => ("memory.max", "cpu.max"),
        Mode::Hybrid => ("memory.limit_in_bytes", "cpu.cfs_quota_us"),
    };
    let read = |file: &str| {
        let dirs = group.procs_files();
        let found = dirs.iter().find_map(|procs| std::fs::read_to_string(procs.with_file_name(file)).ok());
        found.unwrap().split_whitespace().next().unwrap().to_owned()
    };
    for (memory, cpu, quota) in [(128u64 << 20, 1000, "100000"), (32 << 20, 200, "20000")] {
        let limits = sized(memory, cpu);
        // A child never has more than its parent.
        let order = if cpu == 1000 { [&pod, &group] } else { [&group, &pod] };
        order.iter().for_each(|group| group.limit(&limits).unwrap());
        assert_eq!((read(memory_file), read(cpu_file)), (memory.to_string(), quota.to_owned()));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(scratch.0.get("none").unwrap().limit(&sized(1 << 20, 100)).is_err(), "it makes no group");
}

#[test]
fn a_process_over_its_memory_limit_is_killed_and_counted() {
    let scratch = Scratch::new("oom");
    let limits = Limits { memory_limit: Some(16 << 20), oom_group: true, ..Limits::default() };
    let group = scratch.0.create("burstable/pod1/c1", &limits).unwrap();
    let watch = group.oom_watch().unwrap();
    assert_eq!(group.oom_kills().unwrap(), 0);
    assert!(!readable(&watch, Duration::ZERO));

    let mut child = run_in(&group, "exec dd if=/dev/zero of=/dev/null bs=100M count=1");
    assert!(readable(&watch, Duration::from_secs(20)), "the event arrives");
    assert!(!child.wait().unwrap().success());
    watch.drain().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while group.oom_kills().unwrap() == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(group.oom_kills().unwrap() > 0);
}

#[test]
fn limits_are_written_and_updated() {
    let scratch = Scratch::new("limits");
    let mut limits = Limits {
        cpu_millis_request: Some(250),
        cpu_millis_limit: Some(500),
        memory_limit: Some(64 << 20),
        memory_request: Some(32 << 20),
        pids_limit: Some(20),
        device_policy: DevicePolicy::Container,
        oom_group: false,
    };
    let group = scratch.0.create("pod2/c1", &limits).unwrap();
    let read = |controller: &str, file: &str| {
        let procs = group.procs_files();
        let dir = match scratch.0.mode() {
            Mode::V2 => group.v2_dir().unwrap(),
            Mode::Hybrid => procs
                .iter()
                .find(|file| {
                    file.iter().any(|part| part.to_string_lossy().split(',').any(|name| name == controller))
                })
                .unwrap()
                .parent()
                .unwrap()
                .to_owned(),
        };
        std::fs::read_to_string(dir.join(file)).unwrap().trim().to_owned()
    };
    let check = |millis: u64, memory: u64| match scratch.0.mode() {
        Mode::V2 => {
            assert_eq!(read("cpu", "cpu.max"), format!("{} 100000", millis * 100));
            assert_eq!(read("memory", "memory.max"), memory.to_string());
            assert_eq!(read("pids", "pids.max"), "20");
        }
        Mode::Hybrid => {
            assert_eq!(read("cpu", "cpu.shares"), "256");
            assert_eq!(read("cpu", "cpu.cfs_quota_us"), (millis * 100).to_string());
            assert_eq!(read("memory", "memory.limit_in_bytes"), memory.to_string());
            assert_eq!(read("pids", "pids.max"), "20");
            assert!(read("devices", "devices.list").contains("c 1:3 rwm"));
            assert!(!read("devices", "devices.list").contains("a *:*"));
        }
    };
    check(500, 64 << 20);
    for (millis, memory) in [(1500, 128 << 20), (100, 16 << 20)] {
        limits.cpu_millis_limit = Some(millis);
        limits.memory_limit = Some(memory);
        scratch.0.create("pod2/c1", &limits).unwrap();
        check(millis, memory);
    }
}

#[test]
fn stats_count_and_kill_leaves_nobody() {
    let scratch = Scratch::new("kill");
    let group = scratch.0.create("pod3/c1", &Limits::default()).unwrap();
    let mut child =
        run_in(&group, "(trap '' TERM; while :; do :; done) & while :; do sleep 0.01 & wait; done");
    let deadline = Instant::now() + Duration::from_secs(30);
    while group.stats().unwrap().cpu_usage_ns < 20_000_000 {
        assert!(Instant::now() < deadline, "CPU time is counted");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pod = scratch.0.get("pod3").unwrap();
    assert!(pod.pids().unwrap().contains(&child.id()));
    assert!(
        matches!(group.remove(), Err(carrack_cgroups::CgroupError::Busy { .. })),
        "with processes it stays"
    );
    pod.kill().unwrap();
    child.wait().unwrap();
    pod.remove().unwrap();
    pod.remove().unwrap();
    assert_eq!(pod.pids().unwrap(), [] as [u32; 0]);
    assert_eq!(pod.stats().unwrap(), carrack_cgroups::Stats::default());
    assert!(group.procs_files().iter().all(|file| !file.exists()));
}

#[test]
fn the_process_limit_holds() {
    let scratch = Scratch::new("pids");
    let group = scratch.0.create("pod4/c1", &Limits { pids_limit: Some(5), ..Limits::default() }).unwrap();
    let mut child = run_in(&group, "for i in 1 2 3 4 5 6 7 8 9; do sleep 30 & done; wait");
    std::thread::sleep(Duration::from_millis(300));
    assert!(group.stats().unwrap().pids <= 5);
    group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn paths_that_lead_out_are_refused() {
    let scratch = Scratch::new("paths");
    for path in ["", "/x", "../x", "a/../../x", "."] {
        assert!(scratch.0.get(path).is_err(), "{path:?}");
    }
    assert!(Cgroups::open("../carrack").is_err());
}

#[test]
fn the_device_program_decides_in_version_2() {
    use std::os::unix::fs::FileTypeExt;
    let scratch = Scratch::new("devices");
    let group = scratch.0.create("pod5/c1", &Limits::default()).unwrap();
    let dir = std::fs::File::open(group.v2_dir().unwrap()).unwrap();
    carrack_runtime::device_access::restrict(&dir, &carrack_runtime::device_access::CONTAINER_DEVICES)
        .unwrap();
    // Twice is once.
    carrack_runtime::device_access::restrict(&dir, &carrack_runtime::device_access::CONTAINER_DEVICES)
        .unwrap();
    assert!(std::fs::metadata("/dev/kmsg").unwrap().file_type().is_char_device());
    let mut child = run_in(&group, "head -c1 /dev/zero >/dev/null && ! head -c1 /dev/kmsg && exit 42");
    assert_eq!(child.wait().unwrap().code(), Some(42));
}
