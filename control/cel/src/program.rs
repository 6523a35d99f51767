//! An expression that was read and checked, ready to run.

use std::collections::BTreeSet;

use crate::ast::Node;
use crate::check::{Environment, check};
use crate::error::{CompileError, EvalError};
use crate::estimate::estimate;
use crate::eval::{Bindings, run};
use crate::meter::{Budget, Meter};
use crate::parser::parse;
use crate::types::Type;
use crate::value::Value;

/// An expression that can run, many times and at the same time.
#[derive(Debug)]
pub struct Program {
    root: Node,
    cost: u64,
    used: BTreeSet<String>,
}

impl Program {
    /// Reads and checks `expression`. What it names must be in `environment`.
    pub fn compile(expression: &str, environment: &Environment) -> Result<Program, CompileError> {
        let mut root = parse(expression)?;
        let checked = check(&mut root, environment);
        if !checked.issues.is_empty() {
            return Err(CompileError::new(expression, checked.issues));
        }
        let cost = estimate(&root);
        Ok(Program { root, cost, used: checked.used })
    }

    /// The type of its value.
    pub fn result_type(&self) -> &Type {
        &self.root.ty
    }

    /// Units of cost one evaluation takes at most, by the sizes that types allow.
    pub fn cost_limit(&self) -> u64 {
        self.cost
    }

    /// Whether it names this variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.used.contains(variable)
    }

    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    /// Its value. The evaluation is bounded by [`crate::meter::PER_CALL`] and [`crate::meter::MEMORY`], and by what is
    /// left in `budget`, from which its cost is taken also when it fails.
    pub fn evaluate<'a>(
        &'a self,
        bindings: &Bindings<'a>,
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvalError> {
        let mut meter = Meter::new();
        let result = run(&self.root, bindings, &mut meter);
        if budget.take(meter.spent) { result } else { Err(EvalError::OutOfBudget) }
    }
}
