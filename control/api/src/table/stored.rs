//! Rows made of stored text: of the object only what cells are made of becomes a value, and what a row carries beside
//! its cells is copied as it is.

use jiff::Timestamp;

use super::{Include, Version, extras};
use crate::codec::{self, Lean};
use crate::resource::Resource;

/// Appends the row of an object to `out`, as JSON. `stored` are its bytes in the stored form of `resource`, a built-in
/// kind, and `revision` its resourceVersion. Fails when the bytes are damaged.
pub fn write_row(
    out: &mut Vec<u8>,
    resource: &Resource,
    stored: &[u8],
    revision: u64,
    (include, version): (Include, Version),
    now: Timestamp,
) -> Result<(), serde_json::Error> {
    let Lean { object, metadata } = codec::read_lean(stored)?;
    out.extend_from_slice(b"{\"cells\":");
    serde_json::to_writer(&mut *out, &(resource.printer.cells)(&object, now))?;
    if let Some(conditions) = extras::conditions(resource, &object) {
        out.extend_from_slice(b",\"conditions\":");
        serde_json::to_writer(&mut *out, &conditions)?;
    }
    match include {
        Include::None => {}
        Include::Metadata => {
            for part in [",\"object\":{\"apiVersion\":\"", version.api_version(), "\",\"kind\":\""] {
                out.extend_from_slice(part.as_bytes());
            }
            out.extend_from_slice(b"PartialObjectMetadata\",\"metadata\":{\"resourceVersion\":\"");
            out.extend_from_slice(revision.to_string().as_bytes());
            out.extend_from_slice(b"\",");
            out.extend_from_slice(metadata.strip_prefix('{').unwrap_or(metadata).as_bytes());
            out.push(b'}');
        }
        Include::Object => {
            out.extend_from_slice(b",\"object\":");
            out.extend_from_slice(&codec::splice_head(resource, revision));
            out.extend_from_slice(stored.get(codec::head_length(resource)..).unwrap_or_default());
        }
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::row;
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_row_of_text_says_what_the_row_of_the_value_says() {
        for phase in ["Running", "Failed"] {
            check(phase);
        }
    }

    fn check(phase: &str) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "a\u{e9}", "namespace": "n", "creationTimestamp": "2026-01-02T03:04:05Z",
                "annotations": {"a\"b": "c"}, "managedFields": [{"manager": "m", "fieldsV1": {"f:a": {}}}],
            },
            "spec": {"nodeName": "n1", "containers": [{"name": "c"}, {"name": "d"}]},
            "status": {"phase": phase, "containerStatuses": [{"name": "c", "ready": true, "restartCount": 3, "state": {"running": {}}}]},
        });
        let resource = crate::find("", "v1", "pods").unwrap();
        let stored = codec::encode_storage(&pod).unwrap();
        let mut served = pod.clone();
        served["metadata"]["resourceVersion"] = "42".into();
        let now: Timestamp = "2026-01-02T04:04:05Z".parse().unwrap();
        for include in [Include::None, Include::Metadata, Include::Object] {
            for version in [Version::V1, Version::V1Beta1] {
                let mut out = Vec::new();
                write_row(&mut out, resource, &stored, 42, (include, version), now).unwrap();
                let read: Value = serde_json::from_slice(&out).unwrap();
                assert_eq!(read, row(resource, &served, include, version, now));
                assert_eq!(read.get("conditions").is_some(), phase == "Failed");
            }
        }
        let cut = &stored[..stored.len() - 2];
        assert!(write_row(&mut Vec::new(), resource, cut, 42, (Include::None, Version::V1), now).is_err());
    }
}
