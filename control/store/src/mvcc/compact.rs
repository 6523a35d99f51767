//! Forgetting history that nobody can ask for any more.

use super::{Mvcc, Past};
use crate::command::Refusal;
use crate::kv::Revision;

impl Mvcc {
    /// Forgets all that only reads before `revision` need. Reads at `revision` and later, and watches from
    /// `revision` on, still work: of each key the newest version up to `revision` stays, and of deletions those in
    /// `revision` itself.
    pub(super) fn compact(&mut self, revision: Revision) -> Result<Revision, Refusal> {
        let (compacted, current) = (self.compacted(), self.revision());
        if revision <= compacted {
            return Err(Refusal::Compacted { requested: revision, compacted });
        }
        if revision > current {
            return Err(Refusal::FutureRevision { requested: revision, current });
        }
        self.marks.compacted = revision;
        let mut forgotten = Vec::new();
        let newest = &self.current;
        self.older.retain(|key, versions| {
            // A current version from before `revision` serves all reads at it.
            let served = newest.get(key).is_some_and(|kv| kv.mod_revision <= revision);
            let keep_from = first_kept(versions, revision, served);
            forgotten.extend(versions.drain(..keep_from));
            !versions.is_empty()
        });
        self.tally.compacted_records += forgotten.len() as u64;
        for past in forgotten {
            self.data_bytes -= u64::from(past.len);
            self.forget_record(past);
        }
        Ok(current)
    }

    fn forget_record(&mut self, past: Past) {
        let key = (past.revision, past.sub);
        match self.pending.records.remove(&key) {
            // It never reached the backend and never needs to.
            Some(_) => self.pending.bytes -= past.len as usize,
            None => self.pending.removed.push(key),
        }
    }
}

/// Index of the first version that must stay. `served` tells that a newer version, which is not in `versions`,
/// serves reads at `revision`.
fn first_kept(versions: &[Past], revision: Revision, served: bool) -> usize {
    let behind = versions.partition_point(|past| past.revision <= revision);
    let last = behind.checked_sub(1).map(|last| (last, versions[last]));
    match last {
        // A deletion leaves nothing to read, but a watch from `revision` on has to see one that happened in it.
        Some((last, past)) if !served && (!past.tombstone || past.revision == revision) => last,
        _ => behind,
    }
}
