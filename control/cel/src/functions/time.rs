//! The parts of moments and durations.

use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

use super::{Row, T};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::value::Value;

macro_rules! parts {
    ($(($name:literal, $part:expr)),* $(,)?) => {
        &[$(
            Row::member($name, &[T::Time], T::Int, |_, args| part(args, $part)),
            Row::member($name, &[T::Time, T::Str], T::Int, |_, args| part(args, $part)),
        )*
        Row::member("getHours", &[T::Span], T::Int, |meter, args| span(meter, args, 3_600_000_000_000)),
        Row::member("getMinutes", &[T::Span], T::Int, |meter, args| span(meter, args, 60_000_000_000)),
        Row::member("getSeconds", &[T::Span], T::Int, |meter, args| span(meter, args, 1_000_000_000)),
        Row::member("getMilliseconds", &[T::Span], T::Int, |meter, args| span(meter, args, 1_000_000))]
    };
}

pub(super) const ROWS: &[Row] = parts![
    ("getFullYear", |at| i64::from(at.year())),
    ("getMonth", |at| i64::from(at.month()) - 1),
    ("getDate", |at| i64::from(at.day())),
    ("getDayOfMonth", |at| i64::from(at.day()) - 1),
    ("getDayOfYear", |at| i64::from(at.day_of_year()) - 1),
    ("getDayOfWeek", |at| i64::from(at.weekday().to_sunday_zero_offset())),
    ("getHours", |at| i64::from(at.hour())),
    ("getMinutes", |at| i64::from(at.minute())),
    ("getSeconds", |at| i64::from(at.second())),
    ("getMilliseconds", |at| i64::from(at.millisecond())),
];

fn part<'a>(args: &[Value<'a>], part: fn(&Zoned) -> i64) -> Result<Value<'a>, EvalError> {
    let at = match args {
        [Value::Timestamp(when)] => when.to_zoned(TimeZone::UTC),
        [Value::Timestamp(when), Value::String(zone)] => local(*when, zone)?,
        _ => return Err(EvalError::NoSuchOverload),
    };
    Ok(Value::Int(part(&at)))
}

/// A moment at a place: the name of a zone, or an offset such as `-08:30`.
fn local(when: Timestamp, zone: &str) -> Result<Zoned, EvalError> {
    let zone = match offset(zone) {
        Some(seconds) => Offset::from_seconds(seconds).ok().map(TimeZone::fixed),
        None => TimeZone::get(zone).ok(),
    };
    zone.map(|zone| when.to_zoned(zone)).ok_or_else(|| EvalError::other("unknown time zone"))
}

fn offset(zone: &str) -> Option<i32> {
    let (hours, minutes) = zone.split_once(':')?;
    let negative = hours.starts_with('-');
    let hours: i32 = hours.trim_start_matches(['-', '+']).parse().ok().filter(|hours| *hours < 24)?;
    let minutes: i32 = minutes.parse().ok().filter(|minutes| (0..60).contains(minutes))?;
    let seconds = hours * 3600 + minutes * 60;
    Some(if negative { -seconds } else { seconds })
}

fn span<'a>(_: &mut Meter, args: &[Value<'a>], unit: i64) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / unit)),
        _ => Err(EvalError::NoSuchOverload),
    }
}
