//! What goes wrong with expressions, in upstream's words.

use std::fmt;

/// What is wrong with the text of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Characters before it.
    pub at: usize,
    /// What it is.
    pub message: String,
}

/// Why an expression cannot be compiled. Shown as `cel-go` shows it: each issue with its line and a mark below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    issues: Vec<Issue>,
    source: String,
}

/// How many issues are shown.
const SHOWN: usize = 10;

impl CompileError {
    pub(crate) fn new(source: &str, mut issues: Vec<Issue>) -> Self {
        issues.sort_by_key(|issue| issue.at);
        CompileError { issues, source: source.to_owned() }
    }

    /// What is wrong, in the order of the text.
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }
}

impl std::error::Error for CompileError {}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("compilation failed: ")?;
        for (index, issue) in self.issues.iter().take(SHOWN).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            show(f, &self.source, issue)?;
        }
        Ok(())
    }
}

fn show(f: &mut fmt::Formatter<'_>, source: &str, issue: &Issue) -> fmt::Result {
    let mut rest = issue.at;
    let mut number = 1;
    let mut line = "";
    for text in source.split('\n') {
        line = text;
        let length = text.chars().count();
        if rest <= length {
            break;
        }
        rest -= length + 1;
        number += 1;
    }
    let dots = ".".repeat(rest);
    write!(f, "ERROR: <input>:{number}:{}: {}\n | {line}\n | {dots}^", rest + 1, issue.message)
}

/// Why an expression that was compiled has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A map or object has no such entry.
    #[error("no such key: {0}")]
    NoSuchKey(String),
    /// A variable has no value.
    #[error("no such attribute(s): {0}")]
    NoSuchAttribute(String),
    /// No function takes values of these types.
    #[error("no such overload")]
    NoSuchOverload,
    /// A list is shorter.
    #[error("index out of bounds: {0}")]
    OutOfBounds(i64),
    /// Division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A remainder by zero.
    #[error("modulus by zero")]
    ModulusByZero,
    /// A number is beyond its type.
    #[error("{0} overflow")]
    Overflow(&'static str),
    /// It costs more than one expression may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
    /// It and those before it cost more than all of a request may.
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    OutOfBudget,
    /// It makes more data than one expression may.
    #[error("operation cancelled: the values it makes take more than {0} bytes of memory")]
    MemoryExceeded(usize),
    /// All else, in the words of the function.
    #[error("{0}")]
    Other(String),
}

impl EvalError {
    /// Whether nothing may be tried any more.
    pub fn is_fatal(&self) -> bool {
        matches!(self, EvalError::CostExceeded | EvalError::OutOfBudget | EvalError::MemoryExceeded(_))
    }

    pub(crate) fn other(message: impl Into<String>) -> Self {
        EvalError::Other(message.into())
    }
}
