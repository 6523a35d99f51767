//! TaintToleration: a pod stays off nodes whose taints it does not endure, and prefers those with fewer that it would
//! rather avoid.

use k8s_openapi::api::core::v1::Taint;

use crate::bits::Bits;
use crate::framework::{BEST, Candidates, Plugin, Point};
use crate::pod::PodInfo;
use crate::table::{Row, Table, tolerates};

/// Compares tolerations with taints.
#[derive(Debug)]
pub struct TaintToleration;

/// The first taint of a set that keeps the pod away.
fn obstacle<'a>(pod: &PodInfo, taints: &'a [Taint]) -> Option<&'a Taint> {
    taints.iter().find(|taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && !tolerates(&pod.tolerations, taint)
    })
}

/// How many taints of a set the pod would rather avoid.
fn dislikes(pod: &PodInfo, taints: &[Taint]) -> i64 {
    let prefer = taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    i64::try_from(prefer.filter(|taint| !tolerates(&pod.tolerations, taint)).count()).unwrap_or(i64::MAX)
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PreScore, Point::Score, Point::NormalizeScore]
    }

    fn filter(&self, pod: &PodInfo, table: &Table, candidates: &mut Candidates) {
        if table.taints.none() {
            return;
        }
        for (number, taints) in table.taints.sets().enumerate() {
            let Some(taint) = obstacle(pod, taints) else { continue };
            let nodes: Bits = candidates.left.iter().filter(|row| table.taints.of(*row) == number).collect();
            let value = taint.value.as_deref().unwrap_or_default();
            let reason = format!("node(s) had untolerated taint {{{}: {value}}}", taint.key);
            candidates.reject(&nodes, reason, false);
        }
    }

    fn admits(&self, pod: &PodInfo, table: &Table, row: Row) -> bool {
        obstacle(pod, table.taints.taints(row)).is_none()
    }

    fn pre_score(&self, _pod: &PodInfo, table: &Table) -> bool {
        // Without taints to avoid every node gets the same.
        table.taints.sets().flatten().any(|taint| taint.effect == "PreferNoSchedule")
    }

    fn score(&self, pod: &PodInfo, table: &Table, rows: &[Row], scores: &mut [i64]) {
        let by_set: Vec<i64> = table.taints.sets().map(|taints| dislikes(pod, taints)).collect();
        for (row, score) in rows.iter().zip(scores) {
            *score = by_set[table.taints.of(*row)];
        }
    }

    fn normalize(&self, scores: &mut [i64]) {
        let most = scores.iter().copied().max().unwrap_or(0);
        for score in scores {
            *score = if most == 0 { BEST } else { BEST - *score * BEST / most };
        }
    }
}
