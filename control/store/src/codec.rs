//! The bytes of commands and of history records. Little-endian, lengths in front, nothing self-describing: both are
//! written once, read at a restart, and protected by checksums a layer below.

use bytes::Bytes;

use crate::command::Command;
use crate::kv::{KeyRange, KeyValue};
use crate::txn::{Compare, CompareOp, CompareTarget, Op, Put, Range, Txn};

/// Bytes that do not mean what they should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(crate) struct DecodeError {
    what: &'static str,
    at: usize,
}

/// The first byte of an encoded command; another one is another layout.
const COMMAND_LAYOUT: u8 = 1;

/// Encodes a command for the log.
pub(crate) fn encode_command(command: &Command) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(128));
    out.u8(COMMAND_LAYOUT);
    match command {
        Command::Txn(txn) => {
            out.u8(1);
            write_txn(&mut out, txn);
        }
        Command::Compact(revision) => {
            out.u8(2);
            out.i64(*revision);
        }
        Command::LeaseGrant { id, ttl } => {
            out.u8(3);
            out.i64(*id);
            out.i64(*ttl);
        }
        Command::LeaseRevoke { id } => {
            out.u8(4);
            out.i64(*id);
        }
    }
    out.0
}

/// Decodes what [`encode_command`] made. Keys and values are copied, so that they do not hold on to `bytes`.
pub(crate) fn decode_command(bytes: &[u8]) -> Result<Command, DecodeError> {
    let mut input = Reader { bytes, at: 0 };
    if input.u8()? != COMMAND_LAYOUT {
        return Err(input.wrong("unknown layout of a command"));
    }
    let command = match input.u8()? {
        1 => Command::Txn(read_txn(&mut input)?),
        2 => Command::Compact(input.i64()?),
        3 => Command::LeaseGrant { id: input.i64()?, ttl: input.i64()? },
        4 => Command::LeaseRevoke { id: input.i64()? },
        _ => return Err(input.wrong("unknown command")),
    };
    input.end()?;
    Ok(command)
}

/// Encodes a record of the history; its revision and its place in it are the record's key.
pub(crate) fn encode_record(kv: &KeyValue) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(32 + kv.key.len() + kv.value.len()));
    out.i64(kv.create_revision);
    out.i64(kv.version);
    out.i64(kv.lease);
    out.bytes(&kv.key);
    out.0.extend_from_slice(&kv.value);
    out.0
}

/// The length of [`encode_record`]'s result.
pub(crate) fn record_len(kv: &KeyValue) -> usize {
    28 + kv.key.len() + kv.value.len()
}

/// Decodes what [`encode_record`] made.
pub(crate) fn decode_record(revision: i64, sub: u32, bytes: &[u8]) -> Result<KeyValue, DecodeError> {
    let mut input = Reader { bytes, at: 0 };
    let (create, version, lease) = (input.i64()?, input.i64()?, input.i64()?);
    let key = input.bytes()?;
    let value = Bytes::copy_from_slice(input.rest());
    Ok(KeyValue::new(key, value, create, revision, version, lease).numbered(sub))
}

fn write_txn(out: &mut Writer, txn: &Txn) {
    out.len(txn.compare.len());
    for compare in &txn.compare {
        write_range_of_keys(out, &compare.keys);
        out.u8(match compare.op {
            CompareOp::Equal => 0,
            CompareOp::NotEqual => 1,
            CompareOp::Greater => 2,
            CompareOp::Less => 3,
        });
        match &compare.target {
            CompareTarget::Version(operand) => out.tagged(0, *operand),
            CompareTarget::CreateRevision(operand) => out.tagged(1, *operand),
            CompareTarget::ModRevision(operand) => out.tagged(2, *operand),
            CompareTarget::Lease(operand) => out.tagged(3, *operand),
            CompareTarget::Value(operand) => {
                out.u8(4);
                out.bytes(operand);
            }
        }
    }
    for branch in [&txn.then, &txn.otherwise] {
        out.len(branch.len());
        for op in branch {
            write_op(out, op);
        }
    }
}

fn read_txn(input: &mut Reader<'_>) -> Result<Txn, DecodeError> {
    let mut txn = Txn::default();
    for _ in 0..input.len()? {
        let keys = read_range_of_keys(input)?;
        let op = match input.u8()? {
            0 => CompareOp::Equal,
            1 => CompareOp::NotEqual,
            2 => CompareOp::Greater,
            3 => CompareOp::Less,
            _ => return Err(input.wrong("unknown comparison")),
        };
        let target = match input.u8()? {
            0 => CompareTarget::Version(input.i64()?),
            1 => CompareTarget::CreateRevision(input.i64()?),
            2 => CompareTarget::ModRevision(input.i64()?),
            3 => CompareTarget::Lease(input.i64()?),
            4 => CompareTarget::Value(input.bytes()?),
            _ => return Err(input.wrong("unknown field to compare")),
        };
        txn.compare.push(Compare { keys, op, target });
    }
    for branch in [&mut txn.then, &mut txn.otherwise] {
        for _ in 0..input.len()? {
            branch.push(read_op(input)?);
        }
    }
    Ok(txn)
}

fn write_op(out: &mut Writer, op: &Op) {
    match op {
        Op::Put(put) => {
            out.u8(0);
            out.bytes(&put.key);
            out.bytes(&put.value);
            out.i64(put.lease);
            out.u8(put.prev_kv.into());
        }
        Op::Delete { keys, prev_kv } => {
            out.u8(1);
            write_range_of_keys(out, keys);
            out.u8((*prev_kv).into());
        }
        Op::Range(range) => {
            out.u8(2);
            write_range_of_keys(out, &range.keys);
            out.i64(range.revision.unwrap_or(0));
            out.i64(range.limit as i64);
            out.u8(range.count_only.into());
            out.u8(range.keys_only.into());
        }
    }
}

fn read_op(input: &mut Reader<'_>) -> Result<Op, DecodeError> {
    Ok(match input.u8()? {
        0 => Op::Put(Put {
            key: input.bytes()?,
            value: input.bytes()?,
            lease: input.i64()?,
            prev_kv: input.u8()? != 0,
        }),
        1 => Op::Delete { keys: read_range_of_keys(input)?, prev_kv: input.u8()? != 0 },
        2 => Op::Range(Range {
            keys: read_range_of_keys(input)?,
            revision: Some(input.i64()?).filter(|revision| *revision != 0),
            limit: input.i64()? as usize,
            count_only: input.u8()? != 0,
            keys_only: input.u8()? != 0,
            serializable: false,
        }),
        _ => return Err(input.wrong("unknown operation")),
    })
}

fn write_range_of_keys(out: &mut Writer, keys: &KeyRange) {
    match keys {
        KeyRange::One(key) => {
            out.u8(0);
            out.bytes(key);
        }
        KeyRange::Span { start, end } => {
            out.u8(1);
            out.bytes(start);
            out.bytes(end);
        }
        KeyRange::From(start) => {
            out.u8(2);
            out.bytes(start);
        }
    }
}

fn read_range_of_keys(input: &mut Reader<'_>) -> Result<KeyRange, DecodeError> {
    Ok(match input.u8()? {
        0 => KeyRange::One(input.bytes()?),
        1 => KeyRange::Span { start: input.bytes()?, end: input.bytes()? },
        2 => KeyRange::From(input.bytes()?),
        _ => return Err(input.wrong("unknown kind of range")),
    })
}

/// Appends fields to bytes.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn tagged(&mut self, tag: u8, value: i64) {
        self.u8(tag);
        self.i64(value);
    }

    /// A length. Requests are limited to far less than 4 GiB before they get here.
    fn len(&mut self, len: usize) {
        self.u32(len as u32);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.0.extend_from_slice(bytes);
    }
}

/// Takes fields from the front of bytes.
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, what: &'static str) -> DecodeError {
        DecodeError { what, at: self.at }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.wrong("unexpected end"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn len(&mut self) -> Result<usize, DecodeError> {
        Ok(self.u32()? as usize)
    }

    /// Bytes with their length in front, as a view.
    pub(crate) fn slice(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.len()?;
        self.take(len)
    }

    fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        Ok(Bytes::copy_from_slice(self.slice()?))
    }

    fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    /// Refuses bytes behind the last field.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.wrong("unexpected bytes")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands() -> Vec<Command> {
        let compare = |op, target| Compare { keys: KeyRange::prefix("a"), op, target };
        vec![
            Command::Compact(7),
            Command::LeaseGrant { id: -3, ttl: 10 },
            Command::LeaseRevoke { id: i64::MAX },
            Command::Txn(Txn::default()),
            Command::Txn(Txn {
                compare: vec![
                    compare(CompareOp::Equal, CompareTarget::Version(1)),
                    compare(CompareOp::NotEqual, CompareTarget::CreateRevision(2)),
                    compare(CompareOp::Greater, CompareTarget::ModRevision(3)),
                    compare(CompareOp::Less, CompareTarget::Lease(4)),
                    compare(CompareOp::Equal, CompareTarget::Value(Bytes::from_static(b"v"))),
                ],
                then: vec![
                    Op::Put(Put { key: "k".into(), value: "v".into(), lease: 9, prev_kv: true }),
                    Op::Delete { keys: KeyRange::span("a", "b"), prev_kv: true },
                ],
                otherwise: vec![Op::Range(Range {
                    limit: 5,
                    count_only: true,
                    keys_only: true,
                    ..Range::of(KeyRange::from_key("z"))
                })],
            }),
        ]
    }

    #[test]
    fn commands_survive_and_every_cut_is_noticed() {
        for command in commands() {
            let bytes = encode_command(&command);
            assert_eq!(decode_command(&bytes), Ok(command.clone()));
            for cut in 0..bytes.len() {
                assert!(decode_command(&bytes[..cut]).is_err(), "{command:?} cut at {cut}");
            }
            let longer = [bytes.as_slice(), b"x"].concat();
            assert!(decode_command(&longer).is_err());
        }
    }

    #[test]
    fn records_survive() {
        let kv = KeyValue::new("key", "value", 3, 9, 4, 5).numbered(2);
        let bytes = encode_record(&kv);
        assert_eq!(bytes.len(), record_len(&kv));
        assert_eq!(decode_record(9, 2, &bytes), Ok(kv));
        assert!(decode_record(9, 2, &bytes[..20]).is_err());
    }
}
