//! At most one `carrack up` runs on a data directory: it holds a lock on a file there, which also says who it is.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const FILE: &str = "carrack.lock";
/// How long a running instance is given to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Held for as long as this process may use the data directory.
pub(crate) struct Instance {
    _lock: Flock<File>,
}

/// Takes the data directory, which is made (0700) if it is missing.
pub(crate) fn take(data_dir: &Path) -> Result<Instance> {
    make_private(data_dir)?;
    match try_lock(data_dir)? {
        Ok(mut lock) => {
            lock.set_len(0)?;
            writeln!(lock, "{}", std::process::id())?;
            Ok(Instance { _lock: lock })
        }
        Err(holder) => bail!(
            "another carrack ({}) uses {}: end it, or give --data-dir, --run-dir and --cgroup of its own",
            holder.map_or("process unknown".to_owned(), |pid| format!("process {pid}")),
            data_dir.display()
        ),
    }
}

/// Asks the instance on a data directory to end, if there is one, and takes the directory.
pub(crate) fn end_and_take(data_dir: &Path) -> Result<Instance> {
    make_private(data_dir)?;
    let began = Instant::now();
    let mut asked = false;
    loop {
        let holder = match try_lock(data_dir)? {
            Ok(lock) => return Ok(Instance { _lock: lock }),
            Err(holder) => holder.context("the instance that runs does not say which process it is")?,
        };
        if !asked {
            match kill(Pid::from_raw(holder), Signal::SIGTERM) {
                Ok(()) | Err(Errno::ESRCH) => asked = true,
                Err(error) => bail!("process {holder} can not be ended: {error}"),
            }
        }
        if began.elapsed() > PATIENCE {
            bail!("process {holder} does not end; kill it and try again");
        }
        // A lock has no event for one who only wants to know when it is free, and blocking would have no limit.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The lock, or who holds it.
fn try_lock(data_dir: &Path) -> Result<std::result::Result<Flock<File>, Option<i32>>> {
    let path = data_dir.join(FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Ok(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(Err(text.trim().parse().ok())),
        Err((_, error)) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| dir.display().to_string())?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).with_context(|| dir.display().to_string())
}
