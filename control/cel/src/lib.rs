//! The Common Expression Language as Kubernetes uses it: for validation rules of custom resources, admission policies, match
//! conditions, and the configuration of authentication.
//!
//! [`Program::compile`] reads and checks an expression against an [`Environment`], with `cel-go`'s messages;
//! [`Program::evaluate`] runs it on [`Bindings`] over `serde_json` values, of which nothing is copied. Time and memory are
//! bounded whatever the expression: the parser by depth and length, the evaluator by upstream's cost model and a count of
//! bytes. [`rules`] walks a schema with `x-kubernetes-validations`.
//!
//! It is our own, because the crate `cel` (0.15) has neither a checker nor a limit on cost and copies its input, and
//! brings the runtime of ANTLR along.
//!
//! Source: <https://github.com/google/cel-spec>, <https://kubernetes.io/docs/reference/using-api/cel/>.

mod ast;
mod check;
mod error;
mod escape;
mod estimate;
mod eval;
mod functions;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod lexer;
mod macros;
mod meter;
mod opaque;
mod parser;
mod program;
pub mod rules;
mod schema;
#[cfg(test)]
mod tests;
mod times;
mod types;
mod url;
mod uses;
mod value;
mod words;

pub use check::Environment;
pub use error::{CompileError, EvalError, Issue};
pub use escape::{escape, unescape};
pub use eval::Bindings;
pub use functions::named_format::NamedFormat;
pub use meter::{Budget, MEMORY, PER_CALL, PER_MATCH_CONDITIONS, PER_REQUEST};
pub use opaque::{Authorize, Check, Opaque, OpaqueKind, Query, Verdict};
pub use program::Program;
pub use schema::schema_type;
pub use types::{DYN, ListKind, ListType, Max, ObjectType, STRING, Type};
pub use url::Url;
pub use value::{Key, List, Map, Text, Value};
