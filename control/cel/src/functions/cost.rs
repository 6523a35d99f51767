//! What calls cost: when they run, and at most. Source: `cel-go/checker/cost.go`, `cel-go/interpreter/runtimecost.go` and
//! `apiserver/pkg/cel/library/cost.go`.

use crate::opaque::Opaque;
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
    /// One unit, and so many times the product of two lists.
    Product(u64),
    /// A look whether an address is in a network, or another network is.
    Within(Inner),
    /// The text of a selector, and the requirements that it may have.
    Selector,
    /// A text times the regular expression of a format.
    Format,
}

/// What is looked for in a network; as text it is read first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Inner {
    Ip,
    IpText,
    Cidr,
    CidrText,
}

/// The bytes of the longest address, and the longest expression of a format, for estimates.
const LONGEST_ADDRESS: u64 = 16;
const LONGEST_FORMAT: u64 = 128;

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
            Cost::Within(inner) => within(inner, size(0), size(1)),
            Cost::Format => {
                let expression = match args.first() {
                    Some(Value::Opaque(Opaque::Format(format))) => format.expression,
                    _ => LONGEST_FORMAT,
                };
                matched(size(1), expression)
            }
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
            Cost::Match => matched(size(0), size(1)),
            Cost::Selector => {
                let requirements = units(size(1), 0.5).saturating_mul(50);
                units(size(1), CHARACTER).saturating_add(requirements).saturating_add(10)
            }
            Cost::Contains => units(size(0), CHARACTER).saturating_mul(units(size(1), CHARACTER)),
            Cost::Product(times) => size(0).saturating_mul(size(1)).saturating_mul(times).saturating_add(1),
            Cost::Result(_) | Cost::Elements | Cost::Within(_) | Cost::Format => size(0),
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
            Cost::Within(inner) => within(inner, LONGEST_ADDRESS, size(1)),
            Cost::Format => matched(size(1), LONGEST_FORMAT),
            Cost::In => match args.get(1) {
                Some(Type::Map(..)) => 1,
                _ => size(1),
            },
            _ => self.by(size),
        }
    }
}

/// A text of this size times a regular expression of that one.
fn matched(text: u64, expression: u64) -> u64 {
    units(text.saturating_add(1), CHARACTER).saturating_mul(units(expression, REGEX))
}

/// A network is compared by the bytes of its prefix; another network's are masked before.
fn within(inner: Inner, prefix: u64, text: u64) -> u64 {
    let compared = units(prefix.saturating_mul(2), CHARACTER);
    let masked = units(prefix, CHARACTER).saturating_add(1);
    let read = units(text, CHARACTER);
    match inner {
        Inner::Ip => compared,
        Inner::IpText => compared.saturating_add(read),
        Inner::Cidr => compared.saturating_add(masked),
        Inner::CidrText => compared.saturating_add(masked).saturating_add(read),
    }
}

/// Upstream rounds the reading of each text down; a short one counts here as any other element.
fn elements(list: &List<'_>) -> u64 {
    let each = |element| match element {
        Ok(value @ (Value::String(_) | Value::Bytes(_))) => (Value::size(&value) / 10).max(1),
        _ => 1,
    };
    list.iter().map(each).sum()
}
