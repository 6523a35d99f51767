//! Removes images that nobody uses when the disk fills up, by the kubelet's thresholds: from 85 % on, until it is at
//! 80 %, the least recently used first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use carrack_images::Image;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use tokio::task::block_in_place;

use crate::errors::chain;
use crate::manager::Pods;
use crate::shared::Shared;

/// `imageGCHighThresholdPercent` and `imageGCLowThresholdPercent`.
const HIGH_PERCENT: u64 = 85;
const LOW_PERCENT: u64 = 80;
/// `imageMinimumGCAge`: what was used or came a moment ago is likely needed.
const MIN_AGE: SignedDuration = SignedDuration::from_mins(2);
/// How often the disk is looked at; the kernel has no event for a disk that fills up.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// When each image was last used, or first seen. Kept in memory: after a restart all images are young again.
#[derive(Default)]
pub(crate) struct Uses(Mutex<HashMap<String, Timestamp>>);

impl Uses {
    /// Somebody is about to use an image.
    pub(crate) fn touch(&self, id: &str) {
        self.0.lock().insert(id.to_owned(), Timestamp::now());
    }

    /// Takes in what is there and what is in use now; answers when each image was used last.
    fn update(
        &self,
        images: &[Image],
        in_use: &HashSet<String>,
        now: Timestamp,
    ) -> HashMap<String, Timestamp> {
        let mut uses = self.0.lock();
        uses.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let at = uses.entry(image.id.clone()).or_insert(now);
            if in_use.contains(&image.id) {
                *at = now;
            }
        }
        uses.clone()
    }
}

/// How many bytes have to be freed on a disk, if it is too full.
fn excess(capacity: u64, available: u64) -> Option<u64> {
    let (capacity, available) = (u128::from(capacity), u128::from(available));
    let used = capacity.checked_sub(available)?;
    if capacity == 0 || used * 100 < capacity * u128::from(HIGH_PERCENT) {
        return None;
    }
    let wanted = capacity * u128::from(100 - LOW_PERCENT) / 100;
    u64::try_from(wanted.saturating_sub(available)).ok()
}

/// The images that may go, the least recently used first: not in use, and not used for a while.
fn candidates<'a>(
    images: &'a [Image],
    in_use: &HashSet<String>,
    last_used: &HashMap<String, Timestamp>,
    now: Timestamp,
) -> Vec<&'a Image> {
    let at = |image: &Image| last_used.get(&image.id).copied().unwrap_or(now);
    let idle = |image: &&Image| !in_use.contains(&image.id) && now.duration_since(at(image)) >= MIN_AGE;
    let mut idle: Vec<&Image> = images.iter().filter(idle).collect();
    idle.sort_by_key(|image| (at(image), image.id.clone()));
    idle
}

/// Watches over the disk for ever.
pub(crate) async fn run(shared: Arc<Shared>, pods: Pods) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        block_in_place(|| collect(&shared, &pods));
    }
}

fn collect(shared: &Shared, pods: &Pods) {
    let now = Timestamp::now();
    let (images, in_use) = (shared.images.list(), pods.images_in_use());
    let last_used = shared.image_uses.update(&images, &in_use, now);
    let Some(wanted) = disk_excess(shared) else { return };
    let mut freed = 0;
    for image in candidates(&images, &in_use, &last_used, now) {
        if freed >= wanted {
            break;
        }
        match shared.images.remove(&image.id) {
            Ok(bytes) => {
                tracing::info!(image = image.id, names = ?image.references, bytes, "an unused image was removed");
                freed += bytes;
            }
            Err(error) => tracing::warn!(image = image.id, error = chain(&error), "an image was not removed"),
        }
    }
    if freed < wanted {
        let note = format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
        );
        shared.events.warning(&node(&shared.options.node_name), "FreeDiskSpaceFailed", note);
    }
}

fn disk_excess(shared: &Shared) -> Option<u64> {
    match nix::sys::statvfs::statvfs(&shared.options.place.image_dir()) {
        Ok(disk) => {
            let unit = disk.fragment_size();
            excess(disk.blocks() * unit, disk.blocks_available() * unit)
        }
        Err(error) => {
            tracing::warn!(%error, "the disk with the images was not measured");
            None
        }
    }
}

fn node(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        // As the kubelet does: `kubectl describe node` looks for events by this.
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str) -> Image {
        let config = carrack_images::ImageConfig::default();
        Image { id: id.to_owned(), references: Vec::new(), digests: Vec::new(), size: 1, config }
    }

    #[test]
    fn a_full_disk_is_brought_to_the_low_threshold() {
        assert_eq!(excess(1000, 151), None);
        assert_eq!(excess(1000, 150), Some(50));
        assert_eq!(excess(1000, 0), Some(200));
        assert_eq!(excess(0, 0), None);
        assert_eq!(excess(u64::MAX, 0), Some(u64::MAX / 5));
    }

    #[test]
    fn the_least_recently_used_go_first_and_young_or_used_ones_stay() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let images = ["a", "b", "used", "young", "new"].map(image);
        let in_use = HashSet::from(["used".to_owned()]);
        let uses = Uses::default();
        uses.0.lock().extend([
            ("a".to_owned(), at(20)),
            ("b".to_owned(), at(10)),
            ("used".to_owned(), at(0)),
            ("young".to_owned(), at(900)),
            ("gone".to_owned(), at(0)),
        ]);
        let now = at(1000);
        let last = uses.update(&images, &in_use, now);
        assert_eq!((last.get("used"), last.get("new"), last.get("gone")), (Some(&now), Some(&now), None));
        let ids: Vec<&str> = candidates(&images, &in_use, &last, now).iter().map(|i| i.id.as_str()).collect();
        assert_eq!(ids, ["b", "a"]);
        let later = at(1120);
        let ids: Vec<&str> =
            candidates(&images, &HashSet::new(), &last, later).iter().map(|i| i.id.as_str()).collect();
        assert_eq!(ids, ["b", "a", "young", "new", "used"]);
    }
}
