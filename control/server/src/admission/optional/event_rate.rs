//! EventRateLimit: how many events are taken in a second, of all, of a namespace, of a user, or of one source about one
//! object.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use crate::authn::text;
use crate::{Admission, AdmissionRequest, ApiError, Operation};

const FORM: (&str, &str) = ("eventratelimit.admission.k8s.io/v1alpha1", "Configuration");
/// Keys that one limit remembers; upstream's figure.
const REMEMBERED: usize = 4096;
/// What makes a source and an object, in upstream's order.
const SOURCE_AND_OBJECT: &[&str] = &[
    "/source/component",
    "/source/host",
    "/involvedObject/kind",
    "/involvedObject/namespace",
    "/involvedObject/name",
    "/involvedObject/uid",
    "/involvedObject/apiVersion",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Type {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

/// One limit of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limit {
    #[serde(rename = "type")]
    of: Type,
    qps: u32,
    burst: u32,
    #[serde(default)]
    cache_size: usize,
}

/// The configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Limits {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    limits: Vec<Limit>,
}

impl Limits {
    /// Reads the configuration; the error says what is wrong.
    pub(crate) fn read(config: &Value) -> Result<Self, String> {
        let read: Self = serde_json::from_value(config.clone()).map_err(|why| why.to_string())?;
        super::check_form(FORM, (&read.api_version, &read.kind))?;
        if read.limits.is_empty() {
            return Err("limits: Invalid value: must not be empty".into());
        }
        for (index, limit) in read.limits.iter().enumerate() {
            for (field, value) in [("burst", limit.burst), ("qps", limit.qps)] {
                if value == 0 {
                    return Err(format!("limits[{index}].{field}: Invalid value: 0: must be positive"));
                }
            }
        }
        Ok(read)
    }
}

/// Tokens, and when they were counted.
#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// A limit, and what is left of it for each key.
struct Enforcer {
    limit: Limit,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Enforcer {
    fn key(&self, request: &AdmissionRequest<'_>, event: &Value) -> String {
        match self.limit.of {
            Type::Server => String::new(),
            Type::Namespace => request.attributes.namespace.clone(),
            Type::User => request.attributes.user.name.clone(),
            Type::SourceAndObject => SOURCE_AND_OBJECT.iter().map(|place| text(event, place)).collect(),
        }
    }

    /// Takes a token for the key, if there is one as of `now`.
    fn take(&self, key: &str, now: Instant) -> bool {
        let most = f64::from(self.limit.burst);
        let size = if self.limit.cache_size == 0 { REMEMBERED } else { self.limit.cache_size };
        let mut buckets = self.buckets.lock();
        if buckets.len() >= size && !buckets.contains_key(key) {
            // What was not used for the longest goes, as the cache of upstream does it.
            let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| buckets.remove(&oldest));
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { tokens: most, at: now });
        let waited = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + waited * f64::from(self.limit.qps)).min(most);
        bucket.at = now;
        let has = bucket.tokens >= 1.0;
        if has {
            bucket.tokens -= 1.0;
        }
        has
    }
}

/// The plugin.
pub(crate) struct EventRateLimit(Vec<Enforcer>);

impl EventRateLimit {
    /// Enforces what `config` says.
    pub(crate) fn new(config: Limits) -> Self {
        let enforcer = |limit| Enforcer { limit, buckets: Mutex::default() };
        EventRateLimit(config.limits.into_iter().map(enforcer).collect())
    }

    fn judge(&self, request: &AdmissionRequest<'_>, event: &Value, now: Instant) -> Result<(), ApiError> {
        let mut reached = Vec::new();
        for enforcer in &self.0 {
            let key = enforcer.key(request, event);
            if !enforcer.take(&key, now) {
                reached.push(format!("limit reached on type {:?} for key {key}", enforcer.limit.of));
            }
        }
        match reached.as_slice() {
            [] => Ok(()),
            [one] => Err(ApiError::new(429, "TooManyRequests", one.as_str())),
            all => Err(ApiError::new(429, "TooManyRequests", format!("[{}]", all.join(", ")))),
        }
    }
}

#[async_trait::async_trait]
impl Admission for EventRateLimit {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        event: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let what = request.attributes;
        let is_event = what.resource == "events" && matches!(what.api_group.as_str(), "" | "events.k8s.io");
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        if let Some(event) = event.filter(|_| is_event && written && !request.dry_run) {
            self.judge(request, event, Instant::now())?;
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{Attributes, UserInfo};

    fn config(limits: Value) -> Result<Limits, String> {
        Limits::read(&json!({"apiVersion": FORM.0, "kind": FORM.1, "limits": limits}))
    }

    #[test]
    fn each_key_has_a_bucket_of_its_own() {
        let limits = json!([{"type": "Namespace", "qps": 1, "burst": 2, "cacheSize": 2}, {"type": "User", "qps": 1, "burst": 3}]);
        let plugin = EventRateLimit::new(config(limits).unwrap());
        let start = Instant::now();
        let ask = |namespace: &str, seconds: u64| {
            let attributes = Attributes {
                user: UserInfo::new("jane", []),
                namespace: namespace.into(),
                ..Attributes::default()
            };
            let (operation, kind) = (Operation::Create, "Event");
            let request =
                AdmissionRequest { attributes: &attributes, operation, kind, old: None, dry_run: false };
            let judged = plugin.judge(&request, &json!({}), start + Duration::from_secs(seconds));
            judged.map_err(|error| (error.code, error.message.clone()))
        };
        assert_eq!((ask("a", 0), ask("a", 0)), (Ok(()), Ok(())));
        let reached = ask("a", 0).unwrap_err();
        assert_eq!(reached, (429, "limit reached on type Namespace for key a".to_owned()));
        assert_eq!(ask("b", 0), Err((429, "limit reached on type User for key jane".to_owned())));
        assert_eq!(ask("a", 10), Ok(()), "tokens come back");
    }

    #[test]
    fn mistakes_are_named() {
        for (limits, why) in [
            (json!([]), "limits: Invalid value"),
            (json!([{"type": "Server", "qps": 0, "burst": 1}]), "limits[0].qps"),
            (json!([{"type": "Pod", "qps": 1, "burst": 1}]), "unknown variant `Pod`"),
        ] {
            let found = config(limits).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
    }
}
