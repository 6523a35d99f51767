//! Secrets that hold a lasting token of a ServiceAccount: they are filled in, and go with their account.
//!
//! Who wants one creates a Secret of type `kubernetes.io/service-account-token` with the account's name as an annotation.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrack_store::{Event, EventKind};
use serde_json::{Value, json};

use super::{CareError, Job, list, mentions};
use crate::authn::legacy::{ACCOUNT_NAME, ACCOUNT_UID, SECRET_TYPE};
use crate::authn::text;
use crate::server::ApiServer;

pub(super) struct AccountTokens;

#[async_trait::async_trait]
impl Job for AccountTokens {
    fn name(&self) -> &'static str {
        "tokens of ServiceAccounts"
    }

    fn watched(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "secrets"), ("", "serviceaccounts")]
    }

    fn concerns(&self, event: &Event) -> bool {
        let made = event.prev.is_none() || event.kind == EventKind::Delete;
        mentions(event, SECRET_TYPE) || (made && mentions(event, "\"ServiceAccount\""))
    }

    async fn sweep(&self, api: &ApiServer) -> Result<Option<Duration>, CareError> {
        let mut secrets = list(api, "", "secrets", "").await?;
        secrets.retain(|secret| text(secret, "/type") == SECRET_TYPE);
        if secrets.is_empty() {
            return Ok(None);
        }
        let accounts = list(api, "", "serviceaccounts", "").await?;
        let id =
            |object: &Value, name: &str| (text(object, "/metadata/namespace").to_owned(), name.to_owned());
        let accounts: HashMap<_, _> = accounts
            .iter()
            .filter(|account| text(account, "/metadata/deletionTimestamp").is_empty())
            .map(|account| (id(account, text(account, "/metadata/name")), account))
            .collect();
        for secret in &secrets {
            let account = accounts.get(&id(secret, &annotation(secret, ACCOUNT_NAME)));
            settle(api, secret, account.copied()).await?;
        }
        Ok(None)
    }
}

fn annotation(secret: &Value, key: &str) -> String {
    let annotations = secret.pointer("/metadata/annotations");
    annotations.and_then(|all| all.get(key)).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Fills in a Secret, or removes it when its account is gone or another one of the same name.
async fn settle(api: &ApiServer, secret: &Value, account: Option<&Arc<Value>>) -> Result<(), CareError> {
    let (namespace, name) = (text(secret, "/metadata/namespace"), text(secret, "/metadata/name"));
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    let uid = annotation(secret, ACCOUNT_UID);
    let account = account.filter(|account| uid.is_empty() || uid == text(account, "/metadata/uid"));
    let Some(account) = account else {
        tracing::info!(namespace, name, "a token's ServiceAccount is gone, and so is its Secret");
        return Ok(api.remove(&path, secret).await?);
    };
    let mut filled = secret.clone();
    filled["metadata"]["annotations"][ACCOUNT_UID] = json!(text(account, "/metadata/uid"));
    let Some(data) = api.inner.config.tokens.secret_data(account, name) else { return Ok(()) };
    for (key, value) in data? {
        let held = filled.pointer("/data").and_then(|data| data.get(key)).and_then(Value::as_str);
        // A token is written once: each signature is another one.
        if held.is_none_or(str::is_empty) || (key != "token" && held != Some(&STANDARD.encode(&value))) {
            if !filled.get("data").is_some_and(Value::is_object) {
                filled["data"] = json!({});
            }
            filled["data"][key] = json!(STANDARD.encode(value));
        }
    }
    if filled != *secret {
        api.replace(&path, &filled).await?;
    }
    Ok(())
}
