//! `cargo xtask vm`: boots Debian's stock kernel in QEMU, under software emulation, and runs the tests of the node's
//! packages there: control groups of version 2, and a kernel that people have.
//!
//! The virtual machine's whole disk is its initial file system: busybox, the kernel modules that the tests need, and the
//! test programs, which are static. What they print comes over the serial line.

mod image;
mod kernel;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{cargo, ebpf, root, setup};

/// The packages whose tests run in the virtual machine: those whose work depends on the version of control groups. (The
/// network's masquerade needs a kernel of 6.6, and its tests ip(8); the volumes' tests need a disk.)
const PACKAGES: &[&str] = &["carrack-cgroups", "carrack-runtime", "carrack-supervisor"];
/// What the first process prints when the last test has ended.
const DONE: &str = "carrack-vm: done";
/// A machine that hangs is given up after this long.
const LIMIT: Duration = Duration::from_secs(900);

/// What to run.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// The packages to test; those of the node by default
    packages: Vec<String>,
    /// Memory of the machine, in MiB
    #[arg(long, default_value_t = 4096)]
    memory: u32,
}

/// How many tests passed and failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// The names of those that failed.
    pub(crate) failures: Vec<String>,
}

/// Runs the tests in the machine; an error if any failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let outcome = tests(options)?;
    println!("{} passed, {} failed in the virtual machine", outcome.passed, outcome.failed);
    if outcome.failed > 0 { bail!("failed: {}", outcome.failures.join(", ")) } else { Ok(()) }
}

/// Builds the tests, boots the machine and counts what it says.
pub(crate) fn tests(options: &Options) -> Result<Outcome> {
    setup::for_vm()?;
    ebpf::run()?;
    let packages: Vec<&str> = match options.packages.is_empty() {
        true => PACKAGES.to_vec(),
        false => options.packages.iter().map(String::as_str).collect(),
    };
    let programs = build(&packages)?;
    let kernel = kernel::find()?;
    let dir = root().join("target/vm");
    std::fs::create_dir_all(&dir)?;
    let disk = dir.join("initramfs");
    image::write(&disk, &kernel, &programs, &script(&programs))?;
    println!("booting Linux {} with {} test programs", kernel.release, programs.len());
    let memory = if options.memory == 0 { 4096 } else { options.memory };
    boot(&kernel.image, &disk, memory)
}

/// The test programs of the packages, and other programs of theirs that the tests start.
fn build(packages: &[&str]) -> Result<Vec<PathBuf>> {
    let mut command = cargo(&["test", "--no-run", "--message-format=json", "--lib", "--bins", "--tests"]);
    for package in packages {
        command.args(["--package", package]);
    }
    let output = command.stderr(Stdio::inherit()).output().context("cargo does not start")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(executable).collect())
}

/// The value of `"executable":"…"` in a line of cargo's messages.
fn executable(line: &str) -> Option<PathBuf> {
    let rest = line.split("\"executable\":\"").nth(1)?;
    Some(PathBuf::from(rest.split('"').next()?))
}

/// What the machine's first process does.
fn script(programs: &[PathBuf]) -> String {
    let mut text = String::from(
        "#!/bin/sh\n\
         export PATH=/bin HOME=/root TMPDIR=/scratch RUST_BACKTRACE=1 CARRACK_VM=1\n\
         mount -t proc proc /proc\nmount -t sysfs sys /sys\nmount -t devtmpfs dev /dev\n\
         mkdir -p /dev/pts /dev/shm /dev/mqueue\nmount -t devpts pts /dev/pts\nmount -t tmpfs shm /dev/shm\n\
         mount -t mqueue mqueue /dev/mqueue\nmount -t tmpfs scratch /scratch\nmount -t tmpfs run /run\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\nmount -t bpf bpf /sys/fs/bpf\n\
         while read module; do insmod $module || echo \"no $module\"; done < /modules\n\
         ip link set lo up\nhostname carrack-vm\n",
    );
    for program in programs.iter().filter(|p| is_test(p)) {
        // One test at a time: emulated processors are slow, and time-outs are made for real ones.
        text.push_str(&format!(
            "echo \"== {0}\"\n(cd /scratch && /tests/{0} --test-threads=1)\n",
            name(program)
        ));
    }
    text.push_str(&format!("echo '{DONE}'\npoweroff -f\n"));
    text
}

/// Test programs lie in `deps`; what they start lies above.
fn is_test(program: &Path) -> bool {
    program.parent().is_some_and(|dir| dir.ends_with("deps"))
}

fn name(program: &Path) -> String {
    program.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn boot(kernel: &Path, disk: &Path, memory: u32) -> Result<Outcome> {
    let began = Instant::now();
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", &memory.to_string()])
        .args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(disk)
        .args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("qemu-system-x86_64 does not start")?;
    let output = machine.stdout.take().context("no serial line")?;
    let watchdog = watch(machine.id());
    let mut outcome = Outcome::default();
    let mut done = false;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        println!("   {line}");
        done |= line == DONE;
        outcome.read(&line);
    }
    machine.wait()?;
    watchdog.store(true, std::sync::atomic::Ordering::Relaxed);
    if !done {
        bail!("the machine ended before its tests, or was given up after {LIMIT:?}");
    }
    println!("   {:.0?}", began.elapsed());
    Ok(outcome)
}

/// Ends the machine when it takes too long, unless it is told that the machine has ended.
fn watch(pid: u32) -> std::sync::Arc<std::sync::atomic::AtomicBool> {
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = ended.clone();
    std::thread::spawn(move || {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_secs(1));
            if seen.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
        }
        let _ = Command::new("kill").arg(pid.to_string()).status();
    });
    ended
}

impl Outcome {
    fn read(&mut self, line: &str) {
        if let Some((passed, failed)) = crate::test::summary(line) {
            self.passed += passed;
            self.failed += failed;
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
    }
}
