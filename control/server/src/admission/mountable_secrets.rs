//! `kubernetes.io/enforce-mountable-secrets`: pods of an account with this annotation use the account's Secrets alone. A
//! part of ServiceAccount; rules and words are upstream's.

use std::collections::HashSet;

use carrack_api::meta;
use serde_json::Value;

use super::list;
use crate::authn::text;

const ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";
/// What upstream's reader of switches takes for yes.
const YES: &[&str] = &["1", "t", "T", "true", "TRUE", "True"];
/// The lists of containers, and what one of them is called.
const CONTAINERS: &[(&str, &str)] = &[
    ("/spec/initContainers", "init container"),
    ("/spec/containers", "container"),
    ("/spec/ephemeralContainers", "ephemeral container"),
];

/// Refuses a pod that uses what its account does not name, where the account says so.
pub(super) fn check(account: &Value, pod: &Value) -> Result<(), String> {
    if !meta::annotation(account, ANNOTATION).is_some_and(|value| YES.contains(&value)) {
        return Ok(());
    }
    let name = text(account, "/metadata/name");
    let names = |place: &str| list(account, place).map(|entry| text(entry, "/name")).collect::<HashSet<_>>();
    let (secrets, pull_secrets) = (names("/secrets"), names("/imagePullSecrets"));
    let outside = |what: String, kind: &str| {
        Err(format!("{what} is not allowed because service account {name} does not reference that {kind}"))
    };
    for volume in list(pod, "/spec/volumes").filter(|volume| volume.get("secret").is_some()) {
        let secret = text(volume, "/secret/secretName");
        if !secrets.contains(secret) {
            return outside(format!("volume with secret.secretName={secret:?}"), "secret");
        }
    }
    for (place, word) in CONTAINERS {
        for container in list(pod, place) {
            for variable in list(container, "/env") {
                let secret = text(variable, "/valueFrom/secretKeyRef/name");
                if !secret.is_empty() && !secrets.contains(secret) {
                    let (container, variable) = (text(container, "/name"), text(variable, "/name"));
                    let what = format!(
                        "{word} {container} with envVar {variable} referencing secret.secretName={secret:?}"
                    );
                    return outside(what, "secret");
                }
            }
            for secret in list(container, "/envFrom").map(|from| text(from, "/secretRef/name")) {
                if !secret.is_empty() && !secrets.contains(secret) {
                    let container = text(container, "/name");
                    let what =
                        format!("{word} {container} with envFrom referencing secret.secretName={secret:?}");
                    return outside(what, "secret");
                }
            }
        }
    }
    for (index, secret) in list(pod, "/spec/imagePullSecrets").map(|entry| text(entry, "/name")).enumerate() {
        if !pull_secrets.contains(secret) {
            return outside(format!("imagePullSecrets[{index}].name={secret:?}"), "imagePullSecret");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_account_can_keep_its_pods_to_its_secrets() {
        let account = |enforced: &str| {
            json!({"metadata": {"name": "a", "annotations": {ANNOTATION: enforced}}, "secrets": [{"name": "own"}],
                "imagePullSecrets": [{"name": "pull"}]})
        };
        let env = |secret: &str| json!({"containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret}}}]}]});
        let because = |what: &str, kind: &str| {
            format!("{what} is not allowed because service account a does not reference that {kind}")
        };
        for (spec, expected) in [
            (json!({"volumes": [{"secret": {"secretName": "own"}}, {"emptyDir": {}}]}), String::new()),
            (
                json!({"volumes": [{"secret": {"secretName": "other"}}]}),
                because("volume with secret.secretName=\"other\"", "secret"),
            ),
            (env("own"), String::new()),
            (
                env("other"),
                because("container c with envVar E referencing secret.secretName=\"other\"", "secret"),
            ),
            (
                json!({"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]}),
                because("init container i with envFrom referencing secret.secretName=\"other\"", "secret"),
            ),
            (json!({"imagePullSecrets": [{"name": "pull"}]}), String::new()),
            (
                json!({"imagePullSecrets": [{"name": "pull"}, {"name": "own"}]}),
                because("imagePullSecrets[1].name=\"own\"", "imagePullSecret"),
            ),
        ] {
            let pod = json!({ "spec": spec });
            let found = check(&account("true"), &pod).err().unwrap_or_default();
            assert_eq!(found, expected, "{pod}");
            assert_eq!(check(&account("false"), &pod), Ok(()));
        }
    }
}
