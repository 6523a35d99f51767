//! What calls cost: when they run, and at most. Source: `cel-go/checker/cost.go`, `cel-go/interpreter/runtimecost.go` and
//! `apiserver/pkg/cel/library/cost.go`.

use crate::types::Type;
use crate::value::{List, Value};

/// Units for each character that is read.
pub(crate) const CHARACTER: f64 = 0.1;
/// Units for each character of a regular expression, for each unit of the text.
const REGEX: f64 = 0.25;

/// How the cost of a call grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cost {
    /// One unit.
    One,
    /// So many units.
    Fixed(u64),
    /// So many readings of the argument of this index.
    Read(usize, f64),
    /// So many readings of the result.
    Result(f64),
    /// Each element of the first argument, and its text.
    Elements,
    /// Each element of the second argument.
    In,
    /// The smaller one of two.
    Least,
    /// Both together.
    Both,
    /// A text times a regular expression.
    Match,
    /// A text times another.
    Contains,
    /// So many units, and a reading of the argument of this index.
    FixedAndRead(u64, usize),
    /// One unit, and so many times the product of two lists.
    Product(u64),
}

fn units(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

impl Cost {
    /// For values.
    pub(crate) fn actual(self, args: &[Value<'_>], result: &Value<'_>) -> u64 {
        let size = |index: usize| args.get(index).map_or(1, Value::size);
        match self {
            Cost::Result(times) => units(result.size(), times * CHARACTER),
            Cost::Elements => match args.first() {
                Some(Value::List(list)) => elements(list),
                _ => units(size(0), CHARACTER),
            },
            _ => self.by(size),
        }
    }

    fn by(self, size: impl Fn(usize) -> u64) -> u64 {
        match self {
            Cost::One => 1,
            Cost::Fixed(units) => units,
            Cost::Read(index, times) => units(size(index), times * CHARACTER),
            Cost::In => size(1),
            Cost::Least => units(size(0).min(size(1)), CHARACTER),
            Cost::Both => units(size(0).saturating_add(size(1)), CHARACTER),
            Cost::Match => {
                let text = units(size(0).saturating_add(1), CHARACTER);
                text.saturating_mul(units(size(1), REGEX))
            }
            Cost::Contains => units(size(0), CHARACTER).saturating_mul(units(size(1), CHARACTER)),
            Cost::FixedAndRead(units, index) => units.saturating_add(self::units(size(index), CHARACTER)),
            Cost::Product(times) => size(0).saturating_mul(size(1)).saturating_mul(times).saturating_add(1),
            Cost::Result(_) | Cost::Elements => size(0),
        }
    }

    /// At most, for types.
    pub(crate) fn estimate(self, args: &[&Type], result: &Type) -> u64 {
        let size = |index: usize| args.get(index).map_or(1, |ty| ty.max());
        match self {
            Cost::Result(times) => units(result.max(), times * CHARACTER),
            Cost::Elements => match args.first() {
                Some(Type::List(list)) => {
                    let each = match &list.element {
                        Type::String(max) | Type::Bytes(max) => units(max.0, CHARACTER).saturating_add(1),
                        _ => 1,
                    };
                    list.max.0.saturating_mul(each)
                }
                _ => units(size(0), CHARACTER),
            },
            Cost::In => match args.get(1) {
                Some(Type::Map(..)) => 1,
                _ => size(1),
            },
            _ => self.by(size),
        }
    }
}

fn elements(list: &List<'_>) -> u64 {
    let each = |element| match element {
        Ok(value @ (Value::String(_) | Value::Bytes(_))) => 1 + units(Value::size(&value), CHARACTER),
        _ => 1,
    };
    list.iter().map(each).sum()
}
