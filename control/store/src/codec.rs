//! The bytes of commands and of history records. Little-endian, lengths in front, nothing self-describing: both are
//! written once, read at a restart, and protected by checksums a layer below.

use bytes::Bytes;

use crate::alarm::{Alarm, AlarmKind};
use crate::arrange::{Limits, Sort, SortBy};
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
        Command::Alarm { alarm, raise } => {
            out.u8(5);
            out.u64(alarm.member);
            out.u8(alarm.kind.code());
            out.u8((*raise).into());
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
        5 => {
            let member = input.u64()?;
            let kind = AlarmKind::from_code(input.u8()?).ok_or_else(|| input.wrong("unknown alarm"))?;
            Command::Alarm { alarm: Alarm { member, kind }, raise: input.u8()? != 0 }
        }
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
            out.flags([put.prev_kv, put.ignore_value, put.ignore_lease]);
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
            let limits = range.limits != Limits::default();
            out.flags([range.keys_only, range.sort.is_some(), limits]);
            if let Some(sort) = range.sort {
                out.u8(SORTS.iter().position(|by| *by == sort.by).unwrap_or_default() as u8);
                out.flags([sort.descending, false, false]);
            }
            if limits {
                let Limits { min_mod_revision, max_mod_revision, .. } = range.limits;
                let Limits { min_create_revision, max_create_revision, .. } = range.limits;
                for limit in [min_mod_revision, max_mod_revision, min_create_revision, max_create_revision] {
                    out.i64(limit);
                }
            }
        }
        Op::Txn(txn) => {
            out.u8(3);
            write_txn(out, txn);
        }
    }
}

/// The fields to sort by, in the order of their codes.
const SORTS: [SortBy; 5] =
    [SortBy::Key, SortBy::Version, SortBy::CreateRevision, SortBy::ModRevision, SortBy::Value];

fn read_op(input: &mut Reader<'_>) -> Result<Op, DecodeError> {
    Ok(match input.u8()? {
        0 => Op::Put(read_put(input)?),
        1 => Op::Delete { keys: read_range_of_keys(input)?, prev_kv: input.u8()? != 0 },
        2 => Op::Range(read_range(input)?),
        3 => Op::Txn(read_txn(input)?),
        _ => return Err(input.wrong("unknown operation")),
    })
}

fn read_put(input: &mut Reader<'_>) -> Result<Put, DecodeError> {
    let (key, value, lease) = (input.bytes()?, input.bytes()?, input.i64()?);
    let [prev_kv, ignore_value, ignore_lease] = input.flags()?;
    Ok(Put { key, value, lease, prev_kv, ignore_value, ignore_lease })
}

fn read_range(input: &mut Reader<'_>) -> Result<Range, DecodeError> {
    let keys = read_range_of_keys(input)?;
    let revision = Some(input.i64()?).filter(|revision| *revision != 0);
    let limit = input.i64()? as usize;
    let count_only = input.u8()? != 0;
    let [keys_only, sorted, limited] = input.flags()?;
    let mut range = Range { revision, limit, count_only, keys_only, ..Range::of(keys) };
    if sorted {
        let by = SORTS.get(usize::from(input.u8()?)).copied();
        let by = by.ok_or_else(|| input.wrong("unknown field to sort by"))?;
        let [descending, ..] = input.flags()?;
        range.sort = Some(Sort { by, descending });
    }
    if limited {
        range.limits = Limits {
            min_mod_revision: input.i64()?,
            max_mod_revision: input.i64()?,
            min_create_revision: input.i64()?,
            max_create_revision: input.i64()?,
        };
    }
    Ok(range)
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

    /// Up to three facts in a byte.
    fn flags(&mut self, flags: [bool; 3]) {
        self.u8(flags.iter().rev().fold(0, |byte, flag| byte << 1 | u8::from(*flag)));
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

    fn flags(&mut self) -> Result<[bool; 3], DecodeError> {
        let byte = self.u8()?;
        if byte >= 1 << 3 {
            return Err(self.wrong("unknown flags"));
        }
        Ok(std::array::from_fn(|bit| byte & (1 << bit) != 0))
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
        let put = || Put { key: "k".into(), value: "v".into(), ..Put::default() };
        let alarm = Alarm { member: u64::MAX, kind: AlarmKind::NoSpace };
        let compare = |op, target| Compare { keys: KeyRange::prefix("a"), op, target };
        vec![
            Command::Compact(7),
            Command::LeaseGrant { id: -3, ttl: 10 },
            Command::LeaseRevoke { id: i64::MAX },
            Command::Alarm { alarm, raise: true },
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
                    Op::Put(Put { lease: 9, prev_kv: true, ignore_value: true, ..put() }),
                    Op::Put(Put { ignore_lease: true, ..put() }),
                    Op::Txn(Txn::put("k", "v").or_else(Op::get("k"))),
                    Op::Delete { keys: KeyRange::span("a", "b"), prev_kv: true },
                ],
                otherwise: vec![
                    Op::Range(Range {
                        limit: 5,
                        count_only: true,
                        keys_only: true,
                        sort: Some(Sort { by: SortBy::Value, descending: true }),
                        ..Range::of(KeyRange::from_key("z"))
                    }),
                    Op::Range(Range {
                        revision: Some(3),
                        limits: Limits { max_mod_revision: 4, ..Limits::default() },
                        ..Range::of(KeyRange::from_key("z"))
                    }),
                ],
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
