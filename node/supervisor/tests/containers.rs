//! What a container is: namespaces, mounts, privileges, limits. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use carrack_cgroups::Limits;
use carrack_runtime::{Mount, MountKind, Propagation, Rlimit, Seccomp, User};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use support::Pod;

#[tokio::test]
async fn a_container_has_its_own_world() {
    let pod = Pod::new().await;
    let script = "hostname; echo $$; cat /proc/1/comm; pwd; id -u; echo $HOME; ls /; \
        cat /proc/self/cgroup | grep -v ':/$' ; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
        ifconfig lo | grep -c UP; ls -d /sys/class/net/*; umask; ls -l /proc/self/fd 2>/dev/null | grep -c carrack; true";
    let output = pod.output(&pod.script("c", script)).await;
    let expected = "test-pod\n1\nsh\n/\n0\n/root\nbin\ndev\netc\nhome\nproc\nroot\nsys\ntmp\n80\n1\n/sys/class/net/lo\n0022\n0\n";
    assert_eq!(output, expected);
}

#[tokio::test]
async fn only_expected_mounts_are_seen() {
    let pod = Pod::new().await;
    let output = pod
        .output(&pod.script("c", "while read _ _ _ _ where _; do echo $where; done </proc/self/mountinfo"))
        .await;
    let mut seen: Vec<&str> = output.lines().collect();
    seen.sort_unstable();
    seen.dedup();
    for path in &seen {
        let known = ["/dev", "/proc", "/sys"].iter().any(|top| path.starts_with(top)) || *path == "/";
        assert!(known, "{path} is mounted");
    }
    for path in [
        "/",
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
        "/proc/timer_list",
    ] {
        assert!(seen.contains(&path), "{path} is not mounted: {seen:?}");
    }
}

#[tokio::test]
async fn kernel_filesystems_are_protected() {
    let pod = Pod::new().await;
    let script = "exec 2>/dev/null; \
        head -c1 /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
        echo 1 > /proc/sys/kernel/domainname && echo written; \
        echo b > /proc/sysrq-trigger && echo written; \
        mkdir /sys/fs/cgroup/x && echo made; mkdir /sys/fs/cgroup/*/x && echo made; \
        : > /dev/null && echo null; head -c4 /dev/zero | wc -c; head -c1 /dev/kmsg && echo kmsg; \
        mknod /tmp/sda b 8 0 && head -c1 /tmp/sda && echo disk; \
        for l in stdout fd ptmx; do readlink /dev/$l; done";
    let output = pod.output(&pod.script("c", script)).await;
    assert_eq!(output, "0\n0\nnull\n4\n/proc/self/fd/1\n/proc/self/fd\npts/ptmx\n");
}

#[tokio::test]
async fn privileges_are_what_was_asked_for() {
    let pod = Pod::new().await;
    let status = "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status | tr -d '\\t' | tr '\\n' ' '";
    let output = pod.output(&pod.script("default", status)).await;
    let caps = "00000000a80425fb";
    assert_eq!(
        output.trim(),
        format!(
            "CapInh:0000000000000000 CapPrm:{caps} CapEff:{caps} CapBnd:{caps} CapAmb:0000000000000000 NoNewPrivs:0 Seccomp:2"
        )
    );

    let mut locked = pod.script("locked", status);
    locked.spec.no_new_privs = true;
    locked.spec.capabilities.drop = vec!["ALL".into()];
    locked.spec.capabilities.add = vec!["NET_BIND_SERVICE".into()];
    let caps = "0000000000000400";
    let output = pod.output(&locked).await;
    assert_eq!(
        output.trim(),
        format!(
            "CapInh:0000000000000000 CapPrm:{caps} CapEff:{caps} CapBnd:{caps} CapAmb:0000000000000000 NoNewPrivs:1 Seccomp:2"
        )
    );

    let mut user = pod.script(
        "user",
        "id; echo $HOME; pwd; touch /root/x || echo denied; grep CapEff /proc/self/status; : > /dev/stderr",
    );
    user.spec.user.image_user = "web".into();
    user.spec.user.supplemental_groups = vec![2000];
    user.spec.cwd = "/home/web/new".into();
    let output = pod.output(&user).await;
    assert!(
        output.starts_with(
            "uid=1000(web) gid=1000(web) groups=50(logs),1000(web),2000\n/home/web\n/home/web/new\n"
        ),
        "{output}"
    );
    assert!(output.contains("denied\nCapEff:\t0000000000000000\n"), "{output}");

    let mut privileged = pod.limited("privileged", &["sh", "-c", "grep -E 'CapEff|Seccomp:' /proc/self/status; ls /dev/kmsg; mount -t tmpfs none /tmp && echo mounted; head -c1 /proc/timer_list | wc -c"], &Limits::default());
    privileged.spec.make_privileged();
    let output = pod.output(&privileged).await;
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find(|line| line.starts_with("CapPrm")).unwrap().replace("CapPrm", "CapEff");
    assert_eq!(output, format!("{own}\nSeccomp:\t0\n/dev/kmsg\nmounted\n1\n"));
}

#[tokio::test]
async fn seccomp_profiles_hold() {
    let pod = Pod::new().await;
    // CAP_SYS_CHROOT is there by default; keyctl-like and namespace calls are not.
    let script = "unshare -U true && echo unshared; chroot / true && echo chroot";
    assert!(pod.output(&pod.script("default", script)).await.ends_with("chroot\n"));

    let mut open = pod.script("open", "unshare -U true && echo unshared");
    open.spec.seccomp = Seccomp::Unconfined;
    assert_eq!(pod.output(&open).await, "unshared\n");

    let profile = pod.dir.path().join("profile.json");
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    std::fs::write(&profile, json).unwrap();
    let mut local = pod.script("local", "mkdir /tmp/x 2>&1; grep Seccomp: /proc/self/status");
    local.spec.seccomp = Seccomp::Localhost(profile);
    local.spec.no_new_privs = true;
    assert_eq!(
        pod.output(&local).await,
        "mkdir: can't create directory '/tmp/x': No space left on device\nSeccomp:\t2\n"
    );

    let mut missing = pod.script("missing", "true");
    missing.spec.seccomp = Seccomp::Localhost("/no/such".into());
    assert_eq!(
        pod.failure(&missing).await.message,
        "cannot read the seccomp profile /no/such: no such file or directory"
    );
}

#[tokio::test]
async fn mounts_are_as_asked_for() {
    let pod = Pod::new().await;
    let host = pod.dir.path().join("host");
    std::fs::create_dir_all(host.join("sub")).unwrap();
    std::fs::write(host.join("file"), "content\n").unwrap();
    let script = "exec 2>&1; echo new > /rw/made && cat /rw/file; echo x > /ro/made; cat /one; echo x > /one; \
        touch /mem/x && stat -c %a /mem && df -P /mem | tail -1 | tr -s ' ' | cut -d' ' -f2; \
        cp /bin/busybox /mem/b && /mem/b true; touch /x; echo done";
    let mut container = pod.script("c", script);
    container.spec.readonly_root = true;
    container.spec.mounts.extend([
        Mount::bind(&host, "/rw"),
        Mount::bind(&host, "/ro").read_only(true),
        Mount::bind(host.join("file"), "/one").read_only(true),
        Mount { noexec: true, ..Mount::new("/mem", MountKind::Tmpfs { size: Some(8 << 20), mode: 0o1777 }) },
    ]);
    let output = pod.output(&container).await;
    let expected = "content\nsh: can't create /ro/made: Read-only file system\ncontent\nsh: can't create /one: Read-only file system\n\
        1777\n8192\nsh: /mem/b: Permission denied\ntouch: /x: Read-only file system\ndone\n";
    assert_eq!(output, expected);
    assert_eq!(std::fs::read_to_string(host.join("made")).unwrap(), "new\n");
}

#[tokio::test]
async fn mount_targets_cannot_lead_outside() {
    let pod = Pod::new().await;
    let (layer, host) = (pod.dir.path().join("layer"), pod.dir.path().join("host"));
    std::fs::create_dir(&host).unwrap();
    symlink("../../../../../../../../etc", layer.join("up")).unwrap();
    symlink("/proc/self/root/../..", layer.join("magic")).unwrap();
    symlink("/run/new", layer.join("dangling")).unwrap();

    let mut container = pod.script("c", "ls -d /etc/inner /run/new/deep /etc/dots; cat /etc/inner/proof");
    std::fs::write(host.join("proof"), "inside\n").unwrap();
    for target in ["/up/inner", "/dangling/deep", "/../../../etc/dots"] {
        container.spec.mounts.push(Mount::bind(&host, target));
    }
    assert_eq!(pod.output(&container).await, "/etc/dots\n/etc/inner\n/run/new/deep\ninside\n");

    for (id, target) in [("p1", "/proc/1"), ("p2", "/proc/self/fd"), ("p3", "/proc/sys/kernel")] {
        let mut container = pod.script(id, "true");
        container.spec.mounts.push(Mount::bind(&host, target));
        let message = pod.failure(&container).await.message;
        assert!(message.contains("is inside /proc") || message.contains("cannot open"), "{message}");
    }

    // An image whose /proc is a link would get security settings written elsewhere.
    symlink("/tmp", layer.join("fake")).unwrap();
    let mut container = pod.script("link", "true");
    container.spec.mounts.push(Mount::new("/fake", MountKind::Proc));
    assert!(pod.failure(&container).await.message.contains("symbolic links"), "links are refused");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for place in ["inner", "deep", "dots", "fake"] {
        assert!(
            !mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|to| to.ends_with(place))),
            "{mounts}"
        );
    }
}

#[tokio::test]
async fn bad_mounts_are_explained() {
    let pod = Pod::new().await;
    let mut missing = pod.script("missing", "true");
    missing.spec.mounts.push(Mount::bind("/no/such/source", "/x"));
    let failure = pod.failure(&missing).await;
    assert_eq!(failure.message, "cannot mount /no/such/source at /x: no such file or directory");
    assert_eq!((failure.reason.as_str(), failure.exit_code), ("StartError", 128));

    // The test's own mount, private: nothing can travel through it.
    let mut private = pod.script("private", "true");
    let source = PathBuf::from("/proc");
    let mut mount = Mount::bind(&source, "/x");
    mount.propagation = Propagation::Bidirectional;
    private.spec.mounts.push(mount);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let shared = table.lines().any(|line| line.contains(" /proc ") && line.contains("shared:"));
    if !shared {
        let message = pod.failure(&private).await.message;
        assert_eq!(message, "/proc is not on a shared mount, as its mount propagation needs");
    }
}

#[tokio::test]
async fn the_pod_shares_network_ipc_and_shm() {
    let pod = Pod::new().await;
    let names = "for n in net ipc uts; do readlink /proc/self/ns/$n; done";
    let first = pod.output(&pod.script("one", &format!("echo hello > /dev/shm/note; {names}"))).await;
    let second = pod.output(&pod.script("two", &format!("cat /dev/shm/note >&2; {names}"))).await;
    assert_eq!(second, format!("hello\n{first}"));
    for (namespace, line) in ["net", "ipc", "uts"].iter().zip(first.lines()) {
        let host = std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        assert_ne!(host.to_str().unwrap(), line, "{namespace} is not the host's");
    }
    let netns = std::fs::read_link(pod.sandbox.netns()).unwrap();
    assert_eq!(netns.to_str(), first.lines().next());
}

#[tokio::test]
async fn host_namespaces_and_shared_processes() {
    let host = Pod::with(|config| {
        config.host_network = true;
        config.host_ipc = true;
        config.host_pid = true;
        config.sysctls.clear();
    })
    .await;
    let mut container = host.script("c", "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done");
    container.spec.pid = carrack_runtime::PidNamespace::Inherit;
    let own: String = ["net", "ipc", "uts", "pid"]
        .map(|name| format!("{}\n", std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display()))
        .concat();
    assert_eq!(host.output(&container).await, own);

    let shared = Pod::with(|config| config.share_process_namespace = true).await;
    let mut long = shared.script("long", "exec sleep 1234");
    long.spec.pid = carrack_runtime::PidNamespace::Inherit;
    shared.sandbox.start_container(&long).await.unwrap();
    // Leaves somebody behind, who must not outlive the container.
    let mut looker = shared.script("looker", "sleep 4321 & ps | grep -c 'sleep 1234$'; cat /proc/1/comm");
    looker.spec.pid = carrack_runtime::PidNamespace::Inherit;
    let output = shared.output(&looker).await;
    assert!(output.starts_with("1\n"), "{output}");
    assert!(!output.ends_with("sh\n"), "the first process is nobody's container: {output}");
    let group = shared.cgroups.get("pod/looker").unwrap();
    for _ in 0..200 {
        if group.pids().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(group.pids().unwrap(), [] as [u32; 0]);
}

#[tokio::test]
async fn memory_limits_kill() {
    let pod = Pod::new().await;
    let limits = Limits { memory_limit: Some(24 << 20), oom_group: true, ..Limits::default() };
    let args = ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"];
    let (record, _) = pod.run(&pod.limited("fat", &args, &limits)).await;
    assert_eq!((record.exit_code, record.signal), (137, Some(9)));
    assert!(pod.cgroups.get("pod/fat").unwrap().oom_kills().unwrap() > 0);
}

#[tokio::test]
async fn limits_of_the_process_are_set() {
    let pod = Pod::new().await;
    let mut container = pod.script("c", "ulimit -n; ulimit -c; cat /proc/self/oom_score_adj");
    container.spec.rlimits = vec![
        Rlimit { name: "RLIMIT_NOFILE".into(), soft: 321, hard: 400 },
        Rlimit { name: "RLIMIT_CORE".into(), soft: 0, hard: 0 },
    ];
    container.spec.oom_score_adj = 777;
    assert_eq!(pod.output(&container).await, "321\n0\n777\n");
    let mut wrong = pod.script("wrong", "true");
    wrong.spec.rlimits = vec![Rlimit { name: "RLIMIT_NONE".into(), soft: 0, hard: 0 }];
    assert_eq!(pod.failure(&wrong).await.message, "unknown resource limit \"RLIMIT_NONE\"");
}

#[tokio::test]
async fn commands_that_cannot_run_are_explained() {
    let pod = Pod::new().await;
    std::fs::write(pod.dir.path().join("layer/bin/script"), "#!/no/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(pod.dir.path().join("layer/bin/script"), mode).unwrap();
    for (id, args, message, code) in [
        ("a", &["foo"][..], "exec: \"foo\": executable file not found in $PATH", 127),
        ("b", &["/etc/foo"], "exec: \"/etc/foo\": stat /etc/foo: no such file or directory", 127),
        ("c", &["/etc/plain"], "exec: \"/etc/plain\": permission denied", 126),
        ("d", &["/etc"], "exec: \"/etc\": is a directory", 126),
        ("e", &["script"], "exec /bin/script: no such file or directory", 127),
        ("f", &["/proc/self/exe"], "exec: \"/proc/self/exe\": operation not permitted", 126),
        ("g", &[], "no command specified", 128),
    ] {
        let failure = pod.failure(&pod.command(id, args)).await;
        assert_eq!((failure.message.as_str(), failure.exit_code), (message, code));
        assert_eq!(failure.reason, if code == 128 { "StartError" } else { "ContainerCannotRun" });
        let carrack_supervisor::ContainerStatus::Exited(record) = pod.status(id).await else {
            panic!("not recorded")
        };
        assert_eq!(record.start_error.unwrap(), failure);
    }
    let mut nobody = pod.script("nobody", "true");
    nobody.spec.user = User { image_user: "ghost".into(), ..User::default() };
    assert_eq!(
        pod.failure(&nobody).await.message,
        "unable to find user ghost: no matching entries in passwd file"
    );
    let mut leaky = pod.script("leaky", "true");
    leaky.spec.cwd = "/proc/self/fd/4/../../..".into();
    let failure = pod.failure(&leaky).await;
    assert!(
        failure.message.contains("working directory") || failure.message.contains("no such file"),
        "{failure:?}"
    );
    let mut userns = pod.script("userns", "true");
    userns.spec.user_namespace = true;
    assert!(pod.failure(&userns).await.message.contains("user namespaces are not supported yet"));
}
