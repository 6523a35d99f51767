//! Which backups are kept. Pure: names and times in, names out.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::name::Backup;

/// One line of the plan: of each stretch of time of length `every`, the first backup is kept for `keep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The stretch of time, counted from the epoch.
    pub every: Duration,
    /// How long after it was made a backup is kept because of this tier.
    pub keep: Duration,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// Every half hour for two days, daily for thirty days, weekly for twelve weeks.
pub const DEFAULT_TIERS: [Tier; 3] = [
    Tier { every: Duration::from_secs(30 * MINUTE), keep: Duration::from_secs(48 * HOUR) },
    Tier { every: Duration::from_secs(DAY), keep: Duration::from_secs(30 * DAY) },
    Tier { every: Duration::from_secs(WEEK), keep: Duration::from_secs(12 * WEEK) },
];

/// The backups that no tier needs at `now`. The newest one is always kept, and so is what seems to come from the
/// future: a clock that was wrong must not cost a backup.
pub fn expired<'a>(now: Timestamp, backups: &'a [Backup], tiers: &[Tier]) -> Vec<&'a Backup> {
    let mut ordered: Vec<&Backup> = backups.iter().collect();
    ordered.sort();
    let mut kept: BTreeSet<&Backup> = ordered.last().copied().into_iter().collect();
    for tier in tiers {
        let mut seen = BTreeSet::new();
        for backup in &ordered {
            let first = seen.insert(stretch(backup.at, tier.every));
            if first && age(now, backup.at) <= tier.keep {
                kept.insert(backup);
            }
        }
    }
    ordered.retain(|backup| !kept.contains(backup) && backup.at <= now);
    ordered
}

/// How long to wait at `now` until the next backup is due: the shortest stretch of any tier has no backup yet.
pub fn due_in(now: Timestamp, newest: Option<Timestamp>, tiers: &[Tier]) -> Duration {
    let Some(every) = tiers.iter().map(|tier| tier.every).min() else { return Duration::MAX };
    match newest {
        Some(newest) if stretch(newest, every) >= stretch(now, every) => {
            let next = (stretch(newest, every) + 1).saturating_mul(seconds(every));
            Duration::from_secs(u64::try_from(next - now.as_second()).unwrap_or(0))
        }
        _ => Duration::ZERO,
    }
}

/// The number of the stretch of time that `at` falls into.
fn stretch(at: Timestamp, every: Duration) -> i64 {
    at.as_second().div_euclid(seconds(every))
}

fn seconds(every: Duration) -> i64 {
    i64::try_from(every.as_secs()).unwrap_or(i64::MAX).max(1)
}

fn age(now: Timestamp, at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(now.as_second() - at.as_second()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Backup {
        Backup { at: Timestamp::from_second(seconds).unwrap(), revision: seconds }
    }

    /// A year of half-hourly backups, thinned out after each: what is left is what the tiers say.
    #[test]
    fn a_year_leaves_what_the_tiers_say() {
        let mut there: Vec<Backup> = Vec::new();
        let year = 365 * DAY as i64;
        for now in (0..=year).step_by(30 * MINUTE as usize) {
            there.push(at(now));
            let now = Timestamp::from_second(now).unwrap();
            let gone: Vec<Backup> = expired(now, &there, &DEFAULT_TIERS).into_iter().cloned().collect();
            there.retain(|backup| !gone.contains(backup));
        }
        let younger = |days: i64| there.iter().filter(|b| b.revision >= year - days * DAY as i64).count();
        assert_eq!(younger(2), 97, "two days of half hours, both ends included");
        assert_eq!(younger(30), 97 + 28, "and 28 days");
        let oldest = there.iter().map(|b| b.revision).min().unwrap();
        assert!(year - oldest <= 12 * WEEK as i64 && year - oldest > 11 * WEEK as i64);
        // Of the twelve weeks' backups, five are also those of a day of the last thirty.
        assert_eq!(there.len(), 97 + 28 + 7);
    }

    #[test]
    fn the_newest_is_kept_however_old() {
        let now = Timestamp::from_second(10 * 365 * DAY as i64).unwrap();
        let there = [at(0), at(100_000)];
        assert_eq!(expired(now, &there, &DEFAULT_TIERS), [&there[0]]);
    }

    #[test]
    fn a_clock_that_went_back_costs_nothing() {
        let now = Timestamp::from_second(1000).unwrap();
        let there = [at(500_000), at(500_001), at(500_002)];
        assert!(expired(now, &there, &DEFAULT_TIERS).is_empty());
    }

    #[test]
    fn the_next_is_due_with_the_next_half_hour() {
        let now = Timestamp::from_second(1800 + 60).unwrap();
        assert_eq!(due_in(now, None, &DEFAULT_TIERS), Duration::ZERO);
        assert_eq!(due_in(now, Some(Timestamp::from_second(1799).unwrap()), &DEFAULT_TIERS), Duration::ZERO);
        let done = Some(Timestamp::from_second(1800).unwrap());
        assert_eq!(due_in(now, done, &DEFAULT_TIERS), Duration::from_secs(1740));
    }

    proptest! {
        /// Thinning out twice is the same as once.
        #[test]
        fn nothing_more_expires_at_the_same_moment(times in prop::collection::vec(0..10_000_000i64, 0..200)) {
            let now = Timestamp::from_second(10_000_000).unwrap();
            let mut there: Vec<Backup> = times.into_iter().map(at).collect();
            there.sort();
            there.dedup();
            let gone: Vec<Backup> = expired(now, &there, &DEFAULT_TIERS).into_iter().cloned().collect();
            there.retain(|backup| !gone.contains(backup));
            prop_assert!(expired(now, &there, &DEFAULT_TIERS).is_empty());
        }
    }
}
