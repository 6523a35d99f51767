//! Files that are damaged, or were made by somebody who wants to do harm.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::{Scratch, piece, pieces, runtime};
use crate::disk::HostDisk;
use crate::error::OpenError;
use crate::log::{Position, Record, RecordKind, SavedVote, SegmentLog};
use crate::random::Random;
use crate::snapshot;
use crate::store::Store;
use crate::txn::Txn;

const SEGMENT: u64 = 1 << 20;
const SECTOR: usize = 512;

fn open(scratch: &Scratch) -> Result<(SegmentLog, Vec<Record>), OpenError> {
    SegmentLog::open(Arc::new(HostDisk), &Random::from_system(), scratch.0.clone(), SEGMENT, 100_000, None)
}

/// A log as it was written: its entries, and its files.
struct Written {
    entries: Vec<Record>,
    files: Vec<(PathBuf, Vec<u8>)>,
}

fn written() -> &'static Written {
    static WRITTEN: OnceLock<Written> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let scratch = Scratch::new();
        let (mut log, _) = open(&scratch).expect("opens");
        for index in 0..40u64 {
            let body = vec![index as u8; (index as usize * 977) % 60_000];
            let at = Position { term: 1 + index / 20, index };
            let ticket = log.append([(at, RecordKind::Normal, body.as_slice())]).expect("written");
            ticket.sync().expect("synced");
            log.synced(&ticket);
        }
        let vote = SavedVote { term: 2, node: 5, committed: true };
        log.save_vote(vote).and_then(|ticket| ticket.sync()).expect("vote");
        drop(log);
        let (log, entries) = open(&scratch).expect("opens");
        drop(log);
        let files = std::fs::read_dir(&scratch.0).expect("a directory").map(|entry| {
            let path = entry.expect("an entry").path();
            (path.file_name().expect("a name").into(), std::fs::read(&path).expect("a file"))
        });
        let mut files: Vec<_> = files.collect();
        files.sort();
        Written { entries, files }
    })
}

/// A frame, whose checksum is right, of the segment with this head.
fn frame(head: &[u8], number: u64, durable: u64, payload: &[u8]) -> Vec<u8> {
    let mut rest = head[24..32].to_vec();
    rest.extend([number.to_le_bytes(), durable.to_le_bytes()].concat());
    rest.extend((payload.len() as u32).to_le_bytes());
    rest.extend([0; 4]);
    rest.extend(payload);
    let sum = crc32fast::hash(&rest);
    let mut out = [0x4d52_4643u32.to_le_bytes(), sum.to_le_bytes()].concat();
    out.extend(rest);
    out.resize(out.len().next_multiple_of(SECTOR), 0);
    out
}

/// One entry, vote, truncation and purge, as payloads of frames.
pub(super) fn log_seeds() -> Vec<Vec<u8>> {
    let number = |n: u64| n.to_le_bytes().to_vec();
    let entry = |index| [vec![2], number(1), number(index), vec![2, 0, 0, 0], b"hi".to_vec()].concat();
    let vote = [vec![16], number(2), number(5), vec![1]].concat();
    let truncate = [vec![17, 1], number(1), number(0)].concat();
    let purge = [vec![18, 1], number(1), number(0)].concat();
    let frames = [vec![0], pieces([[entry(0), entry(1)].concat(), vote, truncate, entry(1), purge])].concat();
    let damage = [vec![1], pieces([vec![0, 0, 2, 0, 9, 9, 9], vec![1, 7, 0, 0, 0]])].concat();
    vec![frames, damage]
}

/// The first byte says what it is: frames whose checksums are right, or damage to a log as it was written.
pub(super) fn log(data: &[u8]) {
    let [kind, rest @ ..] = data else { return };
    let scratch = Scratch::new();
    let found = if kind % 2 == 0 { frames(&scratch, rest) } else { damaged(&scratch, rest) };
    let Ok((mut log, entries)) = found else { return };
    // What was accepted can be read, written behind, and read again.
    let first = entries.first().map_or(0, |entry| entry.at.index);
    for (place, entry) in entries.iter().enumerate() {
        assert_eq!(entry.at.index, first + place as u64, "a gap");
    }
    let last = log.last().unwrap_or_default();
    let Some(index) = last.index.checked_add(1).filter(|next| *next < u64::MAX) else { return };
    let next = Position { term: last.term, index };
    if log.append([(next, RecordKind::Normal, b"next".as_slice())]).and_then(|t| t.sync()).is_ok() {
        drop(log);
        let (_, again) = open(&scratch).expect("what was opened once opens again");
        assert_eq!(again.last().map(|entry| entry.at), Some(next));
    }
}

type Opened = Result<(SegmentLog, Vec<Record>), OpenError>;

fn frames(scratch: &Scratch, mut data: &[u8]) -> Opened {
    let (name, file) = &written().files[0];
    let mut bytes = file[..SECTOR].to_vec();
    let mut number = 0;
    while let Some(payload) = piece(&mut data) {
        bytes.extend(frame(&file[..SECTOR], number, number, payload));
        number += 1;
    }
    bytes.resize(SEGMENT as usize, 0);
    std::fs::write(scratch.0.join(name), bytes).expect("written");
    open(scratch)
}

/// Each piece is a file, a place in it, and what to write there; or where to cut it off, if there is nothing.
fn damaged(scratch: &Scratch, mut data: &[u8]) -> Opened {
    let written = written();
    let mut files = written.files.clone();
    while let Some([file, a, b, c, bytes @ ..]) = piece(&mut data) {
        let which = usize::from(*file) % files.len();
        let file = &mut files[which].1;
        let at = u32::from_le_bytes([*a, *b, *c, 0]) as usize % file.len().max(1);
        match file.get_mut(at..at + bytes.len()) {
            Some(place) if !bytes.is_empty() => place.copy_from_slice(bytes),
            _ => file.truncate(at),
        }
    }
    for (name, bytes) in &files {
        std::fs::write(scratch.0.join(name), bytes).expect("written");
    }
    let opened = open(scratch);
    if let Ok((_, entries)) = &opened {
        assert!(*entries == written.entries[..entries.len()], "entries are not those that were written");
    }
    opened
}

fn image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let scratch = Scratch::new();
        runtime().block_on(async {
            let store = Store::open(scratch.options()).await.expect("opens");
            for n in 0..60 {
                store.txn(Txn::put(format!("key/{:02}", n % 20), "x".repeat(n * 3))).await.expect("put");
            }
            store.lease_grant_as(7, 60).await.expect("a lease");
            let mut taken = store.snapshot().await.expect("begins");
            let mut bytes = Vec::new();
            while let Some(piece) = taken.next().await {
                bytes.extend(piece.expect("a piece"));
            }
            store.shutdown().await;
            bytes.truncate(bytes.len() - 32);
            bytes
        })
    })
}

pub(super) fn snapshot_seeds() -> Vec<Vec<u8>> {
    vec![pieces([]), pieces([vec![16, 0, 0, 1], vec![0, 0x40, 0, 9, 9]])]
}

/// Damage to a snapshot, whose checksum is then made right.
pub(super) fn snapshot(mut data: &[u8]) {
    let mut bytes = image().to_vec();
    while let Some([a, b, c, new @ ..]) = piece(&mut data) {
        let at = u32::from_le_bytes([*a, *b, *c, 0]) as usize % bytes.len();
        match bytes.get_mut(at..at + new.len()) {
            Some(place) if !new.is_empty() => place.copy_from_slice(new),
            _ => bytes.truncate((at / SECTOR + 1) * SECTOR),
        }
    }
    bytes.extend(Sha256::digest(&bytes));
    let scratch = Scratch::new();
    let file = scratch.0.join("snapshot");
    std::fs::write(&file, bytes).expect("written");
    let Ok(found) = snapshot::status(&file) else { return };
    let options = scratch.options();
    if snapshot::restore(&file, &options).is_ok() {
        runtime().block_on(async {
            let Ok(store) = Store::open(options).await else { return };
            assert_eq!(store.revision(), found.revision);
            let _ = store.hash_kv(0).await;
            store.shutdown().await;
        });
    }
}
