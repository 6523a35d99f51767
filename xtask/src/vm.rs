//! `cargo xtask vm`: boots Debian's stock kernel in QEMU, under software emulation, and runs there what depends on a host:
//! the tests of the node's packages and whole clusters, with control groups of version 2 and a kernel that people have.
//!
//! The machine's disk is an ext4 with busybox, a few programs of this host, and the test programs, which are static. What
//! they print comes over the serial line.

mod build;
mod image;
mod kernel;
mod machine;
mod tree;

use std::path::Path;

use anyhow::{Result, bail};

use crate::{ebpf, root, setup};
use build::Program;
use machine::{DONE, Machine};
use tree::Tree;

/// Programs of this host that the tests start; those of busybox would not do.
const HOST_PROGRAMS: &[&str] = &["ip", "tc", "tar", "docker-registry"];
/// Those that the benchmark runs beside ours.
const BENCH_PROGRAMS: &[&str] = &["crun", "runc"];
/// How much slower than a real host the machine is taken to be: what whole-system tests multiply their time limits by.
const SLOWNESS: u32 = 20;
/// How many containers the benchmark makes.
const BENCH_TIMES: u32 = 60;

/// What to run.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// The packages to test; all that depend on the host by default
    packages: Vec<String>,
    /// Memory of the machine, in MiB; 4096 by default
    #[arg(long)]
    memory: Option<u32>,
    /// Instead of tests, make containers beside crun and runc
    #[arg(long, conflicts_with = "packages")]
    bench: bool,
    /// Only tests whose names contain this
    #[arg(long, value_name = "NAME", conflicts_with = "bench")]
    filter: Option<String>,
}

/// Memory where nothing is said, in MiB.
const MEMORY: u32 = 4096;

/// How many tests passed and failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// The names of those that failed.
    pub(crate) failures: Vec<String>,
}

/// Runs the tests, or the benchmark, in the machine; an error if any failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.bench {
        return bench(options);
    }
    let outcome = tests(options)?;
    println!("{} passed, {} failed in the virtual machine", outcome.passed, outcome.failed);
    if outcome.failed > 0 { bail!("failed: {}", outcome.failures.join(", ")) } else { Ok(()) }
}

/// Builds the tests, boots the machine and counts what it says.
pub(crate) fn tests(options: &Options) -> Result<Outcome> {
    setup::for_vm()?;
    ebpf::run()?;
    let programs = build::tests(&options.packages)?;
    let filter = options.filter.as_deref().unwrap_or_default();
    // One test at a time: emulated processors are slow, and time-outs are made for real ones. What is fed to targets of
    // fuzzing lies in files that are not there, and another kernel makes no difference to it.
    let options_of_all = format!("--test-threads=1 --skip fuzzing:: {filter}");
    let lines = programs.iter().filter(|p| p.is_test).map(|p| format!("{} {options_of_all}", name(&p.path)));
    let mut outcome = Outcome::default();
    boot(options, &programs, HOST_PROGRAMS, lines, |line| outcome.read(line))?;
    Ok(outcome)
}

/// Whether all tests whose names contain this pass, in a machine of their own.
pub(crate) fn passes(name: &str) -> bool {
    let options = Options { filter: Some(name.to_owned()), ..Options::default() };
    tests(&options).is_ok_and(|outcome| outcome.failed == 0 && outcome.passed > 0)
}

/// Makes containers beside crun and runc.
fn bench(options: &Options) -> Result<()> {
    setup::for_bench()?;
    let programs = build::bench()?;
    let lines = programs.iter().map(|p| format!("{} {BENCH_TIMES}", name(&p.path)));
    boot(options, &programs, BENCH_PROGRAMS, lines, |_| {})
}

/// Puts the images together and runs the machine.
fn boot(
    options: &Options,
    programs: &[Program],
    host_programs: &[&str],
    lines: impl Iterator<Item = String>,
    each: impl FnMut(&str),
) -> Result<()> {
    let kernel = kernel::find()?;
    let tree = Tree::new()?;
    for program in programs {
        tree.built(&program.path)?;
    }
    for name in host_programs {
        tree.host_program(name)?;
    }
    tree.copy(&root().join("examples"))?;
    tree.script("sbin/init", &script(lines))?;
    let dir = root().join("target/vm");
    std::fs::create_dir_all(&dir)?;
    let (initramfs, disk) = (dir.join("initramfs"), dir.join("disk"));
    image::initramfs(&initramfs, &kernel)?;
    image::disk(&disk, &tree)?;
    drop(tree);
    println!("booting Linux {} with {} programs", kernel.release, programs.len());
    let memory = options.memory.unwrap_or(MEMORY);
    machine::run(&Machine { kernel: &kernel.image, initramfs: &initramfs, disk: &disk, memory }, each)
}

/// What the machine does once its disk is there: mounts, and one program of /tests after the other.
fn script(lines: impl Iterator<Item = String>) -> String {
    let mut text = format!(
        "#!/bin/sh\n\
         export PATH=/usr/bin:/bin HOME=/root RUST_BACKTRACE=1 CARRACK_SLOW={SLOWNESS}\n\
         export PROPTEST_CASES=16\n\
         mount -t proc proc /proc\nmount -t sysfs sys /sys\nmount -t devtmpfs dev /dev\n\
         mkdir -p /dev/pts /dev/shm /dev/mqueue\nmount -t devpts pts /dev/pts\nmount -t tmpfs shm /dev/shm\n\
         mount -t mqueue mqueue /dev/mqueue\nmount -t tmpfs run /run\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\nmount -t bpf bpf /sys/fs/bpf\n\
         ip link set lo up\nhostname carrack-vm\n",
    );
    for line in lines {
        text.push_str(&format!("echo '== {line}'\n(cd /tmp && /tests/{line})\n"));
    }
    text.push_str(&format!("echo '{DONE}'\npoweroff -f\n"));
    text
}

fn name(program: &Path) -> String {
    program.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
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
