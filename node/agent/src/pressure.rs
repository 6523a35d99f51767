//! Measures whether the node runs short of memory, disk or process ids, by the kubelet's default thresholds.

use std::io;
use std::path::Path;

/// `memory.available<100Mi`.
const MEMORY_KIB: u64 = 100 * 1024;
/// `nodefs.available<10%` and `nodefs.inodesFree<5%`.
const DISK_PERCENT: u64 = 10;
const INODES_PERCENT: u64 = 5;
/// Fewer free process ids than this share of them.
const PIDS_PERCENT: u64 = 10;

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk space or inodes where pods and images are kept.
    pub disk: bool,
    /// Process ids.
    pub pids: bool,
}

impl Pressure {
    /// Measures now; `dir` is where pods and images are kept.
    pub(crate) fn measure(dir: &Path) -> io::Result<Self> {
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let disk = nix::sys::statvfs::statvfs(dir)?;
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let pid_max = std::fs::read_to_string("/proc/sys/kernel/pid_max")?;
        Ok(Self {
            memory: available_kib(&memory).is_some_and(|kib| kib < MEMORY_KIB),
            disk: below(disk.blocks_available(), disk.blocks(), DISK_PERCENT)
                || below(disk.files_available(), disk.files(), INODES_PERCENT),
            pids: few_pids(&load, &pid_max).unwrap_or(false),
        })
    }
}

/// What of memory and disk (bytes both) pods can use before the node is under pressure.
pub(crate) fn usable(memory: u64, disk: u64) -> (u64, u64) {
    (memory.saturating_sub(MEMORY_KIB * 1024), disk - disk / 100 * DISK_PERCENT)
}

fn available_kib(meminfo: &str) -> Option<u64> {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .ok()
}

/// Whether `free` is less than a share of `total`; a file system without a total (btrfs has no inode count) never is.
fn below(free: u64, total: u64, percent: u64) -> bool {
    total > 0 && u128::from(free) * 100 < u128::from(total) * u128::from(percent)
}

/// The fourth word of /proc/loadavg is `running/all` threads.
fn few_pids(loadavg: &str, pid_max: &str) -> Option<bool> {
    let all: u64 = loadavg.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()?;
    let max: u64 = pid_max.trim().parse().ok()?;
    Some(below(max.saturating_sub(all), max, PIDS_PERCENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        assert!(below(9, 100, 10) && !below(10, 100, 10) && !below(0, 0, 10));
        assert_eq!(usable(1 << 30, 1000), ((1 << 30) - (100 << 20), 900));
        assert_eq!(usable(5, 0), (0, 0));
        assert_eq!(available_kib("MemTotal: 5 kB\nMemAvailable:   1234 kB\n"), Some(1234));
        assert_eq!(few_pids("0.0 0.0 0.0 2/3900 17", "4000\n"), Some(true));
        assert_eq!(few_pids("0.0 0.0 0.0 2/390 17", "4000\n"), Some(false));
    }
}
