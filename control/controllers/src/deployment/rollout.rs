//! The two strategies: replacing pods step by step within surge and unavailable, or all old ones before any new.

use super::numbers;
use super::round::{Index, Round};

impl Round<'_> {
    /// One step of a rolling update: the new set up if there is room, else the old ones down as far as enough pods
    /// stay available. Returns whether sizes changed.
    pub(super) fn roll(&mut self) -> bool {
        self.grow_new() || self.shrink_old()
    }

    fn grow_new(&mut self) -> bool {
        let Some(new) = self.new else { return false };
        let wanted = numbers::replicas(self.deployment);
        let size = self.sets[new].replicas;
        let target = if size >= wanted { wanted } else { self.new_size(new) };
        if target == size {
            return false;
        }
        self.resize(new, target);
        true
    }

    /// How many pods the new set may have now.
    pub(super) fn new_size(&self, new: Index) -> i32 {
        let wanted = numbers::replicas(self.deployment);
        if numbers::recreates(self.deployment) {
            return wanted;
        }
        let size = self.sets[new].replicas;
        let room = wanted + numbers::max_surge(self.deployment) - self.total();
        size + room.min(wanted - size).max(0)
    }

    fn shrink_old(&mut self) -> bool {
        let old = self.old();
        if old.iter().all(|i| self.sets[*i].replicas == 0) {
            return false;
        }
        let wanted = numbers::replicas(self.deployment);
        let needed = wanted - numbers::max_unavailable(self.deployment);
        let new_unavailable =
            self.new.map_or(0, |new| self.sets[new].replicas - self.sets[new].available()).max(0);
        let spare = self.total() - needed - new_unavailable;
        if spare <= 0 {
            self.plan.note(format!(
                "old pods stay: {needed} must be available and {new_unavailable} new ones are not yet"
            ));
            return false;
        }
        let sick = self.drop_unhealthy(&old, spare);
        let well = self.drop_available(&old, needed);
        sick || well
    }

    /// Old pods that are not available go first: they serve nobody.
    fn drop_unhealthy(&mut self, old: &[Index], spare: i32) -> bool {
        let mut left = spare;
        for &index in old {
            let set = &self.sets[index];
            let unhealthy = (set.replicas - set.available()).clamp(0, left);
            if unhealthy > 0 {
                left -= unhealthy;
                let size = set.replicas - unhealthy;
                self.resize(index, size);
            }
        }
        left < spare
    }

    /// Then as many as are available beyond what is needed.
    fn drop_available(&mut self, old: &[Index], needed: i32) -> bool {
        let available: i32 = self.sets.iter().map(super::round::Set::available).sum();
        let mut left = (available - needed).max(0);
        let budget = left;
        for &index in old {
            let size = self.sets[index].replicas;
            let fewer = size.min(left);
            if fewer > 0 {
                left -= fewer;
                self.resize(index, size - fewer);
            }
        }
        left < budget
    }

    /// One step of Recreate. Returns whether sizes changed.
    pub(super) fn recreate(&mut self) -> Result<bool, ()> {
        let old: Vec<Index> = self.old().into_iter().filter(|i| self.sets[*i].replicas > 0).collect();
        if !old.is_empty() {
            for index in old {
                self.resize(index, 0);
            }
            return Ok(true);
        }
        if self.old_pods_run() {
            self.plan.note("old pods are still running");
            return Ok(false);
        }
        if self.new.is_none() {
            self.create_current()?;
        }
        Ok(self.grow_new())
    }

    fn old_pods_run(&self) -> bool {
        if self.old().into_iter().any(|i| self.sets[i].actual() > 0) {
            return true;
        }
        let new = self.new.and_then(|i| self.sets[i].object.metadata.uid.as_ref());
        self.snapshot.pods.iter().any(|pod| {
            let owner = crate::owner::controller_of(&pod.metadata).map(|o| &o.uid);
            owner.is_some() && owner != new && !pod.ended()
        })
    }

    /// Drops old sets that are over and beyond the history that shall be kept.
    pub(super) fn forget_history(&mut self) {
        let Some(limit) = self.deployment.spec.as_ref().and_then(|s| s.revision_history_limit) else {
            return;
        };
        let limit = usize::try_from(limit).unwrap_or(0);
        let mut old: Vec<Index> = self.old();
        old.retain(|i| self.sets[*i].object.metadata.deletion_timestamp.is_none());
        let Some(surplus) = old.len().checked_sub(limit) else { return };
        old.sort_by_key(|i| (self.sets[*i].revision(), *i));
        for index in old.into_iter().take(surplus) {
            let set = &self.sets[index];
            let meta = &set.object.metadata;
            let observed = set.object.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
            let busy = set.actual() != 0 || set.replicas != 0 || meta.generation.unwrap_or(0) > observed;
            if !busy {
                self.sets[index].dropped = true;
            }
        }
    }
}
