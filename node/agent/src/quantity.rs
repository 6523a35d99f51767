//! Reads the API's resource quantities: a decimal number with a binary (`Mi`), decimal (`M`, `m`) or exponent (`e3`)
//! suffix, as in `k8s.io/apimachinery/pkg/api/resource`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const SUFFIXES: [(&str, i128); 13] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("", 1),
];
const NANO: i128 = 1_000_000_000;

/// The quantity in thousandths, rounded up; none if it is not one, is negative or does not fit.
pub(crate) fn milli(quantity: &Quantity) -> Option<u64> {
    u64::try_from(round_up(nano(&quantity.0)?, NANO / 1000)).ok()
}

/// The quantity in whole units (bytes), rounded up; none as for [`milli`].
pub(crate) fn value(quantity: &Quantity) -> Option<u64> {
    u64::try_from(round_up(nano(&quantity.0)?, NANO)).ok()
}

fn round_up(nano: i128, unit: i128) -> i128 {
    nano.div_euclid(unit) + i128::from(nano.rem_euclid(unit) != 0)
}

/// The quantity in thousand-millionths.
fn nano(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        _ => match suffix.strip_prefix(['e', 'E']).and_then(|e| e.parse::<i32>().ok()) {
            Some(exponent) => return scale(decimal(number)?, exponent),
            None => SUFFIXES.iter().find(|(name, _)| *name == suffix)?.1.checked_mul(NANO)?,
        },
    };
    let (digits, places) = decimal(number)?;
    digits.checked_mul(unit)?.checked_div(10i128.checked_pow(places)?)
}

fn scale((digits, places): (i128, u32), exponent: i32) -> Option<i128> {
    let shift = exponent.checked_add(9)?.checked_sub(i32::try_from(places).ok()?)?;
    let power = 10i128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 { digits.checked_mul(power) } else { Some(digits / power) }
}

/// Digits without the point, and how many of them are behind it.
fn decimal(number: &str) -> Option<(i128, u32)> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.starts_with(['+', '-']) || (whole.trim_start_matches(['+', '-']).is_empty() && part.is_empty()) {
        return None;
    }
    let digits = format!("{whole}{part}").parse().ok()?;
    Some((digits, u32::try_from(part.len()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let read = |text: &str| (milli(&Quantity(text.into())), value(&Quantity(text.into())));
        assert_eq!(read("100m"), (Some(100), Some(1)));
        assert_eq!(read("1.5"), (Some(1500), Some(2)));
        assert_eq!(read("64Mi").1, Some(64 << 20));
        assert_eq!(read("0.5Gi").1, Some(1 << 29));
        assert_eq!(read("1e3").1, Some(1000));
        assert_eq!(read("12E").1, Some(12_000_000_000_000_000_000));
        assert_eq!(read("1n"), (Some(1), Some(1)));
        for bad in
            ["", "m", "x", "1.2.3", "-1", "1ZZ", ".", "1e99", "99999999999999999999999999999999999999E"]
        {
            assert_eq!(read(bad), (None, None), "{bad}");
        }
    }
}
