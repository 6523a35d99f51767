//! Schedules in cron's form, checked as the library behind upstream's CronJobs does, in its words.

/// A field of a schedule.
struct Part {
    low: u32,
    high: u32,
    /// Names that stand for numbers from `low` on.
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Minute, hour, day of the month, month, day of the week.
const PARTS: [Part; 5] = [
    Part { low: 0, high: 59, names: &[] },
    Part { low: 0, high: 23, names: &[] },
    Part { low: 1, high: 31, names: &[] },
    Part { low: 1, high: 12, names: MONTHS },
    Part { low: 0, high: 6, names: DAYS },
];

const WORDS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Says what is wrong with a schedule.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    if schedule.starts_with('@') {
        return word(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != PARTS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    for (field, part) in fields.iter().zip(&PARTS) {
        for range in field.split(',').filter(|range| !range.is_empty()) {
            check_range(range, part)?;
        }
    }
    Ok(())
}

fn word(schedule: &str) -> Result<(), String> {
    if WORDS.contains(&schedule) {
        return Ok(());
    }
    let Some(span) = schedule.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {schedule}"));
    };
    if is_go_duration(span) {
        return Ok(());
    }
    Err(format!("failed to parse duration {schedule}: time: invalid duration {span:?}"))
}

/// Durations as Go writes them: `1h30m`.
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        if digits.len() == rest.len() || rest.starts_with("..") {
            return false;
        }
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"].into_iter().filter(|u| digits.starts_with(u));
        let Some(unit) = unit.max_by_key(|u| u.len()) else { return false };
        rest = &digits[unit.len()..];
        parts += 1;
    }
    parts > 0
}

/// `*`, `?`, `a`, `a-b`, each with `/step`.
fn check_range(range: &str, part: &Part) -> Result<(), String> {
    let mut halves = range.split('/');
    let (span, step) = (halves.next().unwrap_or_default(), halves.next());
    if halves.next().is_some() {
        return Err(format!("too many slashes: {range}"));
    }
    let mut ends = span.split('-');
    let (first, last) = (ends.next().unwrap_or_default(), ends.next());
    let (from, to) = if matches!(first, "*" | "?") {
        (part.low, part.high)
    } else {
        if ends.next().is_some() {
            return Err(format!("too many hyphens: {range}"));
        }
        let from = number_or_name(first, part)?;
        let to = match (last, step) {
            (Some(last), _) => number_or_name(last, part)?,
            (None, Some(_)) => part.high,
            (None, None) => from,
        };
        (from, to)
    };
    let every = step.map_or(Ok(1), number)?;
    if from < part.low {
        return Err(format!("beginning of range ({from}) below minimum ({}): {range}", part.low));
    }
    if to > part.high {
        return Err(format!("end of range ({to}) above maximum ({}): {range}", part.high));
    }
    if from > to {
        return Err(format!("beginning of range ({from}) beyond end of range ({to}): {range}"));
    }
    if every == 0 {
        return Err(format!("step of range should be a positive number: {range}"));
    }
    Ok(())
}

fn number_or_name(text: &str, part: &Part) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match part.names.iter().zip(part.low..).find(|(name, _)| **name == lower) {
        Some((_, number)) => Ok(number),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_that_are_some() {
        for good in
            ["* * * * *", "*/5 0-3,9 ? JAN-mar sun", "0 0 1 1 6", "@hourly", "@every 1h30m", "5/15 * * * *"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn schedules_that_are_none() {
        let cases = [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("5-2 * * * *", "beginning of range (5) beyond end of range (2): 5-2"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("@often", "unrecognized descriptor: @often"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
        ];
        for (bad, why) in cases {
            assert_eq!(check(bad), Err(why.to_owned()), "{bad}");
        }
    }
}
