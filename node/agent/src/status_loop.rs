//! Posts the node's status when it changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ContainerImage, Node};
use kube::Api;

use crate::node::{Health, post_status};
use crate::pressure::Pressure;
use crate::shared::Shared;

/// How often pressure and images are looked at; the kernel has no event for a disk that fills up.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often the status is posted though nothing has changed, so that its heartbeats are not old: the kubelet's
/// `nodeStatusReportFrequency`.
const REPORT_EVERY: Duration = Duration::from_secs(300);
/// How many images the status names at the most, as with the kubelet.
const MAX_IMAGES: usize = 50;

/// Posts the node's status for ever: at once, when the network is ready, whenever it has changed, and now and then.
pub(crate) async fn run(shared: Arc<Shared>) {
    let api: Api<Node> = Api::all(shared.client.clone());
    let mut network = shared.network.clone();
    let mut posted: Option<(Health, Instant)> = None;
    loop {
        let health = health(&shared);
        let before = posted.as_ref().map(|(last, _)| last.pressure).unwrap_or_default();
        health.pressure.tell(before, &shared.options.place.data_dir);
        let known = posted.as_ref().is_some_and(|(last, at)| *last == health && at.elapsed() < REPORT_EVERY);
        if !known {
            match post_status(&api, &shared.options, &shared.machine, &health).await {
                Ok(_) => posted = Some((health, Instant::now())),
                Err(error) => tracing::warn!(%error, "the node's status was not taken"),
            }
        }
        tokio::select! {
            changed = network.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn health(shared: &Shared) -> Health {
    let not_ready = match *shared.network.borrow() {
        Some(_) => None,
        None => Some("the network is not ready: the node has no podCIDR yet".to_owned()),
    };
    Health { not_ready, images: images(shared), pressure: pressure(shared) }
}

fn pressure(shared: &Shared) -> Pressure {
    let options = &shared.options;
    Pressure::measure(&options.eviction_hard, &options.place.data_dir).unwrap_or_else(|error| {
        tracing::warn!(%error, "memory, disk and process ids were not measured");
        Pressure::default()
    })
}

fn images(shared: &Shared) -> Vec<ContainerImage> {
    let mut list = shared.images.list();
    list.sort_by_key(|image| std::cmp::Reverse(image.size));
    list.into_iter()
        .take(MAX_IMAGES)
        .map(|image| ContainerImage {
            names: Some([image.digests, image.references].concat()),
            size_bytes: i64::try_from(image.size).ok(),
        })
        .collect()
}
