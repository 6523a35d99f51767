//! What of a transaction can be checked without knowing the keys: sizes and contradictions.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::error::WriteError;
use crate::kv::KeyRange;
use crate::txn::{Op, Range, Txn};

impl Txn {
    /// Whether `visit` says yes to one of its steps, those of transactions inside of it included.
    fn each<'a>(&'a self, visit: &mut impl FnMut(&'a Op) -> bool) -> bool {
        self.then.iter().chain(&self.otherwise).any(|op| match op {
            Op::Txn(inside) => inside.each(visit),
            other => visit(other),
        })
    }

    /// Whether it could write a key.
    pub(crate) fn puts(&self) -> bool {
        self.each(&mut |op| matches!(op, Op::Put(_)))
    }

    /// Whether it could change anything.
    pub(crate) fn changes(&self) -> bool {
        self.each(&mut |op| matches!(op, Op::Put(_) | Op::Delete { .. }))
    }

    /// Whether it could read something that has to be the newest.
    pub(crate) fn is_linearizable(&self) -> bool {
        self.each(&mut |op| !matches!(op, Op::Range(Range { serializable: true, .. })))
    }

    /// Whether it could read an older revision.
    pub(crate) fn reads_the_past(&self) -> bool {
        self.each(&mut |op| matches!(op, Op::Range(Range { revision: Some(_), .. })))
    }

    /// Refuses what contradicts itself, and more than `max_ops` comparisons or operations in one list. As in etcd,
    /// a transaction inside may have as many as the one around it left over.
    pub(crate) fn check(&self, max_ops: usize) -> Result<(), WriteError> {
        check_size(self, max_ops)?;
        check_steps(&self.then)?;
        check_steps(&self.otherwise)?;
        Ok(())
    }
}

fn check_size(txn: &Txn, max_ops: usize) -> Result<(), WriteError> {
    let ops = txn.compare.len().max(txn.then.len()).max(txn.otherwise.len());
    if ops > max_ops {
        return Err(WriteError::TooManyOps { ops, limit: max_ops });
    }
    for op in txn.then.iter().chain(&txn.otherwise) {
        match op {
            Op::Txn(inside) => check_size(inside, max_ops - ops)?,
            Op::Put(put) if put.key.is_empty() => return Err(WriteError::EmptyKey),
            Op::Put(_) | Op::Delete { .. } | Op::Range(_) => {}
        }
    }
    Ok(())
}

/// What the steps of a branch, and of the transactions inside, could change.
#[derive(Default)]
struct Changed<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Changed<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), WriteError> {
        let deleted = self.deletes.iter().any(|keys| keys.contains(key));
        if deleted || !self.puts.insert(key) {
            return Err(WriteError::DuplicateKey(Bytes::copy_from_slice(key)));
        }
        Ok(())
    }

    /// Takes in what one of two branches changes, and then the other.
    fn either(&mut self, then: Changed<'a>, otherwise: Changed<'a>) -> Result<(), WriteError> {
        let only_one_happens = otherwise.puts.difference(&then.puts);
        for key in then.puts.iter().chain(only_one_happens) {
            self.put(key)?;
        }
        self.deletes.extend(then.deletes);
        self.deletes.extend(otherwise.deletes);
        Ok(())
    }
}

/// A key may change only once in a revision, so no key may be put twice, or put and deleted, in one branch.
fn check_steps(steps: &[Op]) -> Result<Changed<'_>, WriteError> {
    let mut changed = Changed::default();
    for step in steps {
        if let Op::Delete { keys, .. } = step {
            changed.deletes.push(keys);
        }
    }
    for step in steps {
        if let Op::Txn(inside) = step {
            changed.either(check_steps(&inside.then)?, check_steps(&inside.otherwise)?)?;
        }
    }
    for step in steps {
        if let Op::Put(put) = step {
            changed.put(&put.key)?;
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_change_only_once_in_a_branch() {
        let twice = Txn::of(vec![Op::put("a", "1"), Op::put("a", "2")]);
        assert!(matches!(twice.check(8), Err(WriteError::DuplicateKey(key)) if key == "a"));
        let put_and_deleted =
            Txn::of(vec![Op::Delete { keys: KeyRange::prefix("a"), prev_kv: false }, Op::put("ab", "")]);
        assert!(matches!(put_and_deleted.check(8), Err(WriteError::DuplicateKey(key)) if key == "ab"));
        let in_each_branch = Txn::put("a", "1").or_else(Op::put("a", "2"));
        assert!(in_each_branch.check(8).is_ok());
    }

    #[test]
    fn a_transaction_inside_counts_as_a_part_of_the_whole() {
        let inside = |then, otherwise| Op::Txn(Txn { compare: vec![], then, otherwise });
        let delete = || Op::Delete { keys: KeyRange::prefix("a"), prev_kv: false };
        let either = Txn::of(vec![inside(vec![Op::put("a", "1")], vec![Op::put("a", "2")])]);
        assert!(either.check(8).is_ok(), "only one of them is going to happen");
        for steps in [
            vec![inside(vec![Op::put("a", "1")], vec![]), Op::put("a", "2")],
            vec![inside(vec![Op::put("a", "1")], vec![]), inside(vec![], vec![Op::put("a", "2")])],
            vec![inside(vec![Op::put("ab", "1")], vec![]), delete()],
            vec![inside(vec![delete()], vec![]), Op::put("ab", "1")],
        ] {
            let check = Txn::of(steps.clone()).check(8);
            assert!(matches!(check, Err(WriteError::DuplicateKey(_))), "{steps:?}");
        }
        // Each level leaves fewer operations to those inside, which bounds the depth too.
        let mut deep = Txn::put("a", "1");
        for _ in 0..8 {
            deep = Txn::of(vec![Op::Txn(deep)]);
        }
        assert!(matches!(deep.check(8), Err(WriteError::TooManyOps { .. })));
        assert!(deep.check(9).is_ok());
    }

    #[test]
    fn limits_and_nonsense_are_refused() {
        let many = Txn::of((0..9).map(|i| Op::put(format!("{i}"), "")).collect());
        assert!(matches!(many.check(8), Err(WriteError::TooManyOps { ops: 9, limit: 8 })));
        assert!(matches!(Txn::put("", "x").check(8), Err(WriteError::EmptyKey)));
    }
}
