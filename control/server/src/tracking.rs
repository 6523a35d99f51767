//! Who manages which fields: the manager of a request, and the tracking of its writes.

use carrack_api::apply::{self, Versions, Write};
use http::HeaderMap;
use http::header::USER_AGENT;
use jiff::Timestamp;
use serde_json::Value;

use crate::call::Call;
use crate::conversion::Forms;
use crate::object::as_served;
use crate::options::LONGEST_MANAGER;
use crate::query::Query;
use crate::service::Origin;
use crate::{ApiError, UserInfo};

/// The manager of a request: `fieldManager`, which the options of writes check, or what the client calls itself. Parts of
/// this process are named after who they act as.
pub(crate) fn manager(query: &Query, headers: &HeaderMap, user: &UserInfo, origin: Origin) -> String {
    if let Some(named) = query.non_empty("fieldManager") {
        return named.to_owned();
    }
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut name = String::new();
    for letter in agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()) {
        if name.len() + letter.len_utf8() > LONGEST_MANAGER {
            break;
        }
        name.push(letter);
    }
    match (name.as_str(), origin) {
        ("", Origin::Network) => "unknown".to_owned(),
        ("", _) => of_user(&user.name).to_owned(),
        _ => name,
    }
}

fn of_user(name: &str) -> &str {
    match name.strip_prefix("system:").unwrap_or(name) {
        node if node.starts_with("node:") => "kubelet",
        account if account.starts_with("serviceaccount:kube-system:") => "kube-controller-manager",
        other => other,
    }
}

/// What a call writes, for [`carrack_api::apply`]; `forms` are for objects that a webhook converts.
pub(crate) fn write<'a>(call: &'a Call, forms: &'a Forms) -> Write<'a> {
    Write {
        versions: is_converted(call).then_some(forms as &dyn Versions),
        resource: &call.resource,
        subresource: call.subresource.map_or("", |s| s.name),
        manager: &call.manager,
        now: Timestamp::now(),
    }
}

/// Whether a webhook converts objects of the resource.
fn is_converted(call: &Call) -> bool {
    call.resource.custom().is_some_and(|custom| custom.webhook().is_some())
}

/// Tracks what the call changed from `old` to `new`, both in the form that writes work on. An apply has tracked it by
/// itself.
pub(crate) async fn track(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), ApiError> {
    if call.is_apply() {
        return Ok(());
    }
    let forms = Forms::default();
    if is_converted(call) {
        loop {
            let mut tracked = new.clone();
            apply::track(&write(call, &forms), old, &mut tracked);
            if !forms.fill(call).await? {
                *new = tracked;
                return Ok(());
            }
        }
    }
    if call.resource.conversion.is_none() {
        apply::track(&write(call, &forms), old, new);
        return Ok(());
    }
    let mut tracked = as_served(&call.resource, new).into_owned();
    let before = old.map(|old| as_served(&call.resource, old));
    apply::track(&write(call, &forms), before.as_deref(), &mut tracked);
    let managed = tracked.pointer_mut("/metadata/managedFields").map(Value::take);
    if let Some(metadata) = carrack_api::meta::metadata_mut(new) {
        match managed {
            Some(managed) => metadata.insert("managedFields".into(), managed),
            None => metadata.remove("managedFields"),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(query: &str, agent: &str, user: &str, origin: Origin) -> String {
        let mut headers = HeaderMap::new();
        if !agent.is_empty() {
            headers.insert(USER_AGENT, agent.parse().unwrap());
        }
        let user = UserInfo::new(user, []);
        manager(&Query::parse(query).unwrap(), &headers, &user, origin)
    }

    #[test]
    fn managers_are_named_by_query_agent_or_user() {
        let kubectl = "kubectl/v1.33.0 (linux/amd64) kubernetes/abc";
        let cases = [
            ("fieldManager=me", kubectl, "u", Origin::Network, "me"),
            ("", kubectl, "u", Origin::Network, "kubectl"),
            ("", "", "u", Origin::Network, "unknown"),
            ("", "", "system:node:n1", Origin::Process, "kubelet"),
            ("", "", "system:kube-scheduler", Origin::Process, "kube-scheduler"),
        ];
        for (query, agent, user, origin, expected) in cases {
            assert_eq!(named(query, agent, user, origin), expected, "{query} {agent}");
        }
        assert_eq!(named("", &"y".repeat(300), "u", Origin::Network).len(), 128);
    }
}
