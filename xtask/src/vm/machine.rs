//! The machine itself: QEMU, its serial line, and a limit to its time.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What the first process prints when the last program has ended.
pub(crate) const DONE: &str = "carrack-vm: done";
/// A machine that hangs is given up after this long.
const LIMIT: Duration = Duration::from_secs(1200);

/// What a machine is made of.
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// Its disk, raw.
    pub(crate) disk: &'a Path,
    /// In MiB.
    pub(crate) memory: u32,
}

/// Runs the machine until it turns itself off, and gives each line of its serial line to `each`.
pub(crate) fn run(machine: &Machine<'_>, mut each: impl FnMut(&str)) -> Result<()> {
    let began = Instant::now();
    let mut process = command(machine).spawn().context("qemu-system-x86_64 does not start")?;
    let output = process.stdout.take().context("no serial line")?;
    let ended = watch(process.id());
    let mut done = false;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        println!("{:5.0} {line}", began.elapsed().as_secs_f32());
        done |= line == DONE;
        each(&line);
    }
    process.wait()?;
    ended.store(true, Ordering::Relaxed);
    if !done {
        bail!("the machine ended before its programs, or was given up after {LIMIT:?}");
    }
    println!("   {:.0?}", began.elapsed());
    Ok(())
}

/// Software emulation: KVM is not there on every host, or hangs in nested machines.
fn command(machine: &Machine<'_>) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
        .args(["-m", &machine.memory.to_string()])
        .args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"])
        .arg("-kernel")
        .arg(machine.kernel)
        .arg("-initrd")
        .arg(machine.initramfs)
        // A disk that need not outlive the machine: nothing is synced on the host.
        .args(["-drive", &format!("if=virtio,format=raw,cache=unsafe,file={}", machine.disk.display())])
        // The kernel's own lines would tear those of the tests apart; a panic still shows.
        .args(["-append", "console=ttyS0 loglevel=2 panic=-1 rdinit=/init mitigations=off"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Ends the machine when it takes too long, unless it is told that the machine has ended.
fn watch(pid: u32) -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let seen = ended.clone();
    std::thread::spawn(move || {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_secs(1));
            if seen.load(Ordering::Relaxed) {
                return;
            }
        }
        let _ = Command::new("kill").arg(pid.to_string()).status();
    });
    ended
}
