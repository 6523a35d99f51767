//! VolumeAttachments.

use k8s_openapi::api::storage::v1 as storage;

use crate::kinds::prelude::*;
use crate::kinds::volume::inline_volume;

/// The row of volumeattachments.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    subresources: &[status(gvk("storage.k8s.io", "v1", "VolumeAttachment"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column { format: "name", ..Column::text("Attacher", "storage.v1.VolumeAttachmentSpec#attacher") },
            Column::text("PV", "storage.v1.VolumeAttachmentSource#persistentVolumeName"),
            Column::text("Node", "storage.v1.VolumeAttachmentSpec#nodeName"),
            Column::boolean("Attached", "storage.v1.VolumeAttachmentStatus#attached"),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "storage.k8s.io" / "v1",
        "VolumeAttachment",
        "volumeattachment",
        "volumeattachments",
        "storage",
        storage::VolumeAttachment,
        AttachmentRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        read::text(object, "/spec/attacher").into(),
        read::text(object, "/spec/source/persistentVolumeName").into(),
        read::text(object, "/spec/nodeName").into(),
        (object.pointer("/status/attached") == Some(&Value::Bool(true))).into(),
        age(object, now),
    ]
}

/// What is true of volumeattachments.
pub(in crate::kinds) struct AttachmentRules;

impl Rules for AttachmentRules {
    type Object = storage::VolumeAttachment;

    const SCOPE: Scope = Scope::Cluster;
    const HAS_STATUS: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn prepare_create(attachment: &mut Value) {
        if let Some(fields) = attachment.as_object_mut() {
            fields.insert("status".into(), json!({"attached": false}));
        }
    }

    fn validate(attachment: &Self::Object, errors: &mut Errors) {
        whole(attachment, errors);
        // What v1 asks for beyond that.
        let (spec, path) = (&attachment.spec, spec_path());
        if !spec.attacher.is_empty() {
            validate::csi_driver_name(&path.child("attacher"), &spec.attacher, errors);
        }
        if let Some(name) = &spec.source.persistent_volume_name {
            let at = path.child("source").child("persistentVolumeName");
            refuse(&at, name, names::dns1123_subdomain(name), errors);
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        whole(new, errors);
        if !validate::same(&new.spec, &old.spec) {
            errors.push(FieldError::invalid(&spec_path(), validate::shown(&new.spec), names::IMMUTABLE));
        }
    }

    fn validate_status_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate_update(new, old, errors);
    }
}

/// Most bytes of what an attacher tells, and of a message.
const MAX_METADATA: usize = 256 * 1024;
const MAX_MESSAGE: usize = 1024;
const ONE_SOURCE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";

fn whole(attachment: &storage::VolumeAttachment, errors: &mut Errors) {
    let (spec, path) = (&attachment.spec, spec_path());
    require(&path.child("attacher"), &spec.attacher, errors);
    let at = path.child("source");
    match (&spec.source.inline_volume_spec, &spec.source.persistent_volume_name) {
        (None, None) => errors.push(FieldError::required(&at, ONE_SOURCE)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(&at, ONE_SOURCE)),
        (None, Some(name)) if name.is_empty() => {
            let why = "must specify non empty persistentVolumeName";
            errors.push(FieldError::required(&at.child("persistentVolumeName"), why));
        }
        (None, Some(_)) => {}
        (Some(volume), None) => inline_volume(volume, &at.child("inlineVolumeSpec"), errors),
    }
    let node = spec.node_name.as_str();
    refuse(&path.child("nodeName"), node, names::dns1123_subdomain(node), errors);
    let (Some(status), path) = (&attachment.status, status_path()) else { return };
    let told = status.attachment_metadata.iter().flatten();
    if told.map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_METADATA {
        errors.push(FieldError::too_long(&path.child("attachmentMetadata"), MAX_METADATA));
    }
    for (field, error) in [("attachError", &status.attach_error), ("detachError", &status.detach_error)] {
        let (Some(error), at) = (error, path.child(field)) else { continue };
        if validate::text(&error.message).len() > MAX_MESSAGE {
            // The limit that is told is upstream's.
            errors.push(FieldError::too_long(&at.child("message"), MAX_METADATA));
        }
        if let Some(code) = error.error_code.filter(|code| *code < 0) {
            let why = names::inclusive_range(0, i64::from(i32::MAX));
            errors.push(FieldError::invalid(&at.child("errorCode"), code, why));
        }
    }
}
