//! Impersonation: a user who may do so acts as somebody else, asked for by `Impersonate-*` headers.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::claims;
use crate::{ApiError, Attributes, UserInfo};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA_PREFIX: &str = "impersonate-extra-";
const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const AUTHENTICATION_GROUP: &str = "authentication.k8s.io";

/// Whom a request wants to act as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonation {
    /// The user it becomes.
    pub user: UserInfo,
    /// What the real user needs permission for: each must be allowed. Their `user` is the real one.
    pub needs: Vec<Attributes>,
}

/// Reads the headers; `None` when nobody is impersonated. `real` is who asks.
pub fn impersonation(headers: &HeaderMap, real: &UserInfo) -> Result<Option<Impersonation>, ApiError> {
    let name = single(headers, USER)?;
    let uid = single(headers, UID)?.filter(|uid| !uid.is_empty());
    let groups = all(headers, GROUP)?;
    let extra = extra(headers)?;
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let asked = without_user(uid.as_deref(), &groups, &extra);
        return if asked.is_empty() {
            Ok(None)
        } else {
            Err(ApiError::bad_request(format!(
                "requested [{}] without impersonating a user",
                asked.join(" ")
            )))
        };
    };
    let needs = needs(real, &name, uid.as_deref(), &groups, &extra);
    let groups = final_groups(&name, groups);
    let user = UserInfo { name, uid: uid.unwrap_or_default(), groups, extra };
    Ok(Some(Impersonation { user, needs }))
}

/// What is impersonated, as upstream shows it: an ObjectReference in Go's notation for each.
fn without_user(uid: Option<&str>, groups: &[String], extra: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let groups = groups.iter().map(|group| format!("{{Group  {group}    }}"));
    let extra = extra.iter().flat_map(|(key, values)| {
        values.iter().map(move |value| format!("{{UserExtra  {value}  {AUTHENTICATION_GROUP}/v1  {key}}}"))
    });
    let uid = uid.map(|uid| format!("{{UID  {uid}  {AUTHENTICATION_GROUP}/v1  }}"));
    groups.chain(extra).chain(uid).collect()
}

/// One permission for every fact that is assumed.
fn needs(
    real: &UserInfo,
    name: &str,
    uid: Option<&str>,
    groups: &[String],
    extra: &BTreeMap<String, Vec<String>>,
) -> Vec<Attributes> {
    let ask = |api_group: &str, resource: &str, namespace: &str, subresource: &str, name: &str| Attributes {
        user: real.clone(),
        verb: "impersonate".into(),
        api_group: api_group.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        name: name.into(),
        namespace: namespace.into(),
        ..Attributes::default()
    };
    let mut needs = vec![match claims::split_user_name(name) {
        Some((namespace, account)) => ask("", "serviceaccounts", namespace, "", account),
        None => ask("", "users", "", "", name),
    }];
    needs.extend(uid.map(|uid| ask(AUTHENTICATION_GROUP, "uids", "", "", uid)));
    needs.extend(groups.iter().map(|group| ask("", "groups", "", "", group)));
    for (key, values) in extra {
        needs.extend(values.iter().map(|value| ask(AUTHENTICATION_GROUP, "userextras", "", key, value)));
    }
    needs
}

/// The groups as asked for, or those of the ServiceAccount; then what every (un)authenticated user has.
fn final_groups(name: &str, mut groups: Vec<String>) -> Vec<String> {
    if groups.is_empty()
        && let Some((namespace, _)) = claims::split_user_name(name)
    {
        groups.extend(claims::group_names(namespace));
    }
    let has = |wanted: &str| groups.iter().any(|group| group == wanted);
    let missing = match name == ANONYMOUS {
        true => (!has(UNAUTHENTICATED)).then_some(UNAUTHENTICATED),
        false => (!has(AUTHENTICATED) && !has(UNAUTHENTICATED)).then_some(AUTHENTICATED),
    };
    groups.extend(missing.map(str::to_owned));
    groups
}

fn extra(headers: &HeaderMap) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let mut extra = BTreeMap::new();
    for header in headers.keys() {
        let Some(key) = header.as_str().strip_prefix(EXTRA_PREFIX) else { continue };
        let key = percent_decoded(key)
            .filter(|key| !key.is_empty())
            .ok_or_else(|| ApiError::bad_request(format!("header {header} names no extra")))?;
        extra.insert(key, all(headers, header.as_str())?);
    }
    Ok(extra)
}

fn all(headers: &HeaderMap, header: &str) -> Result<Vec<String>, ApiError> {
    headers
        .get_all(header)
        .iter()
        .map(|value| {
            std::str::from_utf8(value.as_bytes())
                .map(str::to_owned)
                .map_err(|_| ApiError::bad_request(format!("header {header} is not UTF-8")))
        })
        .collect()
}

fn single(headers: &HeaderMap, header: &str) -> Result<Option<String>, ApiError> {
    let mut values = all(headers, header)?;
    let last = values.pop();
    if values.is_empty() {
        Ok(last)
    } else {
        Err(ApiError::bad_request(format!("header {header} may be given only once")))
    }
}

/// Header names cannot hold every character of an extra's key: `%xx` stands for the rest.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}
