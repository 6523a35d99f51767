//! ResourceSlices: the devices that a driver has.

use k8s_openapi::api::resource::v1 as api;

use super::{at_most, pool_name, qualified_name};
use crate::kinds::prelude::*;

/// The row of resourceslices.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Node", "resource.v1.ResourceSliceSpec#nodeName"),
            Column::text("Driver", "resource.v1.ResourceSliceSpec#driver"),
            Column::text("Pool", "resource.v1.ResourcePool#name"),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "resource.k8s.io" / "v1",
        "ResourceSlice",
        "resourceslice",
        "resourceslices",
        "resource",
        api::ResourceSlice,
        SliceRules
    )
};

fn cells(slice: &Value, now: Timestamp) -> Vec<Value> {
    let node = match read::text(slice, "/spec/nodeName") {
        "" => "<unset>",
        node => node,
    };
    vec![
        meta::name(slice).into(),
        node.into(),
        read::text(slice, "/spec/driver").into(),
        read::text(slice, "/spec/pool/name").into(),
        age(slice, now),
    ]
}

const MAX_DEVICES: usize = 128;
const MAX_DEVICES_WITH_MORE: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
const MAX_ATTRIBUTES: usize = 32;

/// What is true of resourceslices.
pub(in crate::kinds) struct SliceRules;

impl Rules for SliceRules {
    type Object = api::ResourceSlice;

    const SCOPE: Scope = Scope::Cluster;
    const HAS_GENERATION: bool = true;
    const SELECTABLE: &'static [&'static str] = &["metadata.name", "spec.driver", "spec.nodeName"];

    fn validate(slice: &Self::Object, errors: &mut Errors) {
        let (spec, path) = (&slice.spec, spec_path());
        validate::csi_driver_name(&path.child("driver"), &spec.driver, errors);
        pool_name(&path.child("pool").child("name"), &spec.pool.name, errors);
        if spec.pool.resource_slice_count <= 0 {
            let at = path.child("pool").child("resourceSliceCount");
            errors.push(FieldError::invalid(
                &at,
                spec.pool.resource_slice_count,
                "must be greater than zero",
            ));
        }
        if spec.pool.generation < 0 {
            let at = path.child("pool").child("generation");
            let why = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(&at, spec.pool.generation, why));
        }
        place(spec, &path, errors);
        let devices = validate::list(&spec.devices);
        let counters = validate::list(&spec.shared_counters);
        if !devices.is_empty() && !counters.is_empty() {
            let why = "exactly one of `sharedCounters` or `devices` is required, but multiple fields are set";
            errors.push(FieldError::invalid(&path, "{`sharedCounters`, `devices`}", why));
        }
        at_most(&path.child("sharedCounters"), counters, MAX_COUNTER_SETS, errors);
        let more = devices.iter().any(|d| {
            !validate::list(&d.taints).is_empty() || !validate::list(&d.consumes_counters).is_empty()
        });
        let at = path.child("devices");
        at_most(&at, devices, if more { MAX_DEVICES_WITH_MORE } else { MAX_DEVICES }, errors);
        let mut seen = HashSet::new();
        for (index, entry) in devices.iter().enumerate() {
            device(entry, &at.index(index), errors);
            if !seen.insert(&entry.name) {
                errors.push(FieldError::duplicate(&at.index(index).child("name"), entry.name.as_str()));
            }
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        let (new, old, path) = (&new.spec, &old.spec, spec_path());
        validate::unchanged(&path.child("pool").child("name"), &new.pool.name, &old.pool.name, errors);
        validate::unchanged(&path.child("driver"), &new.driver, &old.driver, errors);
        validate::unchanged(&path.child("nodeName"), &new.node_name, &old.node_name, errors);
    }
}

/// The devices are on one node, on those that a selector picks, on all, or each says so by itself.
fn place(spec: &api::ResourceSliceSpec, path: &FieldPath, errors: &mut Errors) {
    let places = [
        ("`nodeName`", spec.node_name.is_some()),
        ("`nodeSelector`", spec.node_selector.is_some()),
        ("`allNodes`", spec.all_nodes == Some(true)),
        ("`perDeviceNodeSelection`", spec.per_device_node_selection == Some(true)),
    ];
    let set: Vec<&str> = places.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errors.push(FieldError::required(path, why)),
        1 => {}
        _ => {
            let why = format!("{why}, but multiple fields are set");
            errors.push(FieldError::invalid(path, format!("{{{}}}", set.join(", ")), why));
        }
    }
    if let Some(node) = &spec.node_name {
        refuse(&path.child("nodeName"), node, names::dns1123_subdomain(node), errors);
    }
    if let Some(selector) = &spec.node_selector {
        let at = path.child("nodeSelector");
        validate::node_selector(selector, &at, errors);
        if selector.node_selector_terms.len() != 1 {
            let shown = validate::shown(&selector.node_selector_terms);
            let why = "must have exactly one node selector term";
            errors.push(FieldError::invalid(&at.child("nodeSelectorTerms"), shown, why));
        }
    }
}

/// Longest value of an attribute, in bytes.
const MAX_VALUE: usize = 64;

/// The text, or the version, that an attribute has.
fn told(attribute: &api::DeviceAttribute, path: &FieldPath, errors: &mut Errors) {
    if attribute.string.as_ref().is_some_and(|text| text.len() > MAX_VALUE) {
        errors.push(FieldError::too_long(&path.child("string"), MAX_VALUE));
    }
    let (Some(version), at) = (attribute.version.as_deref(), path.child("version")) else { return };
    if !is_version(version) {
        let why = "must be a string compatible with semver.org spec 2.0.0";
        errors.push(FieldError::invalid(&at, version, why));
    }
    if version.len() > MAX_VALUE {
        errors.push(FieldError::too_long(&at, MAX_VALUE));
    }
}

/// `1.2.3-pre.1+build`: three numbers, parts before the release, parts about the build.
fn is_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (text, pre) = text.split_once('-').map_or((text, None), |(text, pre)| (text, Some(pre)));
    let numeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let short = |part: &str| part.len() == 1 || !part.starts_with('0');
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let numbers = text.split('.').filter(|part| word(part) && numeric(part) && short(part)).count();
    numbers == 3
        && text.split('.').count() == 3
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!numeric(part) || short(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

fn device(device: &api::Device, path: &FieldPath, errors: &mut Errors) {
    require_by(&path.child("name"), &device.name, names::dns1123_label, errors);
    let (attributes, capacity) =
        (device.attributes.as_ref().map_or(0, |a| a.len()), device.capacity.as_ref().map_or(0, |c| c.len()));
    if attributes + capacity > MAX_ATTRIBUTES {
        let why = format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}");
        errors.push(FieldError::invalid(path, attributes + capacity, why));
    }
    for (name, attribute) in device.attributes.iter().flatten() {
        qualified_name(&path.child("attributes"), name, errors);
        let at = path.child("attributes").key(name);
        told(attribute, &at, errors);
        let values = [
            attribute.bool.is_some(),
            attribute.int.is_some(),
            attribute.string.is_some(),
            attribute.version.is_some(),
        ];
        match values.iter().filter(|set| **set).count() {
            0 => errors.push(FieldError::required(&at, "exactly one value must be specified")),
            1 => {}
            _ => {
                let shown = validate::shown(attribute);
                errors.push(FieldError::invalid(&at, shown, "exactly one value must be specified"));
            }
        }
    }
    for name in device.capacity.iter().flatten().map(|(name, _)| name) {
        qualified_name(&path.child("capacity"), name, errors);
    }
    for (index, taint) in validate::list(&device.taints).iter().enumerate() {
        let at = path.child("taints").index(index);
        refuse(&at.child("key"), &taint.key, names::qualified_name(&taint.key), errors);
        let value = validate::text(&taint.value);
        refuse(&at.child("value"), value, names::label_value(value), errors);
        require_one_of(&at.child("effect"), &taint.effect, &["NoExecute", "NoSchedule", "None"], errors);
    }
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn versions_are_those_of_semver() {
        for good in ["1.2.3", "0.0.0", "1.0.0-alpha.1", "1.0.0-0a", "1.0.0+007", "1.0.0-x-y.z+b-1.c"] {
            assert!(is_version(good), "{good}");
        }
        for bad in
            ["", "1.2", "1.2.3.4", "01.2.3", "1.2.x", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3-a..b", "v1.2.3"]
        {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
