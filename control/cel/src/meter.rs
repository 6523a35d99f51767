//! What an evaluation may cost: units of upstream's cost model, and memory, which upstream does not count.

use crate::error::EvalError;

/// Units one rule that is evaluated once may cost.
pub const PER_CALL: u64 = 1_000_000;
/// Units all rules of one object, or of one policy, may cost in one request.
pub const PER_REQUEST: u64 = 10_000_000;
/// Units all match conditions of one webhook or policy may cost in one request.
pub const PER_MATCH_CONDITIONS: u64 = 2_500_000;
/// Bytes of the values one evaluation may make.
pub const MEMORY: usize = 32 << 20;
/// Bytes that a value takes beside its text.
const VALUE: usize = 48;

/// Counts what one evaluation spends.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) spent: u64,
    memory: usize,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Meter { spent: 0, memory: 0 }
    }

    pub(crate) fn spend(&mut self, units: u64) -> Result<(), EvalError> {
        self.spent = self.spent.saturating_add(units);
        if self.spent > PER_CALL { Err(EvalError::CostExceeded) } else { Ok(()) }
    }

    /// Before bytes are made.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > MEMORY { Err(EvalError::MemoryExceeded(MEMORY)) } else { Ok(()) }
    }

    /// Before a list or map of so many elements is made.
    pub(crate) fn elements(&mut self, count: usize) -> Result<(), EvalError> {
        self.allocate(count.saturating_mul(VALUE))
    }
}

/// What several evaluations may spend together.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u64,
}

impl Budget {
    /// So many units.
    pub fn new(units: u64) -> Self {
        Budget { left: units }
    }

    /// Units that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes what was spent; `false` when there was not so much, and nothing is left then.
    pub(crate) fn take(&mut self, units: u64) -> bool {
        let enough = units <= self.left;
        self.left = self.left.saturating_sub(units);
        enough
    }
}
