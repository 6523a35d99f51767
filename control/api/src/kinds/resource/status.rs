//! The status of ResourceClaims: what was allocated, and for whom it is reserved.

use k8s_openapi::api::resource::v1 as api;

use super::{at_most, pool_name, request};
use crate::kinds::prelude::*;

const MAX_CONSUMERS: usize = 256;
const MAX_RESULTS: usize = 32;

/// What is wrong with a change of status.
pub(super) fn change(new: &api::ResourceClaim, old: &api::ResourceClaim, errors: &mut Errors) {
    let (Some(status), path) = (&new.status, status_path()) else { return };
    let before = old.status.clone().unwrap_or_default();
    let (at, consumers) = (path.child("reservedFor"), validate::list(&status.reserved_for));
    at_most(&at, consumers, MAX_CONSUMERS, errors);
    let mut seen = HashSet::new();
    for (index, consumer) in consumers.iter().enumerate() {
        let at = at.index(index);
        require(&at.child("resource"), &consumer.resource, errors);
        require(&at.child("name"), &consumer.name, errors);
        require(&at.child("uid"), &consumer.uid, errors);
        if !seen.insert(&consumer.uid) {
            errors.push(FieldError::duplicate(&at.child("uid"), consumer.uid.as_str()));
        }
    }
    if !consumers.is_empty() && status.allocation.is_none() {
        errors.push(FieldError::forbidden(&at, "may not be specified when `allocated` is not set"));
    }
    let known: HashSet<String> = validate::list(&before.reserved_for).iter().map(shown).collect();
    if new.metadata.deletion_timestamp.is_some() && consumers.iter().any(|c| !known.contains(&shown(c))) {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.push(FieldError::forbidden(&at, why));
    }
    match (&status.allocation, &before.allocation) {
        (Some(_), Some(_)) => {
            let at = path.child("allocation");
            validate::unchanged(&at, &status.allocation, &before.allocation, errors);
        }
        (Some(allocation), None) => {
            let requests = new.spec.devices.as_ref().map_or(&[][..], |d| validate::list(&d.requests));
            result(allocation, requests, &path.child("allocation"), errors);
        }
        _ => {}
    }
    devices(status, &path.child("devices"), errors);
}

/// A text that equal consumers share.
fn shown(consumer: &api::ResourceClaimConsumerReference) -> String {
    format!("{consumer:?}")
}

fn result(
    allocation: &api::AllocationResult,
    requests: &[api::DeviceRequest],
    path: &FieldPath,
    errors: &mut Errors,
) {
    let results = allocation.devices.as_ref().map_or(&[][..], |d| validate::list(&d.results));
    let all = path.child("devices").child("results");
    at_most(&all, results, MAX_RESULTS, errors);
    let known = request::names_of(requests);
    for (index, entry) in results.iter().enumerate() {
        let at = all.index(index);
        if !known.contains(&entry.request) {
            let why = "must be the name of a request in the claim or the name of a request and a subrequest \
                       separated by '/'";
            errors.push(FieldError::invalid(&at.child("request"), entry.request.as_str(), why));
        }
        validate::csi_driver_name(&at.child("driver"), &entry.driver, errors);
        pool_name(&at.child("pool"), &entry.pool, errors);
        require_by(&at.child("device"), &entry.device, names::dns1123_label, errors);
    }
    if let Some(selector) = &allocation.node_selector {
        validate::node_selector(selector, &path.child("nodeSelector"), errors);
    }
}

/// Drivers say how the devices are that were allocated, and of no others.
fn devices(status: &api::ResourceClaimStatus, path: &FieldPath, errors: &mut Errors) {
    let allocated = status.allocation.as_ref().and_then(|a| a.devices.as_ref());
    let allocated = allocated.map_or(&[][..], |d| validate::list(&d.results));
    let allocated: HashSet<_> = allocated.iter().map(|a| (&a.driver, &a.pool, &a.device)).collect();
    let all = validate::list(&status.devices);
    let mut seen = HashSet::new();
    for (index, entry) in all.iter().enumerate() {
        let at = path.index(index);
        let device = (&entry.driver, &entry.pool, &entry.device);
        if !allocated.contains(&device) {
            let id = format!("{}/{}/{}", entry.driver, entry.pool, entry.device);
            let why = "must be an allocated device in the claim";
            errors.push(FieldError::invalid(&at, id, why));
        }
        if !seen.insert((device, &entry.share_id)) {
            errors.push(FieldError::duplicate(&at.child("deviceID"), entry.device.as_str()));
        }
    }
}
