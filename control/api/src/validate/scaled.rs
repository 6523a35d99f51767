//! Counts that are numbers or percentages.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Errors, not_negative, refuse};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// The number of a count or a percentage, after noting what is wrong with it.
pub(crate) fn int_or_percent(value: &IntOrString, path: &FieldPath, errors: &mut Errors) -> Option<i64> {
    match value {
        IntOrString::Int(number) => {
            not_negative(path, i64::from(*number), errors);
            Some(i64::from(*number))
        }
        IntOrString::String(text) => {
            let wrong = names::percent(text);
            let valid = wrong.is_empty();
            refuse(path, text, wrong, errors);
            if valid { text.trim_end_matches('%').parse().ok() } else { None }
        }
    }
}

/// The same, where a percentage is of a whole that cannot be exceeded.
pub(crate) fn part_of_whole(value: &IntOrString, path: &FieldPath, errors: &mut Errors) -> Option<i64> {
    let number = int_or_percent(value, path, errors);
    not_over_whole(value, number, path, errors);
    number
}

/// A percentage that was read as `number` and is of a whole.
pub(crate) fn not_over_whole(
    value: &IntOrString,
    number: Option<i64>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    if let (IntOrString::String(text), Some(percent)) = (value, number)
        && percent > 100
    {
        errors.push(FieldError::invalid(path, text.as_str(), "must not be greater than 100%"));
    }
}
