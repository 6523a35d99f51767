//! Bootstrap tokens: what a machine shows that is to become a node, kept as Secrets in `kube-system`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::judge::{Accepted, Refusal, TokenJudge, among};
use super::objects::{Objects, text};
use crate::UserInfo;

/// The type of the Secrets.
pub(crate) const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// Their namespace.
pub(crate) const NAMESPACE: &str = "kube-system";
/// What begins their names; the token's id follows.
pub(crate) const NAME_PREFIX: &str = "bootstrap-token-";
const GROUP: &str = "system:bootstrappers";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// Judges bootstrap tokens.
pub(super) struct BootstrapTokens {
    pub(super) objects: Arc<dyn Objects>,
    pub(super) own_audiences: Vec<String>,
}

/// A value of a Secret's data.
pub(crate) fn data(secret: &Value, key: &str) -> Option<String> {
    let encoded = secret.get("data")?.get(key)?.as_str()?;
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

/// Whether a token's time is over. A time that cannot be read is over.
pub(crate) fn is_expired(secret: &Value, now: Timestamp) -> bool {
    match data(secret, "expiration") {
        None => false,
        Some(text) if text.is_empty() => false,
        Some(text) => text.parse::<Timestamp>().map_or(true, |until| now >= until),
    }
}

/// Id and secret of a token: `[a-z0-9]{6}.[a-z0-9]{16}`.
pub(crate) fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && plain(id) && plain(secret))
        .then_some((id, secret))
}

#[async_trait::async_trait]
impl TokenJudge for BootstrapTokens {
    async fn judge(&self, token: &str, audiences: &[String]) -> Result<Option<Accepted>, Refusal> {
        let Some((id, secret)) = split(token) else { return Ok(None) };
        let name = format!("{NAME_PREFIX}{id}");
        let Some(found) = self.objects.get("", "secrets", NAMESPACE, &name).await? else { return Ok(None) };
        let user = user(&found, id, secret, Timestamp::now());
        let Some(user) = user.map_err(|why| format!("bootstrap token {id:?}: {why}"))? else {
            return Ok(None);
        };
        Ok(Some(Accepted { user, audiences: among(audiences, &self.own_audiences)? }))
    }
}

/// The user behind a token that this Secret is about; `None` when it is another token, or none to log in with.
fn user(stored: &Value, id: &str, secret: &str, now: Timestamp) -> Result<Option<UserInfo>, String> {
    let usable =
        text(stored, "/type") == SECRET_TYPE && text(stored, "/metadata/deletionTimestamp").is_empty();
    let value = |key: &str| data(stored, key).unwrap_or_default();
    // How long the comparison of digests takes says nothing of the secret.
    let same = Sha256::digest(value("token-secret").as_bytes()) == Sha256::digest(secret.as_bytes());
    if !usable || !same || value("token-id") != id {
        return Ok(None);
    }
    if is_expired(stored, now) || value("usage-bootstrap-authentication") != "true" {
        return Ok(None);
    }
    let mut user = UserInfo::new(format!("system:bootstrap:{id}"), [GROUP]);
    let extra = value("auth-extra-groups");
    for group in extra.split(',').filter(|group| !group.is_empty()) {
        if !is_bootstrap_group(group) {
            return Err(format!("bootstrap group {group:?} is invalid (it must begin with {GROUP}:)"));
        }
        if !user.in_group(group) {
            user.groups.push(group.to_owned());
        }
    }
    Ok(Some(user))
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`: a token must not lead into any other group.
fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().last().is_some_and(fits)
        && rest.bytes().all(|b| fits(b) || b == b':' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(change: &[(&str, Option<&str>)]) -> Value {
        let mut secret =
            json!({"type": SECRET_TYPE, "metadata": {"name": "bootstrap-token-abcdef"}, "data": {}});
        let standard = [
            ("token-id", Some("abcdef")),
            ("token-secret", Some("0123456789abcdef")),
            ("usage-bootstrap-authentication", Some("true")),
        ];
        for (key, value) in standard.iter().chain(change) {
            secret["data"][*key] = value.map_or(Value::Null, |value| json!(STANDARD.encode(value)));
        }
        secret
    }

    #[test]
    fn tokens_have_their_form() {
        assert_eq!(split("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for wrong in
            ["abcdef", "ABCDEF.0123456789abcdef", "abcde.0123456789abcdef", "abcdef.0123456789abcde", "a.b.c"]
        {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_live_token_for_logging_in_logs_in() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let judge = |secret: &Value, given: &str| user(secret, "abcdef", given, now);
        let good = "0123456789abcdef";
        let found =
            judge(&secret(&[("auth-extra-groups", Some("system:bootstrappers:kubeadm:default"))]), good);
        let found = found.unwrap().unwrap();
        assert_eq!(found.name, "system:bootstrap:abcdef");
        let groups = ["system:bootstrappers", "system:authenticated", "system:bootstrappers:kubeadm:default"];
        assert_eq!(found.groups, groups);
        for (what, secret, given) in [
            ("another secret", secret(&[]), "0123456789abcdeg"),
            ("expired", secret(&[("expiration", Some("2025-12-31T23:59:59Z"))]), good),
            ("a time nobody can read", secret(&[("expiration", Some("tomorrow"))]), good),
            ("not for logging in", secret(&[("usage-bootstrap-authentication", Some("false"))]), good),
            ("another id", secret(&[("token-id", Some("ghijkl"))]), good),
            ("no id", secret(&[("token-id", None)]), good),
        ] {
            assert_eq!(judge(&secret, given), Ok(None), "{what}");
        }
        assert!(judge(&secret(&[("expiration", Some("2026-01-01T00:00:01Z"))]), good).unwrap().is_some());
        let mut opaque = secret(&[]);
        opaque["type"] = json!("Opaque");
        assert_eq!(judge(&opaque, good), Ok(None));
        let mut going = secret(&[]);
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(judge(&going, good), Ok(None));
        for group in
            ["system:masters", "system:bootstrappers:", "system:bootstrappers:A", "system:bootstrappersx"]
        {
            assert!(judge(&secret(&[("auth-extra-groups", Some(group))]), good).is_err(), "{group}");
        }
    }
}
