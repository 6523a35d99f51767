//! Secrets of ServiceAccounts' tokens say when these were last used, so that nobody takes away what is needed.

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::authn::legacy::{LAST_USED, date};
use crate::authn::notes::UsedSecret;
use crate::authn::text;
use crate::server::{ApiServer, Inner};

/// Writes today's date into the Secret, behind the request that has used its token: a store that does not answer is no
/// reason to refuse it. Requests that come meanwhile do not write as well.
pub(crate) fn mark(server: &Arc<Inner>, used: UsedSecret) {
    if !server.marking.lock().insert(used.clone()) {
        return;
    }
    let server = server.clone();
    tokio::spawn(async move {
        let api = ApiServer { inner: server };
        if let Err(why) = write(&api, &used).await {
            let UsedSecret { namespace, name, .. } = &used;
            tracing::warn!(namespace, name, why, "a Secret does not say that its token was used");
        }
        api.inner.marking.lock().remove(&used);
    });
}

async fn write(api: &ApiServer, used: &UsedSecret) -> Result<(), String> {
    let UsedSecret { namespace, name, uid } = used;
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    let (code, mut secret) = api.request(Method::GET, &path, None).await;
    if code != 200 || text(&secret, "/metadata/uid") != uid {
        return Err(text(&secret, "/message").to_owned());
    }
    if !secret.pointer("/metadata/labels").is_some_and(Value::is_object) {
        secret["metadata"]["labels"] = json!({});
    }
    secret["metadata"]["labels"][LAST_USED] = json!(date(Timestamp::now()));
    // Another server that was quicker has written the same.
    api.replace(&path, &secret).await.map_err(|error| error.to_string())
}
