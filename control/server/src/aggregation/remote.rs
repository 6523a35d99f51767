//! One group version that another server answers for.

use serde_json::Value;

use crate::authn::text;
use crate::outbound::{Identity, Place, Target, Trust, bundle, service_place};

/// What an APIService with a `service` says.
#[derive(Debug)]
pub(super) struct Remote {
    /// The name of the APIService.
    pub(super) name: String,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) group_priority: i64,
    pub(super) version_priority: i64,
    pub(super) place: Place,
    /// How its certificate is judged, or why that cannot be told.
    trust: Result<Trust, String>,
    /// Whether it was there when it was looked at last.
    pub(super) available: bool,
}

impl Remote {
    /// Reads an APIService; `None` when it is this server's own.
    pub(super) fn read(name: &str, object: &Value) -> Option<Self> {
        let spec = object.get("spec")?;
        let service = spec.get("service").filter(|service| service.is_object())?;
        let number = |field: &str| spec.get(field).and_then(Value::as_i64).unwrap_or_default();
        let insecure = spec.get("insecureSkipTLSVerify") == Some(&Value::Bool(true));
        let checked = || bundle(spec).and_then(|pem| Trust::of_bundle(&pem)).map_err(|why| why.to_string());
        let mut conditions =
            object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        Some(Remote {
            name: name.to_owned(),
            group: text(spec, "/group").to_owned(),
            version: text(spec, "/version").to_owned(),
            group_priority: number("groupPriorityMinimum"),
            version_priority: number("versionPriority"),
            place: service_place(service),
            trust: if insecure { Ok(Trust::anything()) } else { checked() },
            available: conditions
                .any(|condition| condition["type"] == "Available" && condition["status"] == "True"),
        })
    }

    /// The target of requests.
    pub(super) fn target(&self, identity: Option<Identity>) -> Result<Target, String> {
        let trust = self.trust.clone()?.showing(identity);
        Ok(Target::new(self.place.clone(), trust))
    }

    /// The target of the look whether it is there: whoever answers does not get to see more than a list of
    /// resources would tell, so that its certificate does not matter, as upstream has it.
    pub(super) fn looked_at(&self, identity: Option<Identity>) -> Target {
        Target::new(self.place.clone(), Trust::anything().showing(identity))
    }

    /// `/apis/group/version`.
    pub(super) fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }

    /// Namespace and name of its Service, and the port.
    pub(super) fn service(&self) -> (&str, &str, u16) {
        match &self.place {
            Place::Service { namespace, name, port, .. } => (namespace, name, *port),
            Place::Url(_) => ("", "", 0),
        }
    }
}
