//! NodeAffinity: node selectors, required terms (any of them), preferred terms by weight.

use crate::bits::Bits;
use crate::framework::{BEST, Candidates, Plugin, Point, PreFilter};
use crate::pod::PodInfo;
use crate::table::{Row, Table};

/// Compares what a pod says of nodes with their labels.
#[derive(Debug)]
pub struct NodeAffinity;

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score, Point::NormalizeScore]
    }

    fn pre_filter(&self, pod: &PodInfo, _table: &Table) -> PreFilter {
        if pod.selector.is_empty() && pod.required.is_none() { PreFilter::Skip } else { PreFilter::Filter }
    }

    fn filter(&self, pod: &PodInfo, table: &Table, candidates: &mut Candidates) {
        let mut nodes = table.selected(&pod.selector);
        if let Some(required) = &pod.required {
            let mut any = Bits::empty(table.rows());
            required.node_selector_terms.iter().for_each(|term| any.add(&table.matching(term)));
            nodes.keep(&any);
        }
        candidates.retain(&nodes, REASON);
    }

    fn admits(&self, pod: &PodInfo, table: &Table, row: Row) -> bool {
        let required = pod.required.as_ref();
        table.is_selected(&pod.selector, row)
            && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| table.matches(term, row)))
    }

    fn pre_score(&self, pod: &PodInfo, _table: &Table) -> bool {
        !pod.preferred.is_empty()
    }

    fn score(&self, pod: &PodInfo, table: &Table, rows: &[Row], scores: &mut [i64]) {
        for preferred in pod.preferred.iter().filter(|p| p.weight != 0) {
            let nodes = table.matching(&preferred.preference);
            for (row, score) in rows.iter().zip(&mut *scores) {
                if nodes.contains(*row) {
                    *score += i64::from(preferred.weight);
                }
            }
        }
    }

    fn normalize(&self, scores: &mut [i64]) {
        let most = scores.iter().copied().max().unwrap_or(0);
        if most > 0 {
            scores.iter_mut().for_each(|score| *score = *score * BEST / most);
        }
    }
}
