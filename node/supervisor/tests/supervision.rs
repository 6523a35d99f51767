//! What a supervisor does for its containers and its agent: logs, records, exec, attach, and surviving. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use carrack_supervisor::{ContainerStatus, Event, SandboxError, StartError};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use support::{EXE, PATIENCE, Pod, exec_script, exec_to_end, exited, read_to_end};

fn write(fd: &OwnedFd, text: &str) {
    std::fs::File::from(fd.try_clone().unwrap()).write_all(text.as_bytes()).unwrap();
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn logs_have_the_standard_format() {
    let pod = Pod::new().await;
    let script =
        "echo out; echo err >&2; sleep 0.05; printf 'no end'; head -c 20000 /dev/zero | tr '\\0' x; exit 3";
    let (record, _) = pod.run(&pod.script("c", script)).await;
    assert_eq!((record.exit_code, record.signal), (3, None));
    assert!(record.started_at <= record.finished_at);
    let log = pod.raw_log("c");
    let mut shapes = Vec::new();
    for line in log.lines() {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        let time = fields[0];
        assert!(time.len() == 30 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        shapes.push((fields[1], fields[2], fields[3].len()));
    }
    shapes.sort_unstable();
    assert_eq!(
        shapes,
        [("stderr", "F", 3), ("stdout", "F", 3), ("stdout", "P", 3622), ("stdout", "P", 16384)]
    );
}

#[tokio::test]
async fn a_rotated_log_goes_on_in_a_new_file() {
    let pod = Pod::new().await;
    let container = pod.script("c", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.01; done");
    pod.sandbox.start_container(&container).await.unwrap();
    pod.logged("c", "line 3").await;
    let path = pod.dir.path().join("logs/c/0.log");
    std::fs::rename(&path, path.with_extension("old")).unwrap();
    pod.sandbox.reopen_log("c").await.unwrap();
    eventually("the new log is written", || pod.raw_log("c").lines().count() > 3).await;
    let old = std::fs::read_to_string(path.with_extension("old")).unwrap();
    let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    let first = number(pod.raw_log("c").lines().next().unwrap());
    assert_eq!(first, number(old.lines().last().unwrap()) + 1, "no line is lost");
}

#[tokio::test]
async fn signals_end_containers() {
    let pod = Pod::new().await;
    let mut events = pod.sandbox.events();
    let container = pod.script("c", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    let started = pod.sandbox.start_container(&container).await.unwrap();
    pod.logged("c", "ready").await;
    assert_eq!(pod.status("c").await, ContainerStatus::Running(started));
    assert!(matches!(pod.sandbox.remove("c").await, Err(SandboxError::Refused(_))), "it runs");
    assert!(matches!(pod.sandbox.kill("none", 15).await, Err(SandboxError::NotFound(_))));
    pod.sandbox.kill("c", 15).await.unwrap();
    let record = exited(&mut events, "c").await;
    assert_eq!((record.exit_code, record.signal), (7, None));
    pod.logged("c", "bye").await;
    pod.sandbox.kill("c", 15).await.unwrap();

    let mut again = pod.script("d", "sleep 1000 & sleep 1000 & echo ready; wait");
    again.name = "d".into();
    pod.sandbox.start_container(&again).await.unwrap();
    assert!(matches!(
        pod.sandbox.start_container(&again).await,
        Err(StartError::Sandbox(SandboxError::Refused(_)))
    ));
    pod.logged("d", "ready").await;
    pod.sandbox.kill("d", 9).await.unwrap();
    let record = exited(&mut events, "d").await;
    assert_eq!((record.exit_code, record.signal), (137, Some(9)));
    let group = pod.cgroups.get("pod/d").unwrap();
    eventually("its children are gone", || group.pids().unwrap().is_empty()).await;

    let file = pod.run_dir().join("exits/d.json");
    assert!(file.exists());
    pod.sandbox.remove("d").await.unwrap();
    pod.sandbox.remove("d").await.unwrap();
    assert!(!file.exists());
    assert_eq!(pod.sandbox.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn exec_joins_the_container() {
    let pod = Pod::new().await;
    let mut container = pod.script("c", "echo mine > /tmp/file; sleep 1000");
    container.spec.env.push("COLOUR=blue".into());
    container.spec.no_new_privs = true;
    container.spec.capabilities.drop = vec!["CHOWN".into()];
    pod.sandbox.start_container(&container).await.unwrap();

    let same = "for n in pid mnt net ipc uts cgroup; do readlink /proc/1/ns/$n; done; \
        grep -E '^(Cap|NoNew|Seccomp:)' /proc/1/status; cat /proc/1/cgroup";
    let own = same.replace("/proc/1/", "/proc/self/");
    let (code, of_first, err) = exec_to_end(pod.sandbox.exec("c", &exec_script(same)).await.unwrap()).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let (_, of_exec, _) = exec_to_end(pod.sandbox.exec("c", &exec_script(&own)).await.unwrap()).await;
    assert_eq!(of_exec, of_first);
    assert!(of_exec.contains("NoNewPrivs:\t1\nSeccomp:\t2"), "{of_exec}");

    let mut exec = exec_script("cat; echo $COLOUR $SIZE; pwd; id -u; cat /tmp/file; echo oops >&2; exit 5");
    exec.stdin = true;
    exec.process.env = vec!["SIZE=big".into()];
    exec.process.cwd = Some("/home".into());
    exec.process.user = Some(carrack_runtime::User { uid: Some(1000), ..Default::default() });
    let mut running = pod.sandbox.exec("c", &exec).await.unwrap();
    let stdin = running.stdin.take().unwrap();
    write(&stdin, "typed\n");
    drop(stdin);
    let (code, out, err) = exec_to_end(running).await;
    assert_eq!((code, out.as_str(), err.as_str()), (5, "typed\nblue big\n/home\n1000\nmine\n", "oops\n"));

    let mut missing = exec_script("");
    missing.process.args = vec!["foo".into()];
    let StartError::Failed(failure) = pod.sandbox.exec("c", &missing).await.unwrap_err() else {
        panic!("not a failure")
    };
    assert_eq!(
        (failure.message.as_str(), failure.exit_code),
        ("exec: \"foo\": executable file not found in $PATH", 127)
    );

    let mut killed = pod.sandbox.exec("c", &exec_script("kill -9 $$")).await.unwrap();
    assert_eq!(killed.wait().await.unwrap(), 137);

    // Fifty at once: none is mixed up with another.
    let mut running = Vec::new();
    for number in 0..50 {
        running.push((
            number,
            pod.sandbox.exec("c", &exec_script(&format!("echo {number}; exit {number}"))).await.unwrap(),
        ));
    }
    for (number, exec) in running {
        assert_eq!(exec_to_end(exec).await, (number, format!("{number}\n"), String::new()));
    }

    let mut events = pod.sandbox.events();
    let mut last = pod.sandbox.exec("c", &exec_script("sleep 1000")).await.unwrap();
    pod.sandbox.kill("c", 9).await.unwrap();
    exited(&mut events, "c").await;
    assert_eq!(last.wait().await.unwrap(), 137, "it dies with the container");
    assert!(matches!(
        pod.sandbox.exec("c", &exec_script("true")).await,
        Err(StartError::Sandbox(SandboxError::Refused(_)))
    ));
}

#[tokio::test]
async fn exec_follows_a_container_that_divides_its_control_group() {
    let pod = Pod::new().await;
    let script = "cd /sys/fs/cgroup; [ -d unified ] && cd unified; mkdir init && echo $$ > init/cgroup.procs && \
        c=$(cut -d' ' -f1 cgroup.controllers) && { [ -z $c ] || echo +$c > cgroup.subtree_control; } && echo divided; sleep 1000";
    let mut container = pod.script("c", script);
    container.spec.make_privileged();
    pod.sandbox.start_container(&container).await.unwrap();
    pod.logged("c", "divided").await;
    let exec = pod.sandbox.exec("c", &exec_script("grep ^0:: /proc/self/cgroup")).await.unwrap();
    assert_eq!(exec_to_end(exec).await, (0, "0::/init\n".into(), String::new()));
}

#[tokio::test]
async fn terminals_work() {
    let pod = Pod::new().await;
    let mut container = pod.script("c", "tty; test -t 0 && test -t 2 && echo is a tty; ls -l /dev/console | cut -c1; echo ready; read line; echo got $line; stty size");
    container.spec.tty = true;
    let mut events = pod.sandbox.events();
    pod.sandbox.start_container(&container).await.unwrap();
    let attached = pod.sandbox.attach("c").await.unwrap();
    attached.resize(33, 77).unwrap();
    pod.logged("c", "ready").await;
    write(attached.stdin.as_ref().unwrap(), "hello\n");
    exited(&mut events, "c").await;
    let log = pod.log("c").replace('\r', "");
    assert!(log.contains("/dev/pts/0\nis a tty\n") && log.contains("\nc\n"), "{log}");
    assert!(log.ends_with("got hello\n33 77\n"), "{log}");

    pod.sandbox.start_container(&pod.script("d", "sleep 1000")).await.unwrap();
    let mut exec = exec_script("tty; read line; echo \"<$line>\"; stty size; exit 4");
    exec.process.tty = true;
    let mut running = pod.sandbox.exec("d", &exec).await.unwrap();
    running.resize(12, 34).unwrap();
    write(running.tty.as_ref().unwrap(), "typed\n");
    assert_eq!(running.wait().await.unwrap(), 4);
    let out = read_to_end(running.tty.take().unwrap()).await.replace('\r', "");
    assert!(out.contains("/dev/pts/0\n") && out.ends_with("<typed>\n12 34\n"), "{out}");
    assert!(running.stdout.is_none() && running.resize(1, 1).is_err());
}

#[tokio::test]
async fn attach_sees_output_and_feeds_stdin() {
    let pod = Pod::new().await;
    let mut container =
        pod.script("c", "while read line; do echo \"got $line\"; echo \"err $line\" >&2; done; echo end");
    container.stdin = true;
    container.stdin_once = true;
    let mut events = pod.sandbox.events();
    pod.sandbox.start_container(&container).await.unwrap();
    let mut one = pod.sandbox.attach("c").await.unwrap();
    let mut two = pod.sandbox.attach("c").await.unwrap();
    assert!(two.stdin.is_none(), "stdin goes to the first");
    let stdin = one.stdin.take().unwrap();
    write(&stdin, "a\nb\n");
    drop(stdin);
    assert_eq!(exited(&mut events, "c").await.exit_code, 0);
    for attached in [&mut one, &mut two] {
        assert_eq!(read_to_end(attached.stdout.take().unwrap()).await, "got a\ngot b\nend\n");
        assert_eq!(read_to_end(attached.stderr.take().unwrap()).await, "err a\nerr b\n");
    }
    assert!(matches!(pod.sandbox.attach("c").await, Err(SandboxError::Refused(_))), "it ended");

    // Without stdin_once it stays open over a client's end.
    let mut kept = pod.script("d", "read a; echo one $a; read b; echo two $b");
    kept.stdin = true;
    pod.sandbox.start_container(&kept).await.unwrap();
    for word in ["x\n", "y\n"] {
        let attached = pod.sandbox.attach("d").await.unwrap();
        write(attached.stdin.as_ref().unwrap(), word);
        pod.logged("d", if word == "x\n" { "one x" } else { "two y" }).await;
    }
}

#[tokio::test]
async fn a_reader_that_stalls_stops_nothing() {
    let pod = Pod::new().await;
    let container =
        pod.script("c", "sleep 0.2; head -c 3000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo end");
    let mut events = pod.sandbox.events();
    pod.sandbox.start_container(&container).await.unwrap();
    let stalled = pod.sandbox.attach("c").await.unwrap();
    assert_eq!(exited(&mut events, "c").await.exit_code, 0);
    drop(stalled);
    let log = pod.log("c");
    assert!(log.ends_with("end\n"));
    assert_eq!(log.matches('x').count(), 3_000_000, "the log has it all");
}

#[tokio::test]
async fn nothing_is_lost_while_the_agent_is_away() {
    let pod = Pod::new().await;
    pod.sandbox
        .start_container(&pod.script("quick", "sleep 0.2; echo said while away; exit 9"))
        .await
        .unwrap();
    let long = pod.sandbox.start_container(&pod.script("long", "sleep 1000")).await.unwrap();
    // A start whose asker is killed before it hears anything.
    let (config, late) = (pod.run_dir(), pod.script("late", "sleep 1000"));
    let request = serde_json::json!({"v": 1, "id": 1, "op": {"start": late}}).to_string();
    let mut agent = std::os::unix::net::UnixStream::connect(config.join("socket")).unwrap();
    agent.write_all(&u32::try_from(request.len()).unwrap().to_le_bytes()).unwrap();
    agent.write_all(request.as_bytes()).unwrap();
    drop(agent);
    eventually("the record is on disk", || carrack_supervisor::exit_records(&config).unwrap().len() == 1)
        .await;

    let adopted = carrack_supervisor::adopt(&config).await.unwrap().expect("it runs");
    assert_eq!(adopted.pid(), pod.sandbox.pid());
    let states = adopted.list().await.unwrap();
    let status = |id: &str| states.iter().find(|state| state.id == id).unwrap().status.clone();
    let ContainerStatus::Exited(record) = status("quick") else { panic!("it ended") };
    assert_eq!(record.exit_code, 9);
    assert_eq!(status("long"), ContainerStatus::Running(long));
    assert!(!matches!(status("late"), ContainerStatus::Exited(_)));
    assert_eq!(pod.log("quick"), "said while away\n");
    // Starting again finds the one that runs.
    let config = support::config(pod.dir.path(), &pod.cgroups);
    let again = carrack_supervisor::start(Path::new(EXE), &config).await.unwrap();
    assert_eq!(again.pid(), pod.sandbox.pid());
}

#[tokio::test]
async fn containers_do_not_outlive_a_killed_supervisor() {
    let pod = Pod::new().await;
    let mut events = pod.sandbox.events();
    pod.run(&pod.script("ended", "exit 6")).await;
    let mut user = pod.script("user", "sleep 1000 & sleep 1000");
    user.spec.user.uid = Some(1000);
    let pids = [
        pod.sandbox.start_container(&pod.script("root", "sleep 1000 & sleep 1000")).await.unwrap().pid,
        pod.sandbox.start_container(&user).await.unwrap().pid,
        pod.sandbox.exec("root", &exec_script("sleep 1000")).await.unwrap().pid,
    ];
    let supervisor = rustix::process::Pid::from_raw(pod.sandbox.pid().cast_signed()).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    let gone = async { while events.recv().await != Some(Event::Gone) {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("the agent hears of it");
    eventually("containers are gone", || !pids.iter().any(|pid| alive(*pid))).await;
    let group = pod.cgroups.get("pod").unwrap();
    eventually("and all they started", || group.pids().unwrap().is_empty()).await;

    assert!(matches!(pod.sandbox.list().await, Err(SandboxError::Gone | SandboxError::Connection(_))));
    assert!(carrack_supervisor::adopt(&pod.run_dir()).await.unwrap().is_none());
    let records = carrack_supervisor::exit_records(&pod.run_dir()).unwrap();
    assert_eq!(
        records.iter().map(|record| (record.id.as_str(), record.exit_code)).collect::<Vec<_>>(),
        [("ended", 6)]
    );

    // A new one takes over the directory, and knows what was recorded.
    let config = support::config(pod.dir.path(), &pod.cgroups);
    let next = carrack_supervisor::start(Path::new(EXE), &config).await.unwrap();
    assert_eq!(next.list().await.unwrap().len(), 1);
    next.shutdown().await.unwrap();
}

#[tokio::test]
async fn many_at_once_leave_no_descriptor() {
    let pod = Pod::new().await;
    let open = || std::fs::read_dir(format!("/proc/{}/fd", pod.sandbox.pid())).unwrap().count();
    pod.run(&pod.script("first", "true")).await;
    let before = open();
    let mut events = pod.sandbox.events();
    let mut starting = Vec::new();
    for number in 0..40 {
        let mut container = pod.script(&format!("c{number}"), &format!("echo {number}; exit {number}"));
        // Some with a terminal, some that cannot start.
        container.spec.tty = number % 3 == 0;
        container.stdin = number % 5 == 0;
        if number % 7 == 0 {
            container.spec.args = vec!["/nothing".into()];
        }
        let sandbox = pod.sandbox.clone();
        starting.push(tokio::spawn(async move { sandbox.start_container(&container).await.is_ok() }));
    }
    for (number, started) in starting.into_iter().enumerate() {
        assert_eq!(started.await.unwrap(), number % 7 != 0, "c{number}");
    }
    let mut left = 40;
    while left > 0 {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        let Event::Exited(record) = event else { continue };
        let number: i32 = record.id.trim_start_matches('c').parse().unwrap();
        assert_eq!(record.exit_code, if number % 7 == 0 { 127 } else { number }, "{record:?}");
        left -= 1;
    }
    for number in (0..40).filter(|number| number % 7 != 0) {
        assert_eq!(pod.log(&format!("c{number}")).trim_end(), number.to_string());
    }
    eventually("every descriptor is closed", || open() == before).await;
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", pod.sandbox.pid()))
        .unwrap_or_default();
    assert_eq!(children.trim(), "", "every child is reaped");
}

#[tokio::test]
async fn shutdown_leaves_nothing() {
    let pod = Pod::new().await;
    let mut events = pod.sandbox.events();
    let pid = pod
        .sandbox
        .start_container(&pod.script("c", "trap '' TERM; sleep 1000 & wait; sleep 1000"))
        .await
        .unwrap()
        .pid;
    pod.sandbox.exec("c", &exec_script("sleep 1000")).await.unwrap();
    pod.sandbox.shutdown().await.unwrap();
    assert!(!alive(pid) && !alive(pod.sandbox.pid()));
    assert_eq!(exited(&mut events, "c").await.signal, Some(9));
    assert_eq!(events.recv().await, Some(Event::Gone));
    assert!(!pod.run_dir().join("socket").exists());
    assert_eq!(pod.cgroups.get("pod").unwrap().pids().unwrap(), [] as [u32; 0]);
    pod.sandbox.shutdown().await.unwrap();
}

#[tokio::test]
async fn nonsense_on_the_socket_harms_nobody() {
    use std::os::unix::fs::PermissionsExt;
    let pod = Pod::new().await;
    let path = pod.run_dir().join("socket");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for nonsense in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], b"\x02\0\0\0{}", b"\x05\0\0\0nope!", b"\x03"]
    {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.write_all(nonsense).unwrap();
    }
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(std::os::unix::net::UnixStream::connect(&path).unwrap());
    }
    drop(crowd);
    let mut bad = pod.script("bad", "true");
    bad.id = "../escape".into();
    assert!(pod.failure(&bad).await.message.contains("not a container id"));
    assert_eq!(pod.output(&pod.script("c", "echo fine")).await, "fine\n");
}

#[tokio::test]
async fn a_supervisor_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let cgroups =
        carrack_cgroups::Cgroups::open(&format!("carrack-test-nostart-{}", std::process::id())).unwrap();
    let mut config = support::config(dir.path(), &cgroups);
    config.sysctls = [("kernel.panic".into(), "1".into())].into();
    let error = carrack_supervisor::start(Path::new(EXE), &config).await.unwrap_err().to_string();
    assert!(error.contains("sysctl \"kernel.panic\" is not namespaced"), "{error}");
    let error =
        carrack_supervisor::start(Path::new("/no/such/carrack"), &config).await.unwrap_err().to_string();
    assert!(error.contains("cannot run /no/such/carrack"), "{error}");
    cgroups.purge().unwrap();
}

#[tokio::test]
async fn an_idle_supervisor_is_small() {
    let pod = Pod::new().await;
    pod.sandbox.start_container(&pod.script("c", "sleep 1000")).await.unwrap();
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", pod.sandbox.pid())).unwrap();
    let kib = |key: &str| -> u64 {
        let line = rollup.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // What every further pod costs; pages of the binary are shared by all.
    let own = kib("Anonymous:");
    println!("supervisor: {own} KiB of its own, {} KiB PSS, {} KiB RSS", kib("Pss:"), kib("Rss:"));
    assert!(own < 512, "more than half a MiB of its own: {rollup}");
    assert!(pod.sandbox.netns().as_path().exists());
    let fd = std::fs::File::open(pod.sandbox.netns()).unwrap();
    assert!(rustix::fs::fstat(fd.as_fd()).is_ok());
}
