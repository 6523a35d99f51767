//! Taints of nodes. Most nodes share one of few sets of taints, so that a pod is compared with each set once.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::Row;

/// The sets of taints, and which node has which.
#[derive(Clone, Debug)]
pub struct TaintSets {
    /// Distinct sets; the first one is empty. Sets that no node has any more are used again.
    sets: Vec<(Vec<Taint>, u32)>,
    of: Vec<u32>,
}

impl Default for TaintSets {
    fn default() -> Self {
        Self { sets: vec![(Vec::new(), 0)], of: Vec::new() }
    }
}

impl TaintSets {
    /// Gives a node its taints; says whether they changed.
    pub(super) fn set(&mut self, row: Row, taints: &[Taint]) -> bool {
        let at = row as usize;
        if self.of.len() <= at {
            self.of.resize(at + 1, 0);
        }
        // When a taint was added does not matter here.
        let mut taints: Vec<Taint> = taints.iter().map(|t| Taint { time_added: None, ..t.clone() }).collect();
        taints.sort_by(|a, b| (&a.key, &a.effect).cmp(&(&b.key, &b.effect)));
        let before = self.of[at] as usize;
        if self.sets[before].0 == taints {
            return false;
        }
        self.sets[before].1 = self.sets[before].1.saturating_sub(1);
        let same = self.sets.iter().position(|(set, _)| *set == taints);
        let unused = self.sets.iter().skip(1).position(|(_, users)| *users == 0).map(|i| i + 1);
        let index = match (same, unused) {
            (Some(same), _) => same,
            (None, Some(unused)) => {
                self.sets[unused].0 = taints;
                unused
            }
            (None, None) => {
                self.sets.push((taints, 0));
                self.sets.len() - 1
            }
        };
        self.sets[index].1 += 1;
        self.of[at] = u32::try_from(index).unwrap_or(0);
        true
    }

    /// Every set, also those that no node has.
    pub fn sets(&self) -> impl Iterator<Item = &[Taint]> {
        self.sets.iter().map(|(set, _)| set.as_slice())
    }

    /// The number of a node's set, as [`TaintSets::sets`] counts.
    #[must_use]
    pub fn of(&self, row: Row) -> usize {
        self.of.get(row as usize).map_or(0, |set| *set as usize)
    }

    /// The taints of a node.
    #[must_use]
    pub fn taints(&self, row: Row) -> &[Taint] {
        &self.sets[self.of(row)].0
    }

    /// Whether no node has a taint.
    #[must_use]
    pub fn none(&self) -> bool {
        self.sets.iter().skip(1).all(|(_, users)| *users == 0)
    }
}

/// Whether one of `tolerations` fits a taint.
#[must_use]
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| fits(toleration, taint))
}

fn fits(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |field: &Option<String>| field.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    let key = given(&toleration.key);
    let same_effect = given(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let same_key = key.as_ref().is_none_or(|key| *key == taint.key);
    if !same_effect || !same_key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("") {
        "Exists" => true,
        "" | "Equal" => {
            key.is_some() && toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or("")
        }
        _ => false,
    }
}
