//! Arithmetic with points in time.

use std::time::Duration;

use jiff::Timestamp;

/// How long after `earlier` is `now`; zero when it is before.
#[must_use]
pub(crate) fn since(now: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(earlier)).unwrap_or(Duration::ZERO)
}

/// How long until `start + wait`; `None` when that is over.
#[must_use]
pub(crate) fn left(now: Timestamp, start: Timestamp, wait: Duration) -> Option<Duration> {
    wait.checked_sub(since(now, start)).filter(|left| !left.is_zero())
}
