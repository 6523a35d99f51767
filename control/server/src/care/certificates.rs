//! CertificateSigningRequests: those of nodes for themselves are approved, approved ones are signed, old ones removed.
//! Upstream: the approving, signing and cleaning controllers of certificates. What the signers take is theirs, word for
//! word.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrack_api::meta;
use carrack_store::{Event, EventKind};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{CareError, Job, list};
use crate::authn::text;
use crate::authz::verdict;
use crate::pki::{CertificateSigner, Requested};
use crate::server::ApiServer;
use crate::start::encode;
use crate::{Attributes, UserInfo};

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
const USER: &str = "kubernetes.io/kube-apiserver-client";
const NODE: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Longest life of a certificate, and what one gets that asks for none; upstream's default.
const LONGEST: i64 = 365 * 24 * 3600;
const SHORTEST: i64 = 600;
/// How long requests are kept after their end, and those that nobody decides about; upstream's figures, in seconds.
const KEEP_DECIDED: i64 = 3600;
const KEEP_PENDING: i64 = 24 * 3600;
/// What a node may ask for: the subresource that says who may, and upstream's words.
const APPROVALS: [(&str, &str); 2] = [
    ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
    ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
];

pub(super) struct Certificates;

#[async_trait::async_trait]
impl Job for Certificates {
    fn name(&self) -> &'static str {
        "certificate requests"
    }

    fn watched(&self) -> &'static [(&'static str, &'static str)] {
        &[(GROUP, RESOURCE)]
    }

    fn concerns(&self, event: &Event) -> bool {
        event.kind == EventKind::Put
    }

    async fn sweep(&self, api: &ApiServer) -> Result<Option<Duration>, CareError> {
        let Some(signer) = api.inner.signer.get() else { return Ok(None) };
        for request in list(api, GROUP, RESOURCE, "").await? {
            let path = format!("/apis/{GROUP}/v1/{RESOURCE}/{}", encode(meta::name(&request)));
            if is_over(&request, Timestamp::now()) {
                api.remove(&path, &request).await?;
            } else if let Some(message) = approval(api, &request).await {
                let approved = with_condition(&request, "Approved", "AutoApproved", message);
                api.replace(&format!("{path}/approval"), &approved).await?;
            } else if let Some(answered) = answer(signer, &request) {
                api.replace(&format!("{path}/status"), &answered).await?;
            }
        }
        Ok(None)
    }
}

fn conditions(request: &Value) -> impl Iterator<Item = &Value> {
    request.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

fn has(request: &Value, condition: &str) -> bool {
    conditions(request).any(|c| c["type"] == condition && c["status"] == "True")
}

fn usages(request: &Value) -> Vec<&str> {
    let usages = request.pointer("/spec/usages").and_then(Value::as_array);
    usages.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn requested(request: &Value) -> Result<Requested, String> {
    let pem = STANDARD.decode(text(request, "/spec/request")).map_err(|why| why.to_string())?;
    Requested::parse(&pem).map_err(|why| why.to_string())
}

/// The request with a further condition.
fn with_condition(request: &Value, kind: &str, reason: &str, message: &str) -> Value {
    let now = meta::format_time(Timestamp::now());
    let condition = json!({
        "type": kind, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": now, "lastTransitionTime": now,
    });
    let mut new = request.clone();
    let all: Vec<Value> = conditions(request).cloned().chain([condition]).collect();
    new["status"]["conditions"] = all.into();
    new
}

/// Whether the request has been answered, or has waited, for long enough.
fn is_over(request: &Value, now: Timestamp) -> bool {
    let older = |time: &Value, seconds: i64| {
        let time = time.as_str().and_then(|time| time.parse::<Timestamp>().ok());
        time.is_some_and(|time| now.as_second() - time.as_second() > seconds)
    };
    let issued = !text(request, "/status/certificate").is_empty();
    let ends = |kind: &Value| kind == "Denied" || kind == "Failed" || (kind == "Approved" && issued);
    let decided = conditions(request).any(|c| ends(&c["type"]) && older(&c["lastUpdateTime"], KEEP_DECIDED));
    let pending = conditions(request).next().is_none();
    decided || (pending && older(&request["metadata"]["creationTimestamp"], KEEP_PENDING))
}

/// Why the request is approved without anybody's doing: a node asks for its own certificate, and may.
async fn approval(api: &ApiServer, request: &Value) -> Option<&'static str> {
    let undecided = ["Approved", "Denied", "Failed"].iter().all(|kind| !has(request, kind));
    if !undecided || text(request, "/spec/signerName") != NODE {
        return None;
    }
    let wanted = requested(request).ok()?;
    check_node(&wanted, &usages(request)).ok()?;
    for (part, message) in APPROVALS {
        if part == "selfnodeclient" && text(request, "/spec/username") != wanted.common_name {
            continue;
        }
        let question = Attributes {
            user: asker(request),
            verb: "create".into(),
            api_group: GROUP.into(),
            version: "*".into(),
            resource: RESOURCE.into(),
            subresource: part.into(),
            ..Attributes::default()
        };
        if verdict(&api.inner.config.authorizers, &question).await.is_ok() {
            return Some(message);
        }
    }
    None
}

/// Who made the request; admission has written it down.
fn asker(request: &Value) -> UserInfo {
    let spec = &request["spec"];
    let read = |field: &str| spec[field].clone();
    UserInfo {
        name: text(request, "/spec/username").to_owned(),
        uid: text(request, "/spec/uid").to_owned(),
        groups: serde_json::from_value(read("groups")).unwrap_or_default(),
        extra: serde_json::from_value(read("extra")).unwrap_or_default(),
    }
}

/// The request with its certificate, or with the reason why it gets none; `None` when there is nothing to do.
fn answer(signer: &CertificateSigner, request: &Value) -> Option<Value> {
    let issued = !text(request, "/status/certificate").is_empty();
    if issued || !has(request, "Approved") || has(request, "Failed") {
        return None;
    }
    let usages = usages(request);
    let check = match text(request, "/spec/signerName") {
        USER => check_user,
        NODE => check_node,
        NODE_SERVING => check_node_serving,
        _ => return None,
    };
    let failed = |why: &str| Some(with_condition(request, "Failed", "SignerValidationFailure", why));
    let wanted = match requested(request) {
        Ok(wanted) => wanted,
        Err(why) => return failed(&why),
    };
    if let Err(why) = check(&wanted, &usages) {
        return failed(&why);
    }
    let seconds = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(LONGEST);
    let lifetime = time::Duration::seconds(seconds.clamp(SHORTEST, LONGEST));
    match signer.sign(&wanted, &usages, lifetime) {
        Ok(certificate) => {
            let mut new = request.clone();
            new["status"]["certificate"] = STANDARD.encode(certificate).into();
            Some(new)
        }
        Err(why) => failed(&why.to_string()),
    }
}

fn check_user(_: &Requested, usages: &[&str]) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(usage)) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.contains(&"client auth") {
        return Err("missing required usage for client certificate: client auth".to_owned());
    }
    Ok(())
}

fn check_node(wanted: &Requested, usages: &[&str]) -> Result<(), String> {
    refuse_unless(wanted.organizations == ["system:nodes"], "subject organization is not system:nodes")?;
    refuse_unless(wanted.dns.is_empty(), "DNS subjectAltNames are not allowed")?;
    refuse_unless(wanted.emails.is_empty(), "Email subjectAltNames are not allowed")?;
    refuse_unless(wanted.addresses.is_empty(), "IP subjectAltNames are not allowed")?;
    refuse_unless(wanted.uris.is_empty(), "URI subjectAltNames are not allowed")?;
    check_node_name(wanted)?;
    check_exact(usages, "client auth")
}

fn check_node_serving(wanted: &Requested, usages: &[&str]) -> Result<(), String> {
    refuse_unless(wanted.organizations == ["system:nodes"], "subject organization is not system:nodes")?;
    let named = !wanted.dns.is_empty() || !wanted.addresses.is_empty();
    refuse_unless(named, "DNS or IP subjectAltName is required")?;
    refuse_unless(wanted.emails.is_empty(), "Email subjectAltNames are not allowed")?;
    refuse_unless(wanted.uris.is_empty(), "URI subjectAltNames are not allowed")?;
    check_exact(usages, "server auth")?;
    check_node_name(wanted)
}

fn refuse_unless(holds: bool, why: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why.to_owned()) }
}

fn check_node_name(wanted: &Requested) -> Result<(), String> {
    let named = wanted.common_name.starts_with("system:node:");
    refuse_unless(named, "subject common name does not begin with system:node:")
}

/// The usages of a node's certificate: this side of TLS, and what its key does (RSA keys also encipher).
fn check_exact(usages: &[&str], side: &str) -> Result<(), String> {
    let mut found: Vec<&str> = usages.to_vec();
    found.sort_unstable();
    let mut wanted = vec![side, "digital signature", "key encipherment"];
    wanted.sort_unstable();
    let without: Vec<&str> = wanted.iter().copied().filter(|usage| *usage != "key encipherment").collect();
    let fits = found == wanted || found == without;
    refuse_unless(fits, &format!("usages did not match [{}]", wanted.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Requested {
        Requested {
            common_name: "system:node:n1".into(),
            organizations: vec!["system:nodes".into()],
            ..Requested::default()
        }
    }

    #[test]
    fn nodes_ask_for_what_is_theirs() {
        let client = ["digital signature", "client auth"];
        assert_eq!(check_node(&node(), &client), Ok(()));
        assert_eq!(check_node(&node(), &["key encipherment", "client auth", "digital signature"]), Ok(()));
        let refused = |wanted: Requested, usages: &[&str]| check_node(&wanted, usages).unwrap_err();
        let words = "usages did not match [client auth digital signature key encipherment]";
        assert_eq!(refused(node(), &["client auth"]), words);
        assert_eq!(refused(node(), &["digital signature", "server auth"]), words);
        let organizations = vec!["system:nodes".into(), "system:masters".into()];
        let why = refused(Requested { organizations, ..node() }, &client);
        assert_eq!(why, "subject organization is not system:nodes");
        let why = refused(Requested { dns: vec!["n1".into()], ..node() }, &client);
        assert_eq!(why, "DNS subjectAltNames are not allowed");
        let why = refused(Requested { common_name: "admin".into(), ..node() }, &client);
        assert_eq!(why, "subject common name does not begin with system:node:");
        let serving = ["digital signature", "server auth"];
        let why = check_node_serving(&node(), &serving).unwrap_err();
        assert_eq!(why, "DNS or IP subjectAltName is required");
        assert_eq!(check_node_serving(&Requested { dns: vec!["n1".into()], ..node() }, &serving), Ok(()));
    }

    #[test]
    fn old_requests_go() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
        let request = |condition: Option<&str>, time: &str, certificate: &str| {
            let conditions: Vec<Value> = condition
                .iter()
                .map(|kind| json!({"type": kind, "status": "True", "lastUpdateTime": time}))
                .collect();
            json!({
                "metadata": {"creationTimestamp": time}, "spec": {},
                "status": {"conditions": conditions, "certificate": certificate},
            })
        };
        let (hours_ago, yesterday) = ("2026-01-02T10:30:00Z", "2026-01-01T11:00:00Z");
        for (condition, time, certificate, over) in [
            (None, hours_ago, "", false),
            (None, yesterday, "", true),
            (Some("Denied"), hours_ago, "", true),
            (Some("Failed"), "2026-01-02T11:30:00Z", "", false),
            (Some("Approved"), yesterday, "", false),
            (Some("Approved"), hours_ago, "eA==", true),
        ] {
            assert_eq!(is_over(&request(condition, time, certificate), now), over, "{condition:?} {time}");
        }
    }
}
