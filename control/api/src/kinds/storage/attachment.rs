//! VolumeAttachments.

use k8s_openapi::api::storage::v1 as storage;

use crate::kinds::prelude::*;

/// The row of volumeattachments.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    subresources: &[status(gvk("storage.k8s.io", "v1", "VolumeAttachment"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Attacher", "The driver that attaches."),
            Column::text("PV", "The volume."),
            Column::text("Node", "The node that it is attached to."),
            Column::boolean("Attached", "Whether it is attached."),
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
        let (spec, path) = (&attachment.spec, spec_path());
        validate::csi_driver_name(&path.child("attacher"), &spec.attacher, errors);
        let at = path.child("source");
        match (&spec.source.inline_volume_spec, &spec.source.persistent_volume_name) {
            (None, None) => {
                let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
                errors.push(FieldError::required(&at, why));
            }
            (Some(_), Some(_)) => {
                let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
                errors.push(FieldError::forbidden(&at, why));
            }
            (None, Some(name)) if name.is_empty() => {
                let why = "must specify non empty persistentVolumeName";
                errors.push(FieldError::required(&at.child("persistentVolumeName"), why));
            }
            _ => {}
        }
        require_by(&path.child("nodeName"), &spec.node_name, names::dns1123_subdomain, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        if !validate::same(&new.spec, &old.spec) {
            errors.push(FieldError::invalid(&spec_path(), validate::shown(&new.spec), names::IMMUTABLE));
        }
    }
}
