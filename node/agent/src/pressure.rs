//! Measures whether the node runs short of memory, disk or process ids, by the kubelet's hard thresholds
//! (`memory.available<100Mi,nodefs.available<10%`).

use std::io;
use std::path::Path;
use std::str::FromStr;

use carrack_volumes::Amount;

/// The kubelet's own thresholds, and that for process ids. Images and volumes are on one file system here, so that
/// `imagefs` and `nodefs` look at the same; the kubelet's 15 % for a file system of images alone are not among these.
pub const DEFAULT_EVICTION_HARD: &str =
    "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,pid.available<10%";

/// What of a resource has to stay free.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// Bytes, inodes, process ids.
    Units(u64),
    /// A share of all there is, 0 to 1.
    Share(f64),
}

impl Limit {
    /// How much of `total` has to stay free.
    fn of(self, total: u64) -> u64 {
        match self {
            Self::Units(units) => units,
            Self::Share(share) => (total as f64 * share) as u64,
        }
    }
}

/// A resource of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Memory,
    Disk,
    Inodes,
    Pids,
}

const SIGNALS: [(&str, Signal); 6] = [
    ("memory.available", Signal::Memory),
    ("nodefs.available", Signal::Disk),
    ("nodefs.inodesFree", Signal::Inodes),
    ("imagefs.available", Signal::Disk),
    ("imagefs.inodesFree", Signal::Inodes),
    ("pid.available", Signal::Pids),
];

/// From when on the node is under pressure. Made by `parse` from what the kubelet takes as `--eviction-hard`.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds(Vec<(Signal, Limit)>);

/// Why thresholds are not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ThresholdError {
    /// Not `signal<value`.
    #[error(
        "{0:?} is not a threshold: write signal<value, like memory.available<100Mi or nodefs.available<10%"
    )]
    Form(String),
    /// A signal that is not known.
    #[error("there is no signal {0:?}: there are {names}", names = SIGNALS.map(|(name, _)| name).join(", "))]
    Signal(String),
    /// A value that is not one.
    #[error("{0:?} is neither a quantity (100Mi) nor a share (10%)")]
    Value(String),
}

impl Default for Thresholds {
    fn default() -> Self {
        Self(DEFAULT_EVICTION_HARD.split(',').filter_map(|text| threshold(text).ok()).collect())
    }
}

impl FromStr for Thresholds {
    type Err = ThresholdError;

    /// Reads thresholds separated by commas. A signal that is not named has no threshold, as with the kubelet.
    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(threshold)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn threshold(text: &str) -> Result<(Signal, Limit), ThresholdError> {
    let (name, value) = text.split_once('<').ok_or_else(|| ThresholdError::Form(text.to_owned()))?;
    let known = SIGNALS.iter().find(|(known, _)| *known == name.trim());
    let (_, signal) = known.ok_or_else(|| ThresholdError::Signal(name.trim().to_owned()))?;
    let limit = limit(value.trim()).ok_or_else(|| ThresholdError::Value(value.trim().to_owned()))?;
    Ok((*signal, limit))
}

fn limit(text: &str) -> Option<Limit> {
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: f64 = percent.parse().ok()?;
            (0.0..100.0).contains(&percent).then_some(Limit::Share(percent / 100.0))
        }
        None => u64::try_from(Amount::parse(text)?.units()).ok().map(Limit::Units),
    }
}

impl Thresholds {
    /// How much of `total` of a resource has to stay free: the highest of its thresholds.
    fn reserve(&self, signal: Signal, total: u64) -> u64 {
        self.0.iter().filter(|(of, _)| *of == signal).map(|(_, limit)| limit.of(total)).max().unwrap_or(0)
    }

    /// What of memory and disk (bytes both) pods can use before the node is under pressure.
    pub(crate) fn usable(&self, memory: u64, disk: u64) -> (u64, u64) {
        let left = |signal, total: u64| total.saturating_sub(self.reserve(signal, total));
        (left(Signal::Memory, memory), left(Signal::Disk, disk))
    }

    /// Whether that little is free. A file system without a total (btrfs has no inode count) is never short.
    fn short(&self, signal: Signal, free: u64, total: u64) -> bool {
        total > 0 && free < self.reserve(signal, total)
    }
}

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
    pub(crate) fn measure(thresholds: &Thresholds, dir: &Path) -> io::Result<Self> {
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let disk = nix::sys::statvfs::statvfs(dir)?;
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let pid_max = std::fs::read_to_string("/proc/sys/kernel/pid_max")?;
        let unit = disk.fragment_size();
        let kib = |name| memory_kib(&memory, name);
        let short = |signal, free, total| thresholds.short(signal, free, total);
        Ok(Self {
            memory: kib("MemAvailable:")
                .zip(kib("MemTotal:"))
                .is_some_and(|(free, total)| short(Signal::Memory, free * 1024, total * 1024)),
            disk: short(Signal::Disk, disk.blocks_available() * unit, disk.blocks() * unit)
                || short(Signal::Inodes, disk.files_available(), disk.files()),
            pids: pids(&load, &pid_max).is_some_and(|(free, max)| short(Signal::Pids, free, max)),
        })
    }

    /// Says in the log what has changed, and what to do: a node under pressure gets no more pods.
    pub(crate) fn tell(self, before: Self, dir: &Path) {
        let table = [
            ("memory", self.memory, before.memory),
            ("disk space", self.disk, before.disk),
            ("process ids", self.pids, before.pids),
        ];
        for (what, now, before) in table {
            match (now, before) {
                (true, false) => tracing::warn!(
                    data_dir = %dir.display(),
                    "the node is short of {what} and takes no new pods: free some, or allow more to be used by --eviction-hard"
                ),
                (false, true) => tracing::info!("the node has enough {what} again"),
                _ => {}
            }
        }
    }
}

fn memory_kib(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// How many process ids are free, and how many there are. The fourth word of /proc/loadavg is `running/all` threads.
fn pids(loadavg: &str, pid_max: &str) -> Option<(u64, u64)> {
    let all: u64 = loadavg.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()?;
    let max: u64 = pid_max.trim().parse().ok()?;
    Some((max.saturating_sub(all), max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thresholds(text: &str) -> Thresholds {
        text.parse().unwrap()
    }

    #[test]
    fn short_below_the_threshold_and_not_at_it() {
        let share = thresholds("nodefs.available<10%");
        assert!(share.short(Signal::Disk, 9, 100) && !share.short(Signal::Disk, 10, 100));
        assert!(!share.short(Signal::Disk, 0, 0), "no total, no shortage");
        assert!(!share.short(Signal::Memory, 0, 100), "not named, no threshold");
        let units = thresholds("memory.available<1Gi, imagefs.available<7.5%,nodefs.available<5");
        assert!(
            units.short(Signal::Memory, (1 << 30) - 1, 1 << 40)
                && !units.short(Signal::Memory, 1 << 30, 1 << 40)
        );
        assert!(
            units.short(Signal::Disk, 74, 1000) && !units.short(Signal::Disk, 75, 1000),
            "the higher one counts"
        );
    }

    #[test]
    fn defaults_are_the_kubelets() {
        let default = Thresholds::default();
        assert_eq!(default, thresholds(DEFAULT_EVICTION_HARD));
        assert_eq!(default.usable(1 << 30, 1000), ((1 << 30) - (100 << 20), 900));
        assert_eq!(default.usable(5, 0), (0, 0));
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        let refused = |text: &str| text.parse::<Thresholds>().unwrap_err().to_string();
        assert!(refused("memory.available").starts_with("\"memory.available\" is not a threshold"));
        assert!(refused("memory.free<5Mi").contains("there are memory.available, nodefs.available"));
        for value in ["x", "-5%", "100%", "-1Gi", ""] {
            assert!(refused(&format!("memory.available<{value}")).contains("neither a quantity"), "{value}");
        }
    }

    #[test]
    fn reads_what_the_kernel_says() {
        let meminfo = "MemTotal: 5 kB\nMemAvailable:   1234 kB\n";
        assert_eq!(memory_kib(meminfo, "MemAvailable:"), Some(1234));
        assert_eq!(pids("0.0 0.0 0.0 2/3900 17", "4000\n"), Some((100, 4000)));
    }
}
