//! DefaultPreemption: for now it says whether other pods' leaving would help; evicting them is not built yet.

use crate::bits::Bits;
use crate::framework::{Candidates, Plugin, Point, PostFilter};
use crate::pod::PodInfo;
use crate::table::Table;

/// Speaks when no node is left.
#[derive(Debug)]
pub struct DefaultPreemption;

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PostFilter]
    }

    fn post_filter(&self, pod: &PodInfo, table: &Table, candidates: &Candidates) -> Option<PostFilter> {
        if !pod.preempts {
            return Some(PostFilter {
                message: "preemption: not eligible due to preemptionPolicy=Never.".into(),
            });
        }
        let nodes = table.nodes();
        let (mut resolvable, mut hopeless) = (Bits::empty(table.rows()), Bits::empty(table.rows()));
        for rejection in candidates.rejections() {
            let nodes = if rejection.resolvable { &mut resolvable } else { &mut hopeless };
            nodes.add(&rejection.nodes);
        }
        // A node may lack two things of which it could get only one.
        resolvable.subtract(&hopeless);
        let with_victims = resolvable.iter().filter(|row| table.has_lower(*row, pod.usage.priority)).count();
        let resolvable = resolvable.count();
        let victims = u32::try_from(with_victims).unwrap_or(resolvable);
        let counts = [
            (nodes - resolvable.min(nodes), "Preemption is not helpful for scheduling"),
            (resolvable - victims, "No preemption victims found for incoming pod"),
            (victims, "Preemption of lower-priority pods is not supported yet"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let mut texts: Vec<String> = counts.map(|(count, text)| format!("{count} {text}")).collect();
        texts.sort();
        let message = format!("preemption: 0/{nodes} nodes are available: {}.", texts.join(", "));
        Some(PostFilter { message })
    }
}
