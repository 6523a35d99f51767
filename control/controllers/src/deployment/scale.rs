//! A changed number of replicas in the middle of a rollout: every set grows or shrinks in proportion.

use super::numbers;
use super::revision::{DESIRED, MAX};
use super::round::{Index, Round};

impl Round<'_> {
    /// Whether the wanted number has changed since the sets were last sized.
    pub(super) fn scaling(&self) -> bool {
        let wanted = numbers::replicas(self.deployment);
        self.active().into_iter().any(|i| self.sets[i].annotated(DESIRED).is_some_and(|was| was != wanted))
    }

    /// Sizes the sets for the wanted number without rolling anything.
    pub(super) fn scale(&mut self) {
        let wanted = numbers::replicas(self.deployment);
        if let Some(only) = self.active_or_latest() {
            // Also when the size is right already: the annotations must say of what.
            self.resize(only, wanted);
            return;
        }
        if self.saturated() {
            for index in self.old() {
                if self.sets[index].replicas > 0 {
                    self.resize(index, 0);
                }
            }
            return;
        }
        if !numbers::recreates(self.deployment) {
            self.scale_in_proportion(wanted);
        }
    }

    /// The one set with pods or, when none has any, the newest.
    fn active_or_latest(&self) -> Option<Index> {
        match self.active().as_slice() {
            [] => self.new.or_else(|| self.old().last().copied()),
            [only] => Some(*only),
            _ => None,
        }
    }

    /// Whether the new set is complete and available.
    fn saturated(&self) -> bool {
        let wanted = numbers::replicas(self.deployment);
        self.new.is_some_and(|new| {
            let set = &self.sets[new];
            set.replicas == wanted && set.annotated(DESIRED) == Some(wanted) && set.available() == wanted
        })
    }

    fn scale_in_proportion(&mut self, wanted: i32) {
        let allowed = if wanted > 0 { wanted + numbers::max_surge(self.deployment) } else { 0 };
        let mut sets = self.active();
        let add = allowed - self.total();
        // The largest first; of equal ones the newer when growing and the older when shrinking.
        sets.sort_by_key(|i| {
            let age = if add > 0 { usize::MAX - *i } else { *i };
            (std::cmp::Reverse(self.sets[*i].replicas), age)
        });
        let mut added = 0;
        let mut sizes: Vec<i32> = Vec::with_capacity(sets.len());
        for &index in &sets {
            let share = self.share(index, add, added, allowed);
            added += share;
            sizes.push(self.sets[index].replicas + share);
        }
        // What rounding left over goes to the largest.
        if let Some(first) = sizes.first_mut() {
            *first = (*first + add - added).max(0);
        }
        for (index, size) in sets.into_iter().zip(sizes) {
            self.resize(index, size);
        }
    }

    /// A set's share of `add` pods, of which `added` are given out already.
    fn share(&self, index: Index, add: i32, added: i32, allowed: i32) -> i32 {
        let left = add - added;
        let size = self.sets[index].replicas;
        if size == 0 || left == 0 {
            return 0;
        }
        let fraction = self.fraction(index, size, allowed);
        if add > 0 { fraction.min(left) } else { fraction.max(left) }
    }

    /// How much the set would grow (or shrink, below 0) if it kept its part of the whole.
    fn fraction(&self, index: Index, size: i32, allowed: i32) -> i32 {
        if numbers::replicas(self.deployment) == 0 {
            return -size;
        }
        let status = self.deployment.status.as_ref().and_then(|s| s.replicas);
        let before = self.sets[index].annotated(MAX).filter(|n| *n > 0).or(status).unwrap_or(0);
        if before <= 0 {
            return 0;
        }
        let exact = f64::from(size) * f64::from(allowed) / f64::from(before);
        #[expect(clippy::cast_possible_truncation, reason = "a float to integer cast saturates")]
        let rounded = exact.round() as i32;
        rounded - size
    }
}
