//! Which pod has which address. The decisions are [`Pool`]'s; [`Ipam`] keeps them in a journal, synced before anyone
//! hears of them.
//!
//! Journal: a header `carrack-ipam 1 <cidr>`, then a line for each change, `+ <address> <id>` or `- <address>`, in order. A last line
//! without its newline was never acknowledged and is dropped. Opening writes the journal anew, so that it stays short.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;

use crate::error::NetworkError;

/// Changes after which the journal is written anew.
const REWRITE_AFTER: usize = 8192;
/// What may be recorded as an id, in characters.
const ID_LENGTH: usize = 128;

/// Whether an id can be recorded: printable, without white space, not empty and not too long.
pub(crate) fn is_good_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The addresses of a CIDR and who has them.
///
/// Never-used addresses are given out first, in order, then the one that has been free the longest: peers that remember
/// a pod by its address have time to forget it.
#[derive(Debug)]
pub(crate) struct Pool {
    cidr: Ipv4Net,
    by_id: HashMap<String, Ipv4Addr>,
    used: HashSet<Ipv4Addr>,
    freed: VecDeque<Ipv4Addr>,
    next: u32,
    last: u32,
}

impl Pool {
    /// An unused pool. The network's own address, the one after it (kept for the node) and the last (broadcast) are not
    /// given out.
    pub(crate) fn new(cidr: Ipv4Net) -> Self {
        let next = u32::from(cidr.network()).saturating_add(2);
        let last = u32::from(cidr.broadcast()).saturating_sub(1);
        Pool { cidr, by_id: HashMap::new(), used: HashSet::new(), freed: VecDeque::new(), next, last }
    }

    /// All addresses there are.
    pub(crate) fn cidr(&self) -> Ipv4Net {
        self.cidr
    }

    /// The address of an id.
    pub(crate) fn get(&self, id: &str) -> Option<Ipv4Addr> {
        self.by_id.get(id).copied()
    }

    /// The address that would be given out next.
    fn candidate(&self) -> Option<Ipv4Addr> {
        if self.next <= self.last {
            return Some(self.next.into());
        }
        self.freed.front().copied()
    }

    /// Gives `ip` to `id`; whether that was possible.
    fn take(&mut self, ip: Ipv4Addr, id: &str) -> bool {
        if !self.cidr.contains(&ip) || self.by_id.contains_key(id) || !self.used.insert(ip) {
            return false;
        }
        self.by_id.insert(id.to_owned(), ip);
        self.freed.retain(|free| *free != ip);
        self.skip_past(ip);
        true
    }

    /// Frees an address; whether it was used.
    fn free(&mut self, ip: Ipv4Addr) -> bool {
        self.skip_past(ip);
        self.freed.retain(|free| *free != ip);
        self.freed.push_back(ip);
        self.by_id.retain(|_, used| *used != ip);
        self.used.remove(&ip)
    }

    /// Addresses up to `ip` have been used before, or belong to those that have: put the skipped ones up as free.
    fn skip_past(&mut self, ip: Ipv4Addr) {
        while self.next <= u32::from(ip) && self.next <= self.last {
            let skipped = Ipv4Addr::from(self.next);
            if skipped != ip && !self.used.contains(&skipped) {
                self.freed.push_back(skipped);
            }
            self.next += 1;
        }
    }

    /// How many addresses are in use, and how many could be given out.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let fresh = usize::try_from((self.last + 1).saturating_sub(self.next)).unwrap_or(0);
        (self.used.len(), self.freed.len() + fresh)
    }
}

/// The pool of this node on disk.
#[derive(Debug)]
pub(crate) struct Ipam {
    pool: Pool,
    path: PathBuf,
    file: File,
    /// Length of the journal up to its last whole line, in bytes.
    length: u64,
    changes: usize,
}

impl Ipam {
    /// Opens the journal of `cidr` in `dir`, or begins one.
    pub(crate) fn open(dir: &Path, cidr: Ipv4Net) -> Result<Self, NetworkError> {
        if cidr.prefix_len() > 29 {
            return Err(NetworkError::Config(format!("{cidr} has no room for pods: at most /29 is needed")));
        }
        fs::create_dir_all(dir).map_err(file_error("create", dir))?;
        let path = Self::path(dir);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(file_error("read", &path)(error)),
        };
        let pool = replay(&text, cidr, &path)?;
        let (file, length) = rewrite(&pool, &path).map_err(file_error("write", &path))?;
        Ok(Ipam { pool, path, file, length, changes: 0 })
    }

    /// Where the journal is.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join("addresses")
    }

    /// The pool.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The ids that have addresses.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.pool.by_id.keys().cloned().collect()
    }

    /// The address of `id`, given out now if it has none; `None` if all are taken.
    pub(crate) fn allocate(&mut self, id: &str) -> Result<Option<Ipv4Addr>, NetworkError> {
        if let Some(ip) = self.pool.get(id) {
            return Ok(Some(ip));
        }
        let Some(ip) = self.pool.candidate() else { return Ok(None) };
        self.append(&format!("+ {ip} {id}\n"))?;
        self.pool.take(ip, id);
        Ok(Some(ip))
    }

    /// Frees the address of `id`, if it has one.
    pub(crate) fn release(&mut self, id: &str) -> Result<(), NetworkError> {
        let Some(ip) = self.pool.get(id) else { return Ok(()) };
        self.append(&format!("- {ip}\n"))?;
        self.pool.free(ip);
        Ok(())
    }

    /// Appends a line and waits until it is on the disk. A line that could not be written whole is taken back.
    fn append(&mut self, line: &str) -> Result<(), NetworkError> {
        if self.changes >= REWRITE_AFTER {
            (self.file, self.length) =
                rewrite(&self.pool, &self.path).map_err(file_error("write", &self.path))?;
            self.changes = 0;
        }
        let written =
            self.file.write_all_at(line.as_bytes(), self.length).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            let _ = self.file.set_len(self.length);
            return Err(file_error("write", &self.path)(error));
        }
        self.length += line.len() as u64;
        self.changes += 1;
        Ok(())
    }
}

/// What the journal says.
fn replay(text: &str, cidr: Ipv4Net, path: &Path) -> Result<Pool, NetworkError> {
    let mut pool = Pool::new(cidr);
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    let mut lines = whole.lines().enumerate();
    let header = format!("carrack-ipam 1 {cidr}");
    if let Some((_, first)) = lines.next()
        && first != header
    {
        return Err(NetworkError::Config(format!(
            "{} is for {first:?}, this node's pod CIDR is {cidr}: remove the node's network state first",
            path.display()
        )));
    }
    for (index, line) in lines {
        let good = match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["+", ip, id] if is_good_id(id) => ip.parse().is_ok_and(|ip| pool.take(ip, id)),
            ["-", ip] => ip.parse().is_ok_and(|ip| {
                pool.free(ip);
                cidr.contains(&ip)
            }),
            _ => false,
        };
        if !good {
            let reason = format!("{line:?} does not follow from the lines before it");
            return Err(NetworkError::Ipam { path: path.to_owned(), line: index + 1, reason });
        }
    }
    Ok(pool)
}

/// Writes the journal anew and puts it in the old one's place, on the disk.
fn rewrite(pool: &Pool, path: &Path) -> io::Result<(File, u64)> {
    let mut text = format!("carrack-ipam 1 {}\n", pool.cidr);
    // Free addresses first: they keep their order, and those in use below them are taken from among them.
    for ip in &pool.freed {
        text += &format!("- {ip}\n");
    }
    let mut used: Vec<_> = pool.by_id.iter().map(|(id, ip)| (ip, id)).collect();
    used.sort();
    for (ip, id) in used {
        text += &format!("+ {ip} {id}\n");
    }
    carrack_files::replace(path, text.as_bytes(), 0o644)?;
    Ok((File::options().write(true).open(path)?, text.len() as u64))
}

pub(crate) fn file_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> NetworkError + use<> {
    let path = path.to_owned();
    move |source| NetworkError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 1, 2, last)
    }

    fn open(dir: &Path) -> Ipam {
        Ipam::open(dir, cidr("10.1.2.0/29")).unwrap()
    }

    #[test]
    fn gives_fresh_addresses_first_and_then_the_longest_free() {
        let dir = tempfile::tempdir().unwrap();
        let mut ipam = open(dir.path());
        assert_eq!(ipam.pool().usage(), (0, 5));
        let got: Vec<_> = ["a", "b", "c"].iter().map(|id| ipam.allocate(id).unwrap().unwrap()).collect();
        assert_eq!(got, [ip(2), ip(3), ip(4)]);
        ipam.release("b").unwrap();
        ipam.release("a").unwrap();
        let got: Vec<_> = ["d", "e", "f", "g"].iter().map(|id| ipam.allocate(id).unwrap().unwrap()).collect();
        assert_eq!(got, [ip(5), ip(6), ip(3), ip(2)]);
        assert_eq!(ipam.allocate("h").unwrap(), None);
        assert_eq!(ipam.allocate("c").unwrap(), Some(ip(4)), "who has an address keeps it");
        assert_eq!(ipam.pool().usage(), (5, 0));
    }

    #[test]
    fn a_new_process_knows_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut ipam = open(dir.path());
        for id in ["a", "b", "c", "d"] {
            ipam.allocate(id).unwrap();
        }
        for id in ["c", "a", "d"] {
            ipam.release(id).unwrap();
        }
        drop(ipam);
        // Twice: the first start writes the journal anew, the second reads that.
        drop(open(dir.path()));
        let mut ipam = open(dir.path());
        assert_eq!(ipam.allocate("b").unwrap(), Some(ip(3)));
        let got: Vec<_> = ["e", "f", "g", "h"].iter().map(|id| ipam.allocate(id).unwrap().unwrap()).collect();
        assert_eq!(got, [ip(6), ip(4), ip(2), ip(5)]);
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addresses");
        let head = "carrack-ipam 1 10.1.2.0/29\n+ 10.1.2.2 a\n";
        for torn in ["+", "+ 10.1.2.3 b", "- 10.1"] {
            fs::write(&path, format!("{head}{torn}")).unwrap();
            let mut ipam = open(dir.path());
            assert_eq!(ipam.allocate("b").unwrap(), Some(ip(3)), "after {torn:?}");
            assert_eq!(ipam.allocate("a").unwrap(), Some(ip(2)));
        }
        for bad in ["+ 10.1.2.2 b", "+ 10.9.9.9 b", "* 10.1.2.3 b", "+ 10.1.2.3", "+ 10.1.2.3 b c"] {
            fs::write(&path, format!("{head}{bad}\n")).unwrap();
            let error = Ipam::open(dir.path(), cidr("10.1.2.0/29")).unwrap_err();
            assert!(matches!(error, NetworkError::Ipam { line: 3, .. }), "{bad}: {error}");
        }
    }

    #[test]
    fn another_cidr_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).allocate("a").unwrap();
        let error = Ipam::open(dir.path(), cidr("10.1.3.0/24")).unwrap_err();
        assert!(error.to_string().contains("10.1.2.0/29"), "{error}");
    }

    #[test]
    fn long_journals_are_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut ipam = open(dir.path());
        ipam.allocate("stays").unwrap();
        ipam.changes = REWRITE_AFTER - 2;
        for id in ["a", "b", "c"] {
            ipam.allocate(id).unwrap();
        }
        assert_eq!(ipam.changes, 1);
        let text = fs::read_to_string(dir.path().join("addresses")).unwrap();
        assert_eq!(text.len() as u64, ipam.length);
        drop(ipam);
        assert_eq!(open(dir.path()).allocate("stays").unwrap(), Some(ip(2)));
    }

    proptest::proptest! {
        /// Whatever is allocated, freed and opened again: nobody shares an address, everybody keeps theirs, and none is lost.
        #[test]
        fn no_address_is_shared_or_lost(steps in proptest::collection::vec((0_u8..12, 0_u8..8), 1..60)) {
            let dir = tempfile::tempdir().unwrap();
            let mut ipam = open(dir.path());
            let mut expected: HashMap<String, Ipv4Addr> = HashMap::new();
            for (id, what) in steps {
                let id = format!("pod-{id}");
                match what {
                    0 => {
                        drop(ipam);
                        ipam = open(dir.path());
                    }
                    1..=3 => {
                        ipam.release(&id).unwrap();
                        expected.remove(&id);
                    }
                    _ => match ipam.allocate(&id).unwrap() {
                        Some(ip) => {
                            proptest::prop_assert_eq!(*expected.entry(id).or_insert(ip), ip);
                        }
                        None => proptest::prop_assert_eq!(expected.len(), 5),
                    },
                }
                let distinct: HashSet<_> = expected.values().collect();
                proptest::prop_assert_eq!(distinct.len(), expected.len());
                proptest::prop_assert_eq!(ipam.pool().usage(), (expected.len(), 5 - expected.len()));
            }
        }
    }

    #[test]
    fn ids_that_would_damage_the_journal_are_known() {
        assert!(is_good_id("0b9c1a51-7a8e-4a52-b4a6-5cdd1a1a1111"));
        let long = "x".repeat(129);
        for bad in ["", "a b", "a\n", "ä", long.as_str()] {
            assert!(!is_good_id(bad), "{bad:?}");
        }
    }
}
