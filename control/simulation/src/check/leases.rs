//! Whether leases live as long as their holders were told.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::check::linear::Ended;
use crate::history::Revision;

/// What a holder of a lease did and was told. Times are since the start of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// A lease was granted, or its time was started anew; asked for at that time.
    Alive {
        /// The lease.
        lease: i64,
        /// How long it lives from then on.
        ttl: Duration,
        /// When it was asked for.
        asked: Duration,
    },
    /// The end of a lease was asked for.
    Revoked {
        /// The lease.
        lease: i64,
        /// When.
        asked: Duration,
    },
}

/// Checks that no lease ended before its time. `first_seen` says when each revision was first seen anywhere.
pub fn check(
    holdings: &[Holding],
    ended: &[Ended],
    first_seen: &BTreeMap<Revision, Duration>,
) -> Result<(), String> {
    for Ended { lease, revision } in ended {
        let Some(seen) = first_seen.get(revision).copied() else {
            return Err(format!("lease {lease} ended in revision {revision}, which nobody saw"));
        };
        let revoked = holdings.iter().any(
            |holding| matches!(holding, Holding::Revoked { lease: one, asked } if one == lease && *asked <= seen),
        );
        let until = holdings.iter().filter_map(|holding| match holding {
            Holding::Alive { lease: one, ttl, asked } if one == lease => Some(*asked + *ttl),
            Holding::Alive { .. } | Holding::Revoked { .. } => None,
        });
        if let Some(until) = until.max().filter(|until| seen < *until && !revoked) {
            return Err(format!(
                "lease {lease} ended at {seen:?} (revision {revision}), it lives until {until:?}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_may_end_late_or_by_request_but_not_early() {
        let second = Duration::from_secs;
        let alive = |asked| Holding::Alive { lease: 1, ttl: second(10), asked: second(asked) };
        let ended = [Ended { lease: 1, revision: 5 }];
        let seen = BTreeMap::from([(5, second(20))]);
        assert_eq!(check(&[alive(3), alive(10)], &ended, &seen), Ok(()));
        assert!(check(&[alive(3), alive(11)], &ended, &seen).is_err());
        let revoked = |asked| Holding::Revoked { lease: 1, asked: second(asked) };
        assert_eq!(check(&[alive(11), revoked(15)], &ended, &seen), Ok(()));
        assert!(check(&[alive(11), revoked(21)], &ended, &seen).is_err());
        assert!(check(&[], &ended, &BTreeMap::new()).is_err(), "nobody saw it");
    }
}
