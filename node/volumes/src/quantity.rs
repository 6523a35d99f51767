//! Kubernetes quantities (`100m`, `1.5Gi`, `2e3`) as exact numbers.

/// Units in which quantities are exact here: a billionth.
const NANO: i128 = 1_000_000_000;

/// An amount in billionths. Quantities never need finer ones: upstream rounds them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Amount(i128);

impl Amount {
    /// One whole unit.
    pub const ONE: Amount = Amount(NANO);

    /// Reads a quantity; `None` if it is not one or is out of range.
    pub fn parse(text: &str) -> Option<Amount> {
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return None;
        }
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let (numerator, denominator) = factor(suffix)?;
        let denominator = denominator.checked_mul(10i128.checked_pow(fraction.len() as u32)?)?;
        let value = divide_up(digits.checked_mul(numerator)?.checked_mul(NANO)?, denominator);
        Some(Amount(if negative { -value } else { value }))
    }

    /// Whole units, rounded up.
    pub fn units(self) -> i128 {
        divide_up(self.0, NANO)
    }

    /// Thousandths, rounded up.
    pub fn thousandths(self) -> i128 {
        divide_up(self.0, NANO / 1000)
    }

    /// The sum; at the ends of the range it stays there.
    pub fn plus(self, other: Amount) -> Amount {
        Amount(self.0.saturating_add(other.0))
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// Division away from zero's lower side: the smallest whole number that is not less.
pub(crate) fn divide_up(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

/// What a suffix multiplies with, as a fraction.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    let decimal = |power| 10i128.checked_pow(power);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, decimal(9)?),
        "u" => (1, decimal(6)?),
        "m" => (1, decimal(3)?),
        "k" => (decimal(3)?, 1),
        "M" => (decimal(6)?, 1),
        "G" => (decimal(9)?, 1),
        "T" => (decimal(12)?, 1),
        "P" => (decimal(15)?, 1),
        "E" => (decimal(18)?, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            match power {
                0.. => (decimal(power.unsigned_abs())?, 1),
                _ => (1, decimal(power.unsigned_abs())?),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_quantities() {
        for (text, thousandths) in [
            ("0", 0),
            ("1", 1000),
            ("100m", 100),
            ("1.5", 1500),
            (".5", 500),
            ("0.0001", 1),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("2e3", 2_000_000),
            ("2E-1", 200),
            ("1E", 1_000_000_000_000_000_000_000),
            ("-1", -1000),
            ("1n", 1),
            ("12E", 12_000_000_000_000_000_000_000),
            ("64Mi", 67_108_864_000),
        ] {
            assert_eq!(Amount::parse(text).map(Amount::thousandths), Some(thousandths), "{text}");
        }
        for text in [
            "",
            "-",
            ".",
            "1.2.3",
            "Gi",
            "1 Gi",
            "1gi",
            "1e",
            "1e99",
            "0x10",
            "ä",
            "m",
            "1ZZ",
            &"9".repeat(39),
        ] {
            assert_eq!(Amount::parse(text), None, "{text}");
        }
    }

    #[test]
    fn rounds_up() {
        assert_eq!(Amount::parse("1500m").unwrap().units(), 2);
        assert_eq!(divide_up(-3, 2), -1);
    }
}
