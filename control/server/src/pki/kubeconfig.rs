//! Writes kubeconfig files, everything embedded, so that one file is all a client needs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::issue::KeyMaterial;

/// The text of a kubeconfig with one cluster, one user and one context.
///
/// `server` is a URL (`https://10.0.0.1:6443`), `user` the name shown for the identity.
pub(super) fn render(server: &str, ca_pem: &str, user: &str, identity: &KeyMaterial) -> String {
    let ca = STANDARD.encode(ca_pem);
    let certificate = STANDARD.encode(&identity.cert_pem);
    let key = STANDARD.encode(&identity.key_pem);
    let server = quoted(server);
    let user_text = quoted(user);
    let context = quoted(&format!("{user}@carrack"));
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: carrack\n\
        \x20 cluster:\n\
        \x20   certificate-authority-data: {ca}\n\
        \x20   server: {server}\n\
         users:\n\
         - name: {user_text}\n\
        \x20 user:\n\
        \x20   client-certificate-data: {certificate}\n\
        \x20   client-key-data: {key}\n\
         contexts:\n\
         - name: {context}\n\
        \x20 context:\n\
        \x20   cluster: carrack\n\
        \x20   user: {user_text}\n\
         current-context: {context}\n\
         preferences: {{}}\n"
    )
}

/// A YAML double-quoted scalar: JSON's strings are a subset of them.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
