//! From the claims of a token to a user, with upstream's checks and messages.

use serde_json::{Map, Value};

use super::config::Issuer;
use super::expressions::Programs;
use crate::UserInfo;

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// How far clocks may be apart for `nbf`, in seconds; upstream's library has this figure.
const NOT_BEFORE_LEEWAY: i64 = 300;

/// Refuses a token that is for somebody else, or whose time is over or has not come. `now` is in seconds.
pub(super) fn check(issuer: &Issuer, claims: &Claims, now: i64) -> Result<(), String> {
    let audiences: Vec<String> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    if !audiences.iter().any(|audience| issuer.audiences.contains(audience)) {
        let (wanted, has) = (&issuer.audiences, &audiences);
        return Err(format!("oidc: verify token: oidc: expected audience in {wanted:?} got {has:?}"));
    }
    let time = |name: &str| claims.get(name).and_then(Value::as_f64);
    let expiry = time("exp").ok_or("oidc: verify token: oidc: the token has no expiry (exp)")?;
    if expiry <= now as f64 {
        return Err(format!("oidc: verify token: oidc: token is expired (Token Expiry: {expiry})"));
    }
    if let Some(from) = time("nbf")
        && now.saturating_add(NOT_BEFORE_LEEWAY) as f64 <= from
    {
        return Err(format!(
            "oidc: verify token: oidc: current time {now} before the nbf (not before) time: {from}"
        ));
    }
    Ok(())
}

/// The user that the claims describe.
pub(super) fn user(issuer: &Issuer, programs: &Programs, claims: &Claims) -> Result<UserInfo, String> {
    if claims.contains_key("_claim_names")
        && issuer.groups.as_ref().is_some_and(|g| is_distributed(claims, &g.claim))
    {
        return Err(
            "oidc: could not expand distributed claims: this server does not fetch claims from elsewhere"
                .into(),
        );
    }
    let name = match programs.username(claims)? {
        Some(name) => name,
        None => username(issuer, claims)?,
    };
    let mut user = UserInfo { name, ..UserInfo::default() };
    user.groups = match programs.groups(claims)? {
        Some(groups) => groups,
        None => groups(issuer, claims)?,
    };
    user.uid = programs.uid(claims)?.unwrap_or_default();
    if let Some(claim) = &issuer.uid {
        user.uid = string(claims, claim).map_err(|why| format!("oidc: parse uid claim {claim:?}: {why}"))?;
    }
    for (claim, wanted) in &issuer.required {
        if !has(claims, claim) {
            return Err(format!("oidc: required claim {claim} not present in ID token"));
        }
        let found = string(claims, claim).map_err(|why| format!("oidc: parse claim {claim}: {why}"))?;
        if found != *wanted {
            return Err(format!(
                "oidc: required claim {claim} value does not match. Got = {found}, want = {wanted}"
            ));
        }
    }
    // The key under which audit logs find the token.
    if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()) {
        let key = "authentication.kubernetes.io/credential-id".to_owned();
        user.extra.insert(key, vec![format!("JTI={id}")]);
    }
    user.extra.extend(programs.extra(claims)?);
    programs.check_claims(claims)?;
    programs.check_user(&user)?;
    if !user.in_group("system:authenticated") {
        user.groups.push("system:authenticated".into());
    }
    Ok(user)
}

fn username(issuer: &Issuer, claims: &Claims) -> Result<String, String> {
    let claim = &issuer.username.claim;
    let name =
        string(claims, claim).map_err(|why| format!("oidc: parse username claims {claim:?}: {why}"))?;
    if claim == "email" && has(claims, "email_verified") {
        match claims.get("email_verified") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err("oidc: email not verified".into()),
            _ => return Err("oidc: parse 'email_verified' claim: it is neither true nor false".into()),
        }
    }
    if name.is_empty() {
        return Err(format!("oidc: parse username claims {claim:?}: it is empty"));
    }
    Ok(format!("{}{name}", issuer.username.prefix))
}

/// The groups; the claim may be a list or, as some issuers have it, one string.
fn groups(issuer: &Issuer, claims: &Claims) -> Result<Vec<String>, String> {
    let Some(mapping) = &issuer.groups else { return Ok(Vec::new()) };
    let wrong = || {
        format!("oidc: parse groups claim {:?}: it is neither a string nor a list of strings", mapping.claim)
    };
    let names: Vec<&str> = match claims.get(&mapping.claim) {
        None => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => {
            many.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(wrong)?
        }
        Some(_) => return Err(wrong()),
    };
    Ok(names.into_iter().map(|name| format!("{}{name}", mapping.prefix)).collect())
}

fn has(claims: &Claims, claim: &str) -> bool {
    claims.contains_key(claim)
}

fn is_distributed(claims: &Claims, claim: &str) -> bool {
    !has(claims, claim) && claims.get("_claim_names").and_then(|names| names.get(claim)).is_some()
}

fn string(claims: &Claims, claim: &str) -> Result<String, String> {
    match claims.get(claim) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err("it is not a string".into()),
        None => Err("claim not present".into()),
    }
}
