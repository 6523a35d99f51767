//! Indexes of jobs as texts tell of them: `1,3-5,7`.

/// How many indexes `text` names, all of them below `completions` and each larger than the one before it.
pub(super) fn count(text: &str, completions: i32) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = limits(interval, i64::from(completions))?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(falling(last, first));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn falling(previous: i64, current: i64) -> String {
    format!("non-increasing order, previous: {previous}, current: {current}")
}

fn limits(interval: &str, completions: i64) -> Result<(i64, i64), String> {
    let parts: Vec<&str> = interval.split('-').collect();
    if parts.len() > 2 {
        return Err(format!(
            "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let number = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(number) if number >= completions => Err(format!("too large index: {text:?}")),
        Ok(number) => Ok(number),
    };
    let first = number(parts[0])?;
    let Some(end) = parts.get(1) else { return Ok((first, first)) };
    let end = number(end)?;
    if first >= end { Err(falling(first, end)) } else { Ok((first, end)) }
}

/// The first index that both texts name, each of them in rising order. Parts that cannot be read are passed over.
pub(super) fn shared(a: &str, b: &str, completions: i32) -> Option<i64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let read = |part: &str| limits(part, i64::from(completions)).ok();
    let (mut left, mut right) = (a.split(',').filter_map(read), b.split(',').filter_map(read));
    let (mut x, mut y) = (left.next()?, right.next()?);
    loop {
        if x.0 <= y.1 && y.0 <= x.1 {
            return Some(x.0.max(y.0));
        }
        if x.0 <= y.0 {
            x = left.next()?;
        } else {
            y = right.next()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted() {
        assert_eq!(count("", 3), Ok(0));
        assert_eq!(count("1,3-5,7", 8), Ok(5));
    }

    #[test]
    fn texts_that_are_none_are_told_of() {
        let why = |text| count(text, 8).unwrap_err();
        assert!(why("1-2-3").starts_with("the fragment \"1-2-3\" violates"));
        assert_eq!(why("1,"), "cannot convert string to integer for index: \"\"");
        assert_eq!(why("1-8"), "too large index: \"8\"");
        assert_eq!(why("3-3"), "non-increasing order, previous: 3, current: 3");
        assert_eq!(why("1-3,2"), "non-increasing order, previous: 3, current: 2");
    }

    #[test]
    fn what_two_texts_share_is_found() {
        assert_eq!(shared("0-3,5", "4,6-8", 9), None);
        assert_eq!(shared("0-3,5", "4,5-8", 9), Some(5));
        assert_eq!(shared("0,x,5", "y,3-6", 9), Some(5));
        assert_eq!(shared("", "1", 9), None);
    }
}
