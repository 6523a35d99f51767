//! What of the node its pods have been given, so that resizes that go on at once can not be granted the same room.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::resize::{Amounts, Verdict, judge};

/// The requests of all pods that are not over, by their uid.
#[derive(Default)]
pub(crate) struct Ledger {
    pods: Mutex<HashMap<String, Amounts>>,
}

impl Ledger {
    /// Takes note of what a pod has. The scheduler found the room for it.
    pub(crate) fn hold(&self, uid: &str, amounts: Amounts) {
        self.pods.lock().insert(uid.to_owned(), amounts);
    }

    /// Gives a pod that has `held` what it wants, if there is room for it beside the others.
    pub(crate) fn ask(&self, uid: &str, wanted: Amounts, held: Amounts, capacity: Amounts) -> Verdict {
        let mut pods = self.pods.lock();
        let others = pods.iter().filter(|(other, _)| *other != uid);
        let used = others.fold(Amounts::default(), |sum, (_, amounts)| sum.plus(*amounts));
        let verdict = judge(wanted, held, used, capacity);
        if verdict == Verdict::Granted {
            pods.insert(uid.to_owned(), wanted);
        }
        verdict
    }

    /// A pod is over.
    pub(crate) fn release(&self, uid: &str) {
        self.pods.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_once() {
        let cpu = |cpu| Amounts { cpu, memory: 0 };
        let ledger = Ledger::default();
        ledger.hold("a", cpu(1000));
        ledger.hold("b", cpu(1000));
        let ask = |uid, wanted| ledger.ask(uid, cpu(wanted), cpu(1000), cpu(4000));
        assert_eq!(ask("a", 3000), Verdict::Granted);
        assert!(matches!(ask("b", 2000), Verdict::Deferred(_)));
        ledger.release("a");
        assert_eq!(ask("b", 2000), Verdict::Granted);
    }
}
