//! Walking, killing and removing subtrees of a hierarchy.

use crate::error::{At, CgroupError, if_exists};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long processes that were killed may take to vanish before removal gives up.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(5);
/// Rounds of killing in version 1; a process can only escape a round by forking in it.
const KILL_ROUNDS: u32 = 100;
/// From this round on the group is frozen while it is killed: the kernel discourages that, and mostly one round does.
const FREEZE_FROM: u32 = 10;

/// `top` and every directory below it, children before parents. Empty when there is no `top`.
pub(crate) fn subtree(top: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(dir) = open.pop() {
        let Some(entries) = if_exists(std::fs::read_dir(&dir)).at("list", &dir)? else { continue };
        open.extend(
            entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
        found.push(dir);
    }
    found.reverse();
    Ok(found)
}

/// Process numbers in `top` and below; of processes in another process namespace there are none.
pub(crate) fn pids(top: &Path) -> Result<Vec<u32>, CgroupError> {
    let mut pids = Vec::new();
    for dir in subtree(top)? {
        let file = dir.join("cgroup.procs");
        let text = if_exists(std::fs::read_to_string(&file)).at("read", &file)?.unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// Kills through `cgroup.kill`, which no process can outrun. `false` where the kernel (before 5.14) has no such file.
pub(crate) fn kill_v2(top: &Path) -> Result<bool, CgroupError> {
    let file = top.join("cgroup.kill");
    let killed = if_exists(std::fs::write(&file, "1")).at("kill through", &file)?;
    Ok(killed.is_some() || !top.exists())
}

/// Kills what is in `top`, round after round until a round finds nobody; stubborn ones frozen where `freezer` (the same
/// group's directory in the freezer hierarchy) is given, so that nobody forks meanwhile.
pub(crate) fn kill_each(top: &Path, freezer: Option<&Path>) -> Result<(), CgroupError> {
    let freeze = |state: &str| {
        if let Some(dir) = freezer {
            // Only an aid: without it the loop takes more rounds.
            let _ = std::fs::write(dir.join("freezer.state"), state);
        }
    };
    for round in 0..KILL_ROUNDS {
        if pids(top)?.is_empty() {
            return Ok(());
        }
        if round >= FREEZE_FROM {
            freeze("FROZEN");
        }
        for pid in pids(top)? {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                // One that ended meanwhile is what is wanted.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if round >= FREEZE_FROM {
            freeze("THAWED");
        }
        std::thread::sleep(Duration::from_millis(u64::from(round.min(20))));
    }
    Err(CgroupError::Busy { path: top.to_owned(), pids: pids(top)? })
}

/// Removes `top` and what is below. Processes that were killed take a moment to leave; there is no event for that in
/// version 1, so it is tried again with growing pauses.
pub(crate) fn remove(top: &Path) -> Result<(), CgroupError> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        match try_remove(top) {
            Ok(()) => return Ok(()),
            // EBUSY, or ENOTEMPTY by a child made meanwhile.
            Err(CgroupError::Io { source, .. }) if matches!(source.raw_os_error(), Some(16 | 39)) => {
                if started.elapsed() > REMOVAL_PATIENCE {
                    return Err(CgroupError::Busy { path: top.to_owned(), pids: pids(top)? });
                }
            }
            Err(error) => return Err(error),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn try_remove(top: &Path) -> Result<(), CgroupError> {
    // Most have no children: one call then.
    match if_exists(std::fs::remove_dir(top)) {
        Ok(_) => return Ok(()),
        Err(error) if error.raw_os_error() == Some(16) => {}
        Err(error) => return Err(error).at("remove", top),
    }
    for dir in subtree(top)? {
        if_exists(std::fs::remove_dir(&dir)).at("remove", &dir)?;
    }
    Ok(())
}
