//! Tests of the log on real files: reopening, torn tails, damage, truncation, purging.

use std::os::unix::fs::FileExt;

use super::*;
use crate::disk::HostDisk;
use crate::error::OpenError;

const SEGMENT: u64 = 1 << 20;

pub(super) fn open(dir: &tempfile::TempDir) -> Result<(SegmentLog, Vec<Record>), OpenError> {
    SegmentLog::open(
        Arc::new(HostDisk),
        &crate::random::Random::from_system(),
        dir.path().to_owned(),
        SEGMENT,
        100_000,
        None,
    )
}

pub(super) fn reopen(dir: &tempfile::TempDir) -> (SegmentLog, Vec<Record>) {
    open(dir).expect("opens")
}

pub(super) fn put(log: &mut SegmentLog, term: u64, indexes: Range<u64>, body: &[u8]) {
    let entries = indexes.map(|index| (Position { term, index }, RecordKind::Normal, body));
    let ticket = log.append(entries).expect("written");
    ticket.sync().expect("synced");
    log.synced(&ticket);
}

fn indexes(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.at.index).collect()
}

/// The only segment of the log, as a plain file.
fn segment_file(dir: &tempfile::TempDir, seq: u64) -> std::fs::File {
    let path = Segment::path(dir.path(), seq);
    std::fs::OpenOptions::new().read(true).write(true).open(path).expect("segment")
}

#[test]
fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("dir");
    let vote = SavedVote { term: 2, node: 9, committed: true };
    let (mut log, found) = reopen(&dir);
    assert!(found.is_empty());
    put(&mut log, 1, 0..3, b"one");
    let _ = log.save_vote(vote).expect("vote");
    put(&mut log, 2, 3..5, b"two");
    drop(log);

    let (log, found) = reopen(&dir);
    assert_eq!(indexes(&found), [0, 1, 2, 3, 4]);
    assert_eq!(
        found[4],
        Record { at: Position { term: 2, index: 4 }, kind: RecordKind::Normal, body: b"two".to_vec() }
    );
    assert_eq!((log.vote(), log.last()), (Some(vote), Some(Position { term: 2, index: 4 })));
    assert_eq!(indexes(&log.read(1..4).expect("read")), [1, 2, 3]);
}

#[test]
fn segments_follow_each_other_and_are_removed_when_purged() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut log, _) = reopen(&dir);
    let body = vec![7; 100_000];
    put(&mut log, 1, 0..50, &body);
    let segments = log.segments.len();
    assert!(segments >= 5, "{segments} segments of 1 MiB for 5 MB");
    assert_eq!(indexes(&log.read(8..30).expect("read")), (8..30).collect::<Vec<_>>());

    log.purge(Position { term: 1, index: 30 }).expect("purged");
    assert!(log.segments.len() < segments);
    drop(log);
    let (mut log, found) = reopen(&dir);
    assert_eq!(indexes(&found), (31..50).collect::<Vec<_>>());
    assert_eq!(log.purged(), Some(Position { term: 1, index: 30 }));
    assert!(log.read(0..31).expect("read").is_empty());

    // All of it, and more than there is, as after the snapshot of a leader that is ahead.
    log.purge(Position { term: 3, index: 99 }).expect("purged");
    put(&mut log, 3, 100..101, b"next");
    drop(log);
    let (log, found) = reopen(&dir);
    assert_eq!(indexes(&found), [100]);
    assert_eq!(log.segments.len(), 1);
}

#[test]
fn truncated_entries_do_not_come_back() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut log, _) = reopen(&dir);
    put(&mut log, 1, 0..10, b"old");
    let _ = log.truncate(Some(Position { term: 1, index: 3 })).expect("truncated");
    assert_eq!(log.last(), Some(Position { term: 1, index: 3 }));
    put(&mut log, 2, 4..6, b"new");
    let check = |records: Vec<Record>| {
        let terms: Vec<_> = records.iter().map(|record| (record.at.index, record.at.term)).collect();
        assert_eq!(terms, [(2, 1), (3, 1), (4, 2), (5, 2)]);
    };
    check(log.read(2..9).expect("read"));
    drop(log);
    let (log, found) = reopen(&dir);
    check(found[2..].to_vec());
    check(log.read(2..9).expect("read"));
}

#[test]
fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut log, _) = reopen(&dir);
    put(&mut log, 1, 0..2, b"kept");
    let end = log.segments[0].end;
    // Three frames that were written but never synced.
    for index in 2..5 {
        let body = [index as u8; 600];
        let entry = (Position { term: 1, index }, RecordKind::Normal, body.as_slice());
        let _ = log.append([entry]).expect("written");
    }
    let full_end = log.segments[0].end;
    drop(log);
    let mut written = vec![0; (full_end - end) as usize];
    let file = segment_file(&dir, 1);
    file.read_exact_at(&mut written, end).expect("read");

    // Each subset of the sectors may have reached the disk.
    let sectors = written.len() / ALIGN;
    for subset in 0..(1u32 << sectors) {
        for (nth, sector) in written.chunks(ALIGN).enumerate() {
            let bytes = if subset & (1 << nth) != 0 { sector.to_vec() } else { vec![0; ALIGN] };
            file.write_all_at(&bytes, end + (nth * ALIGN) as u64).expect("write");
        }
        let (mut log, found) = reopen(&dir);
        let whole = (0..3).take_while(|frame| subset >> (frame * 2) & 3 == 3).count() as u64;
        assert_eq!(indexes(&found), (0..2 + whole).collect::<Vec<_>>(), "sectors {subset:b}");
        // What is written now must be what is found next time, and nothing of the torn frames.
        put(&mut log, 2, 2 + whole..3 + whole, b"after");
        drop(log);
        let (log, found) = reopen(&dir);
        assert_eq!(found.len() as u64, 3 + whole);
        assert_eq!(found.last().map(|record| record.at.term), Some(2));
        drop(log);
        // Back to the state right after the crash.
        file.write_all_at(&vec![0; written.len() + 4096], end).expect("write");
    }
}

#[test]
fn a_frame_needs_what_fills_its_sector_to_be_read_and_not_to_be_believed() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut log, _) = reopen(&dir);
    put(&mut log, 1, 0..2, b"kept");
    let end = log.segments[0].end;
    drop(log);
    // As a disk that ran full leaves it.
    segment_file(&dir, 1).set_len(end - 100).expect("cut");
    let (mut log, found) = reopen(&dir);
    assert_eq!(indexes(&found), [0, 1]);
    assert_eq!(indexes(&log.read(0..2).expect("read")), [0, 1]);
    put(&mut log, 1, 2..3, b"after");
    drop(log);
    assert_eq!(indexes(&reopen(&dir).1), [0, 1, 2]);
}

#[test]
fn damage_to_acknowledged_entries_is_refused_and_leaves_the_files_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut log, _) = reopen(&dir);
    for index in 0..4 {
        put(&mut log, 1, index..index + 1, b"acknowledged");
    }
    drop(log);
    let file = segment_file(&dir, 1);
    // The second frame: the third and the fourth say that it was durable.
    let at = (2 * ALIGN + 50) as u64;
    file.write_all_at(&[0xff], at).expect("write");
    let error = open(&dir).err().expect("refused");
    assert!(
        matches!(&error, OpenError::Corrupt { detail, .. } if detail.contains("frame 2 is damaged")),
        "{error}"
    );
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    assert_eq!(byte, [0xff]);
}

#[test]
fn a_damaged_or_missing_earlier_segment_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut log, _) = reopen(&dir);
    put(&mut log, 1, 0..30, &vec![1; 100_000]);
    let last_frame_of_first = log.frames.iter().rfind(|frame| frame.segment == 1).expect("frame").offset;
    drop(log);

    let file = segment_file(&dir, 1);
    let mut good = [0; ALIGN];
    file.read_exact_at(&mut good, last_frame_of_first).expect("read");
    file.write_all_at(&[0; ALIGN], last_frame_of_first).expect("write");
    assert!(
        matches!(open(&dir), Err(OpenError::Corrupt { detail, .. }) if detail.contains("lacks the frames"))
    );
    file.write_all_at(&good, last_frame_of_first).expect("write");

    let mut header = [0; ALIGN];
    file.read_exact_at(&mut header, 0).expect("read");
    file.write_all_at(&[header[40] ^ 1], 40).expect("write");
    assert!(matches!(open(&dir), Err(OpenError::Corrupt { detail, .. }) if detail.contains("header")));
    file.write_all_at(&header, 0).expect("write");
    assert_eq!(open(&dir).expect("whole again").1.len(), 30);

    std::fs::remove_file(Segment::path(dir.path(), 2)).expect("removed");
    assert!(matches!(open(&dir), Err(OpenError::Corrupt { detail, .. }) if detail.contains("missing")));
}

#[test]
fn space_is_taken_in_advance() {
    let dir = tempfile::tempdir().expect("dir");
    let (log, _) = reopen(&dir);
    assert_eq!(log.sizes().0, 2 * SEGMENT);
    assert!(log.room() > SEGMENT, "room {}", log.room());
    for file in std::fs::read_dir(dir.path()).expect("dir") {
        let meta = file.expect("file").metadata().expect("metadata");
        assert_eq!(meta.len(), SEGMENT);
        assert!(std::os::unix::fs::MetadataExt::blocks(&meta) * 512 >= SEGMENT, "blocks are really there");
    }
}
