//! Writes kubeconfig files, everything embedded, so that one file is all a client needs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::issue::KeyMaterial;

/// The text of a kubeconfig with one user, and a cluster and a context for each server.
///
/// `server` is a URL (`https://10.0.0.1:6443`), `others` are further ones by name, `user` is the name shown for the
/// identity.
pub(super) fn render(
    server: &str,
    others: &[(String, String)],
    ca_pem: &str,
    user: &str,
    identity: &KeyMaterial,
) -> String {
    let ca = STANDARD.encode(ca_pem);
    let certificate = STANDARD.encode(&identity.cert_pem);
    let key = STANDARD.encode(&identity.key_pem);
    let named = others.iter().map(|(name, url)| (format!("carrack-{name}"), url.as_str()));
    let all: Vec<(String, &str)> = std::iter::once(("carrack".to_owned(), server)).chain(named).collect();
    let (mut clusters, mut contexts) = (String::new(), String::new());
    for (cluster, url) in &all {
        let (name, url, context) = (quoted(cluster), quoted(url), quoted(&format!("{user}@{cluster}")));
        clusters += &format!(
            "- name: {name}\n\
            \x20 cluster:\n\
            \x20   certificate-authority-data: {ca}\n\
            \x20   server: {url}\n"
        );
        contexts += &format!(
            "- name: {context}\n\
            \x20 context:\n\
            \x20   cluster: {name}\n\
            \x20   user: {}\n",
            quoted(user)
        );
    }
    let (user_text, context) = (quoted(user), quoted(&format!("{user}@carrack")));
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         {clusters}\
         users:\n\
         - name: {user_text}\n\
        \x20 user:\n\
        \x20   client-certificate-data: {certificate}\n\
        \x20   client-key-data: {key}\n\
         contexts:\n\
         {contexts}\
         current-context: {context}\n\
         preferences: {{}}\n"
    )
}

/// A YAML double-quoted scalar: JSON's strings are a subset of them.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
