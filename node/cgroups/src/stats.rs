//! Use of resources and out-of-memory events.

use crate::error::{At, CgroupError, if_exists};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// Use of resources at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time used so far, nanoseconds.
    pub cpu_usage_ns: u64,
    /// Memory charged, bytes.
    pub memory_current: u64,
    /// Memory charged without inactive file cache, bytes: what eviction looks at.
    pub memory_working_set: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// Becomes readable when an out-of-memory kill may have happened; non-blocking, fit for tokio's `AsyncFd`. It also
/// becomes readable when the control group is removed.
#[derive(Debug)]
pub struct OomWatch(OwnedFd);

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for OomWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl OomWatch {
    /// Version 2: `memory.events` changes at each event.
    pub(crate) fn v2(dir: &Path) -> Result<Self, CgroupError> {
        let file = dir.join("memory.events");
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .at("watch", &file)?;
        inotify::add_watch(&fd, &file, inotify::WatchFlags::MODIFY | inotify::WatchFlags::DELETE_SELF)
            .at("watch", &file)?;
        Ok(Self(fd))
    }

    /// Version 1: an eventfd registered for `memory.oom_control`.
    pub(crate) fn v1(dir: &Path) -> Result<Self, CgroupError> {
        let file = dir.join("memory.oom_control");
        let control = std::fs::File::open(&file).at("watch", &file)?;
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).at("watch", &file)?;
        let registration = dir.join("cgroup.event_control");
        std::fs::write(&registration, format!("{} {}", fd.as_raw_fd(), control.as_raw_fd()))
            .at("write", &registration)?;
        Ok(Self(fd))
    }

    /// Takes what is pending, so that it becomes readable only at the next event; then read
    /// [`Cgroup::oom_kills`](crate::Cgroup::oom_kills), which alone tells whether anything was killed.
    pub fn drain(&self) -> Result<(), CgroupError> {
        let mut buffer = [0u8; 1024];
        loop {
            match rustix::io::read(&self.0, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno).at("read", Path::new("out-of-memory events")),
            }
        }
    }
}

/// The number in a file that holds one; 0 when there is no such file.
pub(crate) fn number(file: &Path) -> Result<u64, CgroupError> {
    let text = if_exists(std::fs::read_to_string(file)).at("read", file)?.unwrap_or_default();
    Ok(text.trim().parse().unwrap_or(0))
}

/// The number behind `key` in a file of "key number" lines; 0 when there is none.
pub(crate) fn keyed(file: &Path, key: &str) -> Result<u64, CgroupError> {
    let text = if_exists(std::fs::read_to_string(file)).at("read", file)?.unwrap_or_default();
    Ok(find_key(&text, key))
}

fn find_key(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_are_matched_whole() {
        let text = "low 0\noom_kill_disable 1\noom_kill 7\n";
        assert_eq!(super::find_key(text, "oom_kill"), 7);
        assert_eq!(super::find_key(text, "oom"), 0);
    }
}
