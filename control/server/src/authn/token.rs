//! ServiceAccount tokens: issued by TokenRequest, bound to objects, judged against these objects as they are now.

use std::sync::Arc;

use jiff::{Span, Timestamp};
use serde_json::{Value, json};

use super::claims::{self, Claims, Kubernetes, Reference};
use super::jws::{self, JwsError};
use super::notes::{Counts, count, note};
use super::objects::{Objects, text};
use crate::pki::ServiceAccountKeys;
use crate::{ApiError, Cause, UserInfo, audit};

/// Clocks of several API servers may differ by this much, in seconds.
const CLOCK_SKEW: i64 = 60;
/// Lifetimes that may be asked for, in seconds.
const MIN_LIFETIME: i64 = 600;
const MAX_LIFETIME: i64 = 1 << 32;
/// The lifetime when none is asked for.
const DEFAULT_LIFETIME: i64 = 3600;
/// The lifetime of tokens that admission mounts into every pod, and how long they are made to last: programs that read
/// their token once would stop working after an hour. Upstream's figures.
const INJECTED_LIFETIME: i64 = 3607;
const EXTENDED_LIFETIME: i64 = 365 * 24 * 3600;

/// Why a token proves nothing. The messages follow upstream's.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error(transparent)]
    Signature(#[from] JwsError),
    #[error("the token's claims cannot be read: {0}")]
    Claims(serde_json::Error),
    #[error("the token was issued by {0:?}, not by this cluster")]
    Issuer(String),
    #[error("token audiences {has:?} is invalid for the target audiences {wanted:?}")]
    Audience { has: Vec<String>, wanted: Vec<String> },
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYet,
    #[error("service account token has been invalidated: {kind} {name:?} {why}")]
    Bound { kind: &'static str, name: String, why: &'static str },
    #[error("the token's subject and its service account differ")]
    Subject,
    #[error(transparent)]
    Lookup(#[from] ApiError),
}

/// Issues and judges ServiceAccount tokens.
pub(super) struct Tokens {
    pub(super) issuer: String,
    /// Audiences that mean this API server; the first is put into tokens that ask for none.
    pub(super) audiences: Vec<String>,
    pub(super) keys: Arc<ServiceAccountKeys>,
    pub(super) objects: Arc<dyn Objects>,
    /// Whether injected tokens last a year.
    pub(super) extends: bool,
    pub(super) counts: Arc<Counts>,
}

impl Tokens {
    /// The user behind `token`, and which of `audiences` (the API server's own when empty) it is meant for.
    pub(super) async fn judge(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<(UserInfo, Vec<String>), TokenError> {
        let payload = jws::verify(&self.keys, token)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(TokenError::Claims)?;
        if claims.iss != self.issuer {
            return Err(TokenError::Issuer(claims.iss));
        }
        check_times(&claims, now.as_second())?;
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let accepted: Vec<String> =
            wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        if accepted.is_empty() {
            return Err(TokenError::Audience { has: claims.aud, wanted: wanted.to_vec() });
        }
        let account = &claims.kubernetes.serviceaccount.name;
        if claims.sub != claims::user_name(&claims.kubernetes.namespace, account) {
            return Err(TokenError::Subject);
        }
        self.check_bound(&claims.kubernetes, now).await?;
        self.note_age(&claims, now.as_second());
        Ok((user(claims), accepted))
    }

    /// Tells of tokens that count only since they were made to last longer.
    fn note_age(&self, claims: &Claims, now: i64) {
        let Some(stale_from) = claims.kubernetes.warnafter.filter(|seconds| *seconds != 0) else { return };
        let over = now.saturating_sub(stale_from);
        if over <= 0 {
            return count(&self.counts.valid);
        }
        count(&self.counts.stale);
        let why = format!("subject: {}, seconds after warning threshold: {over}", claims.sub);
        note(|notes| notes.annotations.push(("authentication.k8s.io/stale-token", why)));
    }

    /// Everything that the token is bound to must still be there: same name, same UID, not deleted.
    async fn check_bound(&self, kubernetes: &Kubernetes, now: Timestamp) -> Result<(), TokenError> {
        let namespace = kubernetes.namespace.as_str();
        // A pod's token names the pod's node too, for information; the pod is what decides then.
        let node = kubernetes.node.as_ref().filter(|_| kubernetes.pod.is_none());
        let bound = [
            ("serviceaccount", "serviceaccounts", namespace, Some(&kubernetes.serviceaccount)),
            ("pod", "pods", namespace, kubernetes.pod.as_ref()),
            ("secret", "secrets", namespace, kubernetes.secret.as_ref()),
            ("node", "nodes", "", node),
        ];
        for (kind, resource, namespace, reference) in bound {
            let Some(reference) = reference else { continue };
            let refuse = |why| TokenError::Bound { kind, name: reference.name.clone(), why };
            let object = self.objects.get("", resource, namespace, &reference.name).await?;
            let object = object.ok_or_else(|| refuse("does not exist"))?;
            if text(&object, "/metadata/uid") != reference.uid {
                return Err(refuse("is another one of the same name"));
            }
            if deleted(&object, now) {
                return Err(refuse("has been deleted"));
            }
        }
        Ok(())
    }

    /// Completes a TokenRequest; see [`crate::TokenIssuer::issue`].
    pub(super) async fn issue(
        &self,
        account: &Value,
        mut request: Value,
        bound: Option<&Value>,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        let lifetime = lifetime(&request)?;
        let audiences = self.requested_audiences(&request)?;
        let namespace = text(account, "/metadata/namespace").to_owned();
        let mut kubernetes = Kubernetes {
            namespace: namespace.clone(),
            serviceaccount: reference(account),
            ..Kubernetes::default()
        };
        self.bind(&mut kubernetes, &request, account, bound).await?;
        let issued = now.as_second();
        let for_us = audiences.iter().all(|audience| self.audiences.contains(audience));
        let extends = self.extends && kubernetes.pod.is_some() && lifetime == INJECTED_LIFETIME && for_us;
        let lasts = if extends { EXTENDED_LIFETIME } else { lifetime };
        kubernetes.warnafter = extends.then_some(issued + lifetime);
        let claims = Claims {
            sub: claims::user_name(&namespace, &kubernetes.serviceaccount.name),
            aud: audiences.clone(),
            exp: issued + lasts,
            iat: issued,
            nbf: issued,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            kubernetes,
        };
        let payload = serde_json::to_vec(&claims).map_err(ApiError::internal)?;
        let token = jws::sign(&self.keys, &payload).map_err(ApiError::internal)?;
        // Who asked comes again when the time is over that he asked for.
        let expires = Timestamp::from_second(issued + lifetime).map_err(ApiError::internal)?;
        audit::annotate("authentication.kubernetes.io/issued-credential-id", &format!("JTI={}", claims.jti));

        request["metadata"]["name"] = json!(claims.kubernetes.serviceaccount.name);
        request["metadata"]["namespace"] = json!(namespace);
        request["spec"]["audiences"] = json!(audiences);
        request["spec"]["expirationSeconds"] = json!(lifetime);
        request["status"] = json!({"token": token, "expirationTimestamp": expires.to_string()});
        Ok(request)
    }

    fn requested_audiences(&self, request: &Value) -> Result<Vec<String>, ApiError> {
        let asked = match request.pointer("/spec/audiences") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(audiences)) => audiences
                .iter()
                .map(|audience| audience.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| ApiError::bad_request("spec.audiences must be strings"))?,
            Some(_) => return Err(ApiError::bad_request("spec.audiences must be an array of strings")),
        };
        Ok(if asked.is_empty() { self.audiences.clone() } else { asked })
    }

    async fn bind(
        &self,
        kubernetes: &mut Kubernetes,
        request: &Value,
        account: &Value,
        bound: Option<&Value>,
    ) -> Result<(), ApiError> {
        let asked = request.pointer("/spec/boundObjectRef").filter(|reference| !reference.is_null());
        let Some(asked) = asked else { return Ok(()) };
        let (kind, version) = (text(asked, "/kind"), text(asked, "/apiVersion"));
        let bound = bound.ok_or_else(|| ApiError::internal("the bound object was not looked up"))?;
        check_reference(asked, bound, kind)?;
        match (kind, version) {
            ("Pod", "v1") => {
                check_pod_account(bound, account)?;
                kubernetes.pod = Some(reference(bound));
                kubernetes.node = self.node_of(bound).await?;
            }
            ("Secret", "v1") => kubernetes.secret = Some(reference(bound)),
            ("Node", "v1") => kubernetes.node = Some(reference(bound)),
            _ => {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token to object of type {version}, Kind={kind}"
                )));
            }
        }
        Ok(())
    }

    async fn node_of(&self, pod: &Value) -> Result<Option<Reference>, ApiError> {
        let name = text(pod, "/spec/nodeName");
        if name.is_empty() {
            return Ok(None);
        }
        let node = self.objects.get("", "nodes", "", name).await?;
        let uid = node.map(|node| text(&node, "/metadata/uid").to_owned()).unwrap_or_default();
        Ok(Some(Reference { name: name.to_owned(), uid }))
    }
}

fn check_times(claims: &Claims, now: i64) -> Result<(), TokenError> {
    if now >= claims.exp {
        return Err(TokenError::Expired);
    }
    if claims.nbf.max(claims.iat) > now.saturating_add(CLOCK_SKEW) {
        return Err(TokenError::NotYet);
    }
    Ok(())
}

/// Whether the object's deletion is final: its time has come. (`deletionTimestamp` lies in the future while the
/// grace period runs, in which a pod still needs its token.)
fn deleted(object: &Value, now: Timestamp) -> bool {
    let Ok(at) = text(object, "/metadata/deletionTimestamp").parse::<Timestamp>() else { return false };
    now.checked_sub(Span::new().seconds(CLOCK_SKEW)).is_ok_and(|horizon| at < horizon)
}

fn reference(object: &Value) -> Reference {
    Reference { name: text(object, "/metadata/name").into(), uid: text(object, "/metadata/uid").into() }
}

fn user(claims: Claims) -> UserInfo {
    let kubernetes = claims.kubernetes;
    let mut user = UserInfo {
        name: claims.sub,
        uid: kubernetes.serviceaccount.uid,
        groups: claims::group_names(&kubernetes.namespace).into(),
        ..UserInfo::default()
    };
    user.groups.push("system:authenticated".into());
    let mut extra = |key: &str, value: String| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        }
    };
    if !claims.jti.is_empty() {
        extra("credential-id", format!("JTI={}", claims.jti));
    }
    for (kind, reference) in [("pod", kubernetes.pod), ("node", kubernetes.node)] {
        let Some(reference) = reference else { continue };
        extra(&format!("{kind}-name"), reference.name);
        extra(&format!("{kind}-uid"), reference.uid);
    }
    user
}

fn lifetime(request: &Value) -> Result<i64, ApiError> {
    let asked = match request.pointer("/spec/expirationSeconds") {
        None | Some(Value::Null) => return Ok(DEFAULT_LIFETIME),
        Some(value) => value.as_i64(),
    };
    let problem = match asked {
        Some(seconds) if seconds < MIN_LIFETIME => "may not specify a duration less than 10 minutes",
        Some(seconds) if seconds > MAX_LIFETIME => "may not specify a duration larger than 2^32 seconds",
        Some(seconds) => return Ok(seconds),
        None => return Err(ApiError::bad_request("spec.expirationSeconds must be a number")),
    };
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {}: {problem}", asked.unwrap_or_default()),
        field: "spec.expirationSeconds".into(),
    };
    Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", "", vec![cause]))
}

/// A token is bound to the very object that was asked for.
fn check_reference(asked: &Value, bound: &Value, kind: &str) -> Result<(), ApiError> {
    let (wanted, name) = (text(asked, "/uid"), text(asked, "/name"));
    let found = reference(bound);
    let resource = format!("{}s", kind.to_lowercase());
    if name != found.name {
        return Err(ApiError::internal("another object than the bound one was looked up"));
    }
    if !wanted.is_empty() && wanted != found.uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record ({})",
            found.uid
        );
        return Err(ApiError::conflict("", &resource, name, &why));
    }
    Ok(())
}

fn check_pod_account(pod: &Value, account: &Value) -> Result<(), ApiError> {
    let (uses, is) = (text(pod, "/spec/serviceAccountName"), text(account, "/metadata/name"));
    if uses == is && text(pod, "/metadata/namespace") == text(account, "/metadata/namespace") {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "cannot bind token for serviceaccount {is:?} to pod running with different serviceaccount name."
    )))
}
