//! Masquerade on kernels before 6.6, which have no tcx: the programs are filters of the uplink's `clsact` discipline.
//!
//! Such filters stay when the process ends, as pinned links do, and the next start replaces them in place. Which interfaces
//! have them, and whose discipline was made for them, is on disk before they are hung up, so that they are found again
//! when the uplink is another one, or none.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::MASQUERADE;
use super::discipline::{self, Direction};
use crate::error::NetworkError;
use crate::host::{remove_file, write_synced};
use crate::ipam::file_error;
use crate::link::Links;
use crate::link::netlink::Netlink;

/// What was done to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Touched {
    /// The discipline was not there before.
    made_discipline: bool,
}

/// By the interface's name.
type Record = BTreeMap<String, Touched>;

fn record_path(state_dir: &Path) -> PathBuf {
    state_dir.join("uplink-filters.json")
}

fn read_record(path: &Path) -> Result<Record, NetworkError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| file_error("read", path)(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::new()),
        Err(error) => Err(file_error("read", path)(error)),
    }
}

fn write_record(path: &Path, record: &Record) -> Result<(), NetworkError> {
    if record.is_empty() {
        return remove_file(path);
    }
    let bytes = serde_json::to_vec_pretty(record).map_err(io::Error::other);
    bytes.and_then(|bytes| write_synced(path, &bytes)).map_err(file_error("write", path))
}

fn failed(action: String) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Netlink { action, source }
}

/// Hangs programs up at an interface, given by name and index, or puts them in the place of those of an earlier process.
/// They go from any other interface.
pub(crate) fn attach(
    state_dir: &Path,
    (uplink, index): (&str, u32),
    programs: &[(&str, Direction, BorrowedFd<'_>)],
) -> Result<(), NetworkError> {
    let path = record_path(state_dir);
    let mut record = read_record(&path)?;
    let mut touched = record.get(uplink).copied().unwrap_or_default();
    record.insert(uplink.to_owned(), touched);
    write_record(&path, &record)?;
    let mut netlink = Netlink::open().map_err(failed("open a socket".into()))?;
    let made = discipline::ensure(&mut netlink, index);
    touched.made_discipline |= made.map_err(failed(format!("make a clsact discipline on {uplink}")))?;
    record.insert(uplink.to_owned(), touched);
    write_record(&path, &record)?;
    for (name, direction, program) in programs {
        discipline::put_filter(&mut netlink, index, *direction, name, *program)
            .map_err(failed(format!("hang {name} up at {uplink}")))?;
    }
    remove_all_but(state_dir, Some(uplink))
}

/// Takes the filters from every interface that has them, but for one that keeps them.
pub(crate) fn remove_all_but(state_dir: &Path, kept: Option<&str>) -> Result<(), NetworkError> {
    let path = record_path(state_dir);
    let mut record = read_record(&path)?;
    let others: Vec<_> =
        record.iter().filter(|(name, _)| kept != Some(name.as_str())).map(|(n, t)| (n.clone(), *t)).collect();
    for (name, touched) in others {
        remove(&name, touched).map_err(failed(format!("take the filters from {name}")))?;
        record.remove(&name);
        write_record(&path, &record)?;
    }
    Ok(())
}

fn remove(uplink: &str, touched: Touched) -> io::Result<()> {
    // An interface that is gone has taken everything along.
    let Some(link) = Links::find(uplink)? else { return Ok(()) };
    let mut netlink = Netlink::open()?;
    for (name, direction) in MASQUERADE {
        discipline::remove_filter(&mut netlink, link.index, direction, name)?;
    }
    if touched.made_discipline { discipline::remove_if_empty(&mut netlink, link.index) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use aya::programs::SchedClassifier;
    use nix::sched::{CloneFlags, unshare};

    use super::super::discipline::{DIRECTIONS, filter_name};
    use super::*;

    /// The loopback interface of every namespace.
    const LO: (&str, u32) = ("lo", 1);

    /// Runs `work` in a network namespace of its own, with the programs loaded.
    fn with_programs(work: impl FnOnce(&[(&str, Direction, BorrowedFd<'_>)]) + Send) {
        let inside = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace (are you root?)");
            let mut ebpf = aya::EbpfLoader::new().btf(None).load(super::super::OBJECT).unwrap();
            let fds = MASQUERADE.map(|(name, direction)| {
                let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
                program.load().unwrap();
                (name, direction, program.fd().unwrap().try_clone().unwrap())
            });
            work(&fds.each_ref().map(|(name, direction, fd)| (*name, *direction, fd.as_fd())));
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).unwrap();
    }

    fn filters(netlink: &mut Netlink) -> Vec<String> {
        DIRECTIONS.iter().filter_map(|d| filter_name(netlink, LO.1, *d).unwrap()).collect()
    }

    #[test]
    fn filters_are_replaced_and_leave_nothing() {
        with_programs(|programs| {
            let dir = tempfile::tempdir().unwrap();
            let mut netlink = Netlink::open().unwrap();
            for _ in 0..3 {
                attach(dir.path(), LO, programs).unwrap();
                assert_eq!(filters(&mut netlink), ["masquerade_in", "masquerade_out"]);
            }
            remove_all_but(dir.path(), Some("lo")).unwrap();
            assert_eq!(filters(&mut netlink).len(), 2);
            remove_all_but(dir.path(), None).unwrap();
            remove_all_but(dir.path(), None).unwrap();
            assert!(filters(&mut netlink).is_empty());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
            assert!(discipline::ensure(&mut netlink, LO.1).unwrap(), "the discipline was left");
        });
    }

    #[test]
    fn what_others_have_hung_up_stays() {
        with_programs(|programs| {
            let dir = tempfile::tempdir().unwrap();
            let mut netlink = Netlink::open().unwrap();
            // A discipline that was there before us.
            assert!(discipline::ensure(&mut netlink, LO.1).unwrap());
            attach(dir.path(), LO, programs).unwrap();
            remove_all_but(dir.path(), None).unwrap();
            assert!(!discipline::ensure(&mut netlink, LO.1).unwrap(), "it was removed");
            // A filter in our place.
            let (_, direction, fd) = programs[0];
            discipline::put_filter(&mut netlink, LO.1, direction, "theirs", fd).unwrap();
            let error = attach(dir.path(), LO, programs).unwrap_err();
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains("theirs"), "{source}");
            remove_all_but(dir.path(), None).unwrap();
            assert_eq!(filters(&mut netlink), ["theirs"]);
        });
    }
}
