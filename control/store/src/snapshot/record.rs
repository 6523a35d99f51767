//! A record of the history as etcd keeps it in its bucket of keys.

use crate::etcd::proto::kv::KeyValue as Message;
use crate::kv::KeyValue;

/// The name of the bucket.
pub(crate) const BUCKET: &[u8] = b"key";

/// Marks a deletion, behind the key of the record.
const TOMBSTONE: u8 = b't';

/// A revision in etcd's form, which sorts as it should.
pub(crate) fn revision(main: i64, sub: i64) -> Vec<u8> {
    [main.to_be_bytes().as_slice(), b"_", sub.to_be_bytes().as_slice()].concat()
}

/// The key of a record.
pub(crate) fn key(kv: &KeyValue) -> Vec<u8> {
    let mut key = revision(kv.mod_revision, i64::from(kv.sub));
    if kv.is_tombstone() {
        key.push(TOMBSTONE);
    }
    key
}

/// The value of a record; of a deletion, it has the key alone.
pub(crate) fn value(kv: &KeyValue) -> Vec<u8> {
    let message = if kv.is_tombstone() {
        Message { key: kv.key.clone(), ..Message::default() }
    } else {
        Message {
            key: kv.key.clone(),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: kv.value.clone(),
            lease: kv.lease,
        }
    };
    prost::Message::encode_to_vec(&message)
}

/// What a record means; `None` if it means nothing.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<KeyValue> {
    let (main, sub, mark) = split(key)?;
    let message: Message = prost::Message::decode(value).ok()?;
    let sub = u32::try_from(sub).ok()?;
    Some(match mark {
        [] => {
            let Message { create_revision, version, lease, .. } = message;
            // A version of 0 would be a deletion.
            let version = Some(version).filter(|version| *version > 0)?;
            KeyValue::new(message.key, message.value, create_revision, main, version, lease).numbered(sub)
        }
        [TOMBSTONE] => KeyValue::tombstone(message.key, main, sub),
        _ => return None,
    })
}

/// The parts of a revision, and what stands behind it.
pub(crate) fn split(key: &[u8]) -> Option<(i64, i64, &[u8])> {
    let (main, rest) = key.split_first_chunk::<8>()?;
    let (sub, mark) = rest.strip_prefix(b"_")?.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*main), i64::from_be_bytes(*sub), mark))
}
