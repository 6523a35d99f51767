//! What `cargo xtask fuzz` feeds to this package, and where it begins.

#![allow(clippy::expect_used, clippy::panic, reason = "whatever is wrong is to be seen")]

mod etcd;
mod files;
mod peer;
mod pure;

use std::path::{Path, PathBuf};

use crate::options::Options;

/// A name, a function that takes anything and never panics, and what it is fed first.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of this package's.
pub const TARGETS: &[Target] = &[
    ("store-etcd", etcd::requests, etcd::seeds),
    ("store-etcd-messages", pure::etcd_messages, pure::etcd_seeds),
    ("store-commands", pure::commands, pure::command_seeds),
    ("store-log", files::log, files::log_seeds),
    ("store-snapshot", files::snapshot, files::snapshot_seeds),
    ("store-peer", peer::messages, peer::seeds),
    ("store-peer-messages", pure::peer_messages, pure::peer_seeds),
];

/// A directory in memory, where there is one, that is empty and goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = base.join(format!("carrack-fuzz-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Scratch(dir)
    }

    /// Options of a small store in here.
    fn options(&self) -> Options {
        let mut options = Options::new(self.0.join("store"));
        (options.segment_bytes, options.max_request_bytes) = (1 << 20, 128 << 10);
        (options.checkpoint_bytes, options.checkpoint_changes) = (4 << 10, 5);
        options.window_revisions = 8;
        options
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Takes a piece off the front: as long as its first two bytes say.
fn piece<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = data.split_first_chunk::<2>()?;
    let (piece, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
    *data = rest;
    Some(piece)
}

/// The other way.
fn pieces(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let sized = |piece: Vec<u8>| {
        [&u16::try_from(piece.len()).unwrap_or(u16::MAX).to_le_bytes(), piece.as_slice()].concat()
    };
    pieces.into_iter().flat_map(sized).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[cfg(test)]
#[path = "../../../../fuzz/replay.rs"]
mod replay;

#[test]
fn nothing_that_once_went_wrong_does_so_again() {
    replay::replay("store", TARGETS);
}
