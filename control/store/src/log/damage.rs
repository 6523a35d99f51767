//! Files of the log with any damage: what comes out is an error, or entries as they were written.

use proptest::prelude::*;

use super::tests::{open, put, reopen};
use super::*;

/// A log of some segments; gives its entries and its files.
fn written(dir: &tempfile::TempDir) -> (Vec<Record>, Vec<(PathBuf, Vec<u8>)>) {
    let (mut log, _) = reopen(dir);
    for index in 0..60 {
        put(&mut log, 1 + index / 20, index..index + 1, &vec![index as u8; (index as usize * 977) % 60_000]);
        if index % 20 == 10 {
            let vote = SavedVote { term: 1 + index / 20, node: 5, committed: true };
            log.save_vote(vote).and_then(|ticket| ticket.sync()).expect("vote");
        }
    }
    drop(log);
    let (log, found) = reopen(dir);
    let files = log
        .segments
        .iter()
        .map(|segment| (segment.path.clone(), std::fs::read(&segment.path).expect("read")));
    let files = files.collect();
    (found, files)
}

/// A change of some bytes: where, how many, and what they become.
fn damage() -> impl Strategy<Value = (prop::sample::Index, prop::sample::Index, usize, Option<u8>)> {
    let bytes = prop_oneof![Just(1usize), 1usize..40, 400usize..2000, Just(100_000)];
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), bytes, prop::option::of(any::<u8>()))
}

/// Entries that were durable are there as they were written, or the log is not opened. Only the very end may be missing:
/// it could be a write that nobody was told about.
#[test]
fn a_damaged_log_is_refused_or_read_as_it_was_written() {
    let original = tempfile::tempdir().expect("dir");
    let (entries, files) = written(&original);
    assert!(files.len() > 1 && entries.len() == 60, "several segments: {}", files.len());
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let (refused, read) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let damages = (prop::collection::vec(damage(), 1..4), prop::bool::weighted(0.1));
    let run = prop::test_runner::TestRunner::new(config).run(&damages, |(damages, cut)| {
        let dir = tempfile::tempdir().expect("dir");
        let mut files = files.clone();
        for (file, at, len, value) in damages {
            let which = file.index(files.len());
            let bytes = &mut files[which].1;
            if bytes.is_empty() {
                continue;
            }
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + len);
            match value {
                Some(value) => bytes[at..end].iter_mut().for_each(|byte| *byte ^= value),
                None => bytes[at..end].fill(0),
            }
            if cut {
                bytes.truncate(at);
            }
        }
        for (path, bytes) in &files {
            std::fs::write(dir.path().join(path.file_name().expect("a name")), bytes).expect("write");
        }
        match open(&dir) {
            Err(error) => {
                refused.set(refused.get() + 1);
                prop_assert!(error.to_string().contains(&*dir.path().to_string_lossy()), "{}", error);
            }
            Ok((_, found)) => {
                read.set(read.get() + 1);
                prop_assert!(found.len() <= entries.len());
                prop_assert!(found == entries[..found.len()], "entries are not those that were written");
            }
        }
        Ok(())
    });
    run.expect("no damage does harm");
    assert!(refused.get() >= 20 && read.get() >= 5, "{} refused, {} read", refused.get(), read.get());
}
