//! How the server's seats are shared among priority levels: each has nominal ones by its shares, lends some that it
//! does not need, and borrows from others what it does. Pure; the rules are upstream's.

use std::time::Duration;

/// How fast a past demand is forgotten, in one round of [`ADJUST_EVERY`]: half of it in about five minutes.
const DECAY: f64 = 0.977;
/// How often the limits are adjusted.
pub(super) const ADJUST_EVERY: Duration = Duration::from_secs(10);

/// What a level has by its configuration, in seats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bounds {
    pub(super) nominal: f64,
    /// What it keeps whatever others need.
    pub(super) lower: f64,
    /// What it gets at most.
    pub(super) upper: f64,
}

impl Bounds {
    /// Of `total` seats the part of a level with `shares` of `all` shares. Percentages are of its nominal seats;
    /// without one for borrowing there is no bound.
    pub(super) fn new(total: u32, shares: i32, all: i64, lendable: i32, borrowing: Option<i32>) -> Self {
        if all <= 0 || shares <= 0 {
            return Bounds { nominal: 0.0, lower: 0.0, upper: 0.0 };
        }
        let total = f64::from(total);
        let nominal = (total * f64::from(shares) / all as f64).ceil();
        let percent = |p: i32| (nominal * f64::from(p) / 100.0).round();
        let upper = borrowing.map_or(total, |p| nominal + percent(p));
        Bounds { nominal, lower: nominal - percent(lendable), upper: upper.max(nominal) }
    }
}

/// The demand for seats over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Demand {
    current: f64,
    since: Duration,
    began: Duration,
    sum: f64,
    squares: f64,
    high: f64,
    smooth: f64,
}

impl Demand {
    /// From `now` on so many seats are wanted.
    pub(super) fn set(&mut self, now: Duration, seats: u32) {
        self.advance(now);
        self.current = f64::from(seats);
        self.high = self.high.max(self.current);
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since).as_secs_f64();
        self.since = self.since.max(now);
        self.sum += passed * self.current;
        self.squares += passed * self.current * self.current;
    }

    /// Ends a round: the highest demand in it, and the demand smoothed over rounds.
    pub(super) fn round(&mut self, now: Duration) -> Wanted {
        self.advance(now);
        let length = now.saturating_sub(self.began).as_secs_f64().max(f64::EPSILON);
        let mean = self.sum / length;
        let deviation = (self.squares / length - mean * mean).max(0.0).sqrt();
        let envelope = (mean + deviation).min(self.high);
        self.smooth = envelope.max(DECAY * self.smooth + (1.0 - DECAY) * envelope);
        let wanted = Wanted { high: self.high, smooth: self.smooth };
        (self.sum, self.squares, self.high, self.began) = (0.0, 0.0, self.current, now);
        wanted
    }
}

/// What a level wanted in a round, in seats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    pub(super) high: f64,
    pub(super) smooth: f64,
}

/// The seats of each level for the next round: in proportion to what it wanted, within its bounds.
pub(super) fn share(total: u32, levels: &[(Bounds, Wanted)]) -> Vec<u32> {
    let total = f64::from(total);
    // What a level is sure of: what it used of its nominal seats, and never less than it does not lend.
    let least: Vec<f64> = levels.iter().map(|(b, w)| b.lower.max(b.nominal.min(w.high))).collect();
    let target: Vec<f64> = levels.iter().zip(&least).map(|((_, w), l)| w.smooth.max(*l).max(1e-3)).collect();
    let at = |factor: f64| -> Vec<f64> {
        let parts = levels.iter().zip(least.iter().zip(&target));
        parts.map(|((b, _), (l, t))| (factor * t).clamp(*l, b.upper.max(*l))).collect()
    };
    // The sum grows with the factor; the one whose sum is the total is found by halving.
    let (mut low, mut high) = (0.0, total * 1e3 + 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if at(middle).iter().sum::<f64>() <= total { low = middle } else { high = middle }
    }
    at(low).iter().map(|seats| seats.round().max(0.0) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> Vec<Bounds> {
        // Upstream's levels and its 600 seats.
        let shares = [(30, 33), (40, 25), (10, 0), (40, 50), (100, 90), (20, 50), (5, 0)];
        shares.iter().map(|(shares, lends)| Bounds::new(600, *shares, 245, *lends, None)).collect()
    }

    #[test]
    fn nominal_seats_are_those_of_upstream() {
        let seats: Vec<(f64, f64)> = levels().iter().map(|b| (b.nominal, b.lower)).collect();
        let expected = [
            (74.0, 50.0),
            (98.0, 73.0),
            (25.0, 25.0),
            (98.0, 49.0),
            (245.0, 24.0),
            (49.0, 24.0),
            (13.0, 13.0),
        ];
        assert_eq!(seats, expected);
        assert_eq!(Bounds::new(600, 40, 245, 0, Some(50)).upper, 147.0);
    }

    #[test]
    fn who_needs_more_borrows_from_who_does_not() {
        let mut wanted = vec![Wanted::default(); 7];
        wanted[3] = Wanted { high: 400.0, smooth: 400.0 };
        let levels: Vec<_> = levels().into_iter().zip(wanted).collect();
        let seats = share(600, &levels);
        assert!(seats[3] > 330, "{seats:?}");
        assert!(seats[0] >= 50 && seats[4] >= 24, "nobody gets less than he does not lend: {seats:?}");
        assert!(seats.iter().sum::<u32>() <= 604, "{seats:?}");
    }

    #[test]
    fn all_at_their_limit_keep_their_nominal_seats() {
        let levels: Vec<_> = levels().into_iter().map(|b| (b, Wanted { high: 1e3, smooth: 1e3 })).collect();
        for ((bounds, _), seats) in levels.iter().zip(share(600, &levels)) {
            assert!((f64::from(seats) - bounds.nominal).abs() <= 1.0, "{bounds:?} {seats}");
        }
    }

    #[test]
    fn demand_is_smoothed_quickly_up_and_slowly_down() {
        let mut demand = Demand::default();
        let at = Duration::from_secs;
        demand.set(at(0), 10);
        assert_eq!(demand.round(at(10)), Wanted { high: 10.0, smooth: 10.0 });
        demand.set(at(10), 0);
        let after = demand.round(at(20));
        assert!(after.high == 10.0 && after.smooth > 9.7, "{after:?}");
        assert!(demand.round(at(30)).high == 0.0);
    }
}
