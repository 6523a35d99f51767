//! Resource quantities such as `250m`, `1.5Gi` and `2e3`: exact parsing, comparison, sums and the canonical form.
//!
//! Numbers are kept in units of 10⁻⁹, the finest step there is, in 128 bits; what is finer is rounded away from zero and
//! what is larger than 2⁶³−1 is cut to that, both as upstream does.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// How many steps one unit has.
const NANO: i128 = 1_000_000_000;
/// Largest magnitude, in steps.
const MAX: i128 = i64::MAX as i128 * NANO;

/// The family of suffixes a quantity was written with, and is written with again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Ki, Mi, Gi, Ti, Pi, Ei.
    BinarySi,
    /// n, u, m, none, k, M, G, T, P, E.
    DecimalSi,
    /// e3, E6 and so on.
    DecimalExponent,
}

/// A number with its family of suffixes. Equality and order look at the number alone.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not of the form at all.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Form,
    /// A suffix that does not exist.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// More than one point, or none of the digits.
    #[error("unable to parse numeric part of quantity")]
    Number,
}

const DECIMAL: &[(&str, i32)] = &[
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: &[(&str, u32)] = &[("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { nano: 0, format: Format::DecimalSi };

    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            None => return Err(ParseError::Form),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        if number.is_empty() || !suffix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-'))
        {
            return Err(ParseError::Form);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(ParseError::Number);
        }
        let (format, factor) = read_suffix(suffix)?;
        let magnitude = scale(whole, fraction.trim_end_matches('0'), factor);
        Ok(Quantity { nano: if negative { -magnitude } else { magnitude }, format })
    }

    /// A number of whole units such as bytes, written with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Quantity { nano: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    /// A number of whole units, written with decimal suffixes.
    pub fn from_units(units: i64) -> Self {
        Quantity { nano: i128::from(units) * NANO, format: Format::DecimalSi }
    }

    /// A number of thousandths, as CPU is counted, written with decimal suffixes.
    pub fn from_milli(milli: i64) -> Self {
        Quantity { nano: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// A number of billionths, as use of CPU is measured, written with decimal suffixes.
    pub fn from_nano(nano: i64) -> Self {
        Quantity { nano: i128::from(nano), format: Format::DecimalSi }
    }

    /// Whole units, rounded away from zero: bytes of a memory quantity.
    pub fn units(&self) -> i64 {
        narrow(divide_up(self.nano, NANO))
    }

    /// Thousandths, rounded away from zero: how CPU is counted.
    pub fn milli(&self) -> i64 {
        narrow(divide_up(self.nano, NANO / 1000))
    }

    /// The number of units, as near as a floating-point number comes.
    pub fn approximate(&self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    /// The family of suffixes.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is 0.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// Whether it is below 0.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whether it is a whole number of units.
    pub fn is_whole(&self) -> bool {
        self.nano % NANO == 0
    }

    /// The sum, in the family of the first one unless that is 0.
    #[must_use]
    pub fn plus(self, other: Quantity) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: (self.nano + other.nano).clamp(-MAX, MAX), format }
    }

    /// The difference, in the family of the first one unless that is 0.
    #[must_use]
    pub fn minus(self, other: Quantity) -> Self {
        self.plus(Quantity { nano: -other.nano, format: other.format })
    }
}

/// A suffix's factor: a power of ten or of two.
enum Factor {
    Ten(i32),
    Two(u32),
}

fn read_suffix(suffix: &str) -> Result<(Format, Factor), ParseError> {
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::DecimalSi, Factor::Ten(*power)));
    }
    if let Some((_, power)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::BinarySi, Factor::Two(*power)));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
    let power = exponent.parse::<i32>().map_err(|_| ParseError::Suffix)?;
    Ok((Format::DecimalExponent, Factor::Ten(power)))
}

/// The number `whole.fraction` times the factor in steps, rounded up, at most [`MAX`].
fn scale(whole: &str, fraction: &str, factor: Factor) -> i128 {
    let mut mantissa: i128 = 0;
    let mut shift: i32 = 0;
    let digits =
        whole.trim_start_matches('0').bytes().map(|b| (b, 0)).chain(fraction.bytes().map(|b| (b, -1)));
    let mut lost = false;
    for (digit, step) in digits {
        // 30 digits are more than any number within bounds needs; the rest can only round it up.
        if mantissa >= 10i128.pow(29) {
            lost |= digit != b'0';
            shift += 1 + step;
            continue;
        }
        mantissa = mantissa * 10 + i128::from(digit - b'0');
        shift += step;
    }
    if lost {
        mantissa += 1;
    }
    if mantissa == 0 {
        return 0;
    }
    let (two, ten) = match factor {
        Factor::Ten(power) => (0, power),
        Factor::Two(power) => (power, 0),
    };
    shift_by(mantissa, two, shift.saturating_add(ten).saturating_add(9))
}

/// `mantissa · 2^two · 10^ten`, rounded up, at most [`MAX`]. `mantissa` is above 0.
fn shift_by(mantissa: i128, two: u32, ten: i32) -> i128 {
    if ten >= 0 {
        return 10i128
            .checked_pow(ten.unsigned_abs())
            .and_then(|p| mantissa.checked_mul(p))
            .and_then(|m| m.checked_mul(1i128 << two))
            .map_or(MAX, |m| m.min(MAX));
    }
    let mut divisor = ten.unsigned_abs();
    let mut mantissa = mantissa;
    // Halve the divisor's twos first, so that the product below stays in range.
    while divisor > 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        divisor -= 1;
    }
    let Some(divisor) = 10i128.checked_pow(divisor) else { return 1 };
    match mantissa.checked_mul(1i128 << two) {
        Some(product) => divide_up(product, divisor).min(MAX),
        None => divide_up(mantissa, divisor).checked_mul(1i128 << two).map_or(MAX, |m| m.min(MAX)),
    }
}

/// Division by a positive number, rounded away from zero.
fn divide_up(number: i128, by: i128) -> i128 {
    let quotient = number / by;
    match number % by {
        0 => quotient,
        rest => quotient + rest.signum(),
    }
}

fn narrow(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        // What is no whole number of bytes would lose its fraction, as 1.6Gi would.
        if self.format == Format::BinarySi && self.nano.abs() >= 1024 * NANO && self.is_whole() {
            let mut units = self.nano / NANO;
            let mut suffix = "";
            for (next, _) in BINARY {
                if units % 1024 != 0 {
                    break;
                }
                units /= 1024;
                suffix = next;
            }
            return write!(f, "{units}{suffix}");
        }
        let (mut number, mut power) = (self.nano, -9);
        while number % 1000 == 0 && power < 18 {
            number /= 1000;
            power += 3;
        }
        if self.format == Format::DecimalExponent {
            return if power == 0 { write!(f, "{number}") } else { write!(f, "{number}e{power}") };
        }
        let suffix = DECIMAL.iter().find(|(_, p)| *p == power).map_or("", |(s, _)| s);
        write!(f, "{number}{suffix}")
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Quantity::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}
