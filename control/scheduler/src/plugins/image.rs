//! ImageLocality: a node that has the pod's images starts it sooner.

use crate::framework::{BEST, Plugin, Point};
use crate::pod::PodInfo;
use crate::table::{Row, Table};

/// Images below this size are pulled quickly anyway …
const SMALL: i64 = 23 * 1024 * 1024;
/// … and beyond this size for each container more makes no difference.
const LARGE: i64 = 1000 * 1024 * 1024;

/// Prefers nodes that have the pod's images.
#[derive(Debug)]
pub struct ImageLocality;

/// The name with a tag, as nodes report it.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || image.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }

    fn pre_score(&self, pod: &PodInfo, table: &Table) -> bool {
        pod.images.iter().any(|image| table.images.contains_key(&tagged(image)))
    }

    fn score(&self, pod: &PodInfo, table: &Table, rows: &[Row], scores: &mut [i64]) {
        let total = i64::from(table.nodes()).max(1);
        for image in &pod.images {
            let Some((size, nodes)) = table.images.get(&tagged(image)) else { continue };
            // An image that few nodes have counts less, so that those few are not overrun.
            let value = size.saturating_mul(i64::from(nodes.count())) / total;
            for (row, score) in rows.iter().zip(&mut *scores) {
                if nodes.contains(*row) {
                    *score += value;
                }
            }
        }
        let most = LARGE * i64::try_from(pod.images.len()).unwrap_or(1).max(1);
        for score in scores {
            let size = (*score).clamp(SMALL, most);
            *score = BEST * (size - SMALL) / (most - SMALL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_a_tag_are_latest() {
        assert_eq!(tagged("localhost:5000/busybox"), "localhost:5000/busybox:latest");
        assert_eq!(tagged("busybox:1.36"), "busybox:1.36");
        assert_eq!(tagged("busybox@sha256:00"), "busybox@sha256:00");
    }
}
