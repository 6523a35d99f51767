//! Hashes of the history, byte for byte what etcd hashes: CRC-32C of the name of its bucket, and of each record's key
//! and value there (`server/storage/mvcc/hash.go` in etcd).

use crate::kv::{KeyValue, Revision};
use crate::mvcc::Found;
use crate::shared::Shared;
use crate::snapshot::record;
use crate::upkeep::{Hash, UpkeepError};
use crate::view::View;

/// What `HashKV` says: changes after the compaction, and of older ones those that can still be read at `revision`.
pub(crate) fn of_keys(shared: &Shared, view: &View, revision: Revision) -> Result<Hash, UpkeepError> {
    let (current, compacted) = (view.marks.revision, view.marks.compacted);
    if revision > current {
        return Err(UpkeepError::FutureRevision { requested: revision, current });
    }
    if revision != 0 && revision <= compacted {
        return Err(UpkeepError::Compacted { requested: revision, compacted });
    }
    let revision = if revision == 0 { current } else { revision };
    let mut hash = crc32c::crc32c(record::BUCKET);
    view.each(|kv| {
        if kv.mod_revision <= revision && (kv.mod_revision > compacted || is_newest(shared, &kv, revision)) {
            hash = append(hash, &kv);
        }
        Ok::<_, UpkeepError>(())
    })?;
    // What was newest then can only be told as long as it is kept.
    let now = shared.state.read().compacted();
    if revision < now {
        return Err(UpkeepError::Compacted { requested: revision, compacted: now });
    }
    Ok(Hash { hash, compacted, revision })
}

/// Whether a read at `revision` finds this record.
fn is_newest(shared: &Shared, kv: &KeyValue, revision: Revision) -> bool {
    match shared.state.read().version_at(&kv.key, revision) {
        Some(Found::Here(newest)) => newest.mod_revision == kv.mod_revision,
        Some(Found::Stored((newest, _))) => newest == kv.mod_revision,
        None => false,
    }
}

/// What `Hash` says: everything.
pub(crate) fn of_all(view: &View) -> Result<u32, UpkeepError> {
    let mut hash = crc32c::crc32c(record::BUCKET);
    view.each(|kv| {
        hash = append(hash, &kv);
        Ok::<_, UpkeepError>(())
    })?;
    for (id, ttl) in view.leases()? {
        hash = crc32c::crc32c_append(hash, &id.to_be_bytes());
        hash = crc32c::crc32c_append(hash, &ttl.to_be_bytes());
    }
    Ok(hash)
}

fn append(hash: u32, kv: &KeyValue) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(hash, &record::key(kv)), &record::value(kv))
}
