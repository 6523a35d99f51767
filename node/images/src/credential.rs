//! Credentials for registries, and where they come from: the docker configuration in pull secrets.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::reference::Reference;

/// What to show one registry, or a part of one.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// `host[:port][/path]`: used for references that begin so. A host part may hold `*` for one label,
    /// as in `*.dkr.example.com`. Empty: used for every registry.
    pub registry: String,
    /// User name for Basic authentication and for asking for tokens. May be empty.
    pub username: String,
    /// Password that goes with the user name. May be empty.
    pub password: String,
    /// OAuth2 refresh token; when there is one it is used in place of the password.
    pub identity_token: Option<String>,
}

/// Passwords do not belong in logs.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({} for \"{}\")", self.username, self.registry)
    }
}

/// Why a pull secret gives no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Not JSON, or not the form `docker login` writes.
    #[error("the docker configuration cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The `auth` of a registry is not base64 of `user:password`.
    #[error("the credentials for \"{0}\" are not base64 of user:password")]
    Auth(String),
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerAuth {
    auth: String,
    username: String,
    password: String,
    identitytoken: Option<String>,
}

impl Credential {
    /// Reads a Secret of type `kubernetes.io/dockerconfigjson`, key `.dockerconfigjson`.
    pub fn from_docker_config(json: &[u8]) -> Result<Vec<Credential>, CredentialError> {
        let config: DockerConfig = serde_json::from_slice(json)?;
        config.auths.into_iter().map(|(registry, auth)| read_auth(registry, auth)).collect()
    }

    /// Reads a Secret of the old type `kubernetes.io/dockercfg`, key `.dockercfg`.
    pub fn from_docker_cfg(json: &[u8]) -> Result<Vec<Credential>, CredentialError> {
        let auths: BTreeMap<String, DockerAuth> = serde_json::from_slice(json)?;
        auths.into_iter().map(|(registry, auth)| read_auth(registry, auth)).collect()
    }

    /// Whether the credential is meant for the reference, and how closely: the length of the path that
    /// matched. As the kubelet's keyring does.
    pub(crate) fn matches(&self, reference: &Reference) -> Option<usize> {
        if self.registry.is_empty() {
            return Some(0);
        }
        let (host, path) = self.registry.split_once('/').unwrap_or((&self.registry, ""));
        let path = path.trim_end_matches('/');
        let inside = reference.repository().strip_prefix(path);
        let path_matches =
            inside.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'));
        match host_matches(host, reference.registry()) && path_matches {
            true => Some(host.len() + path.len()),
            false => None,
        }
    }
}

fn host_matches(pattern: &str, host: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let host: Vec<&str> = host.split('.').collect();
    let label = |(pattern, host): (&&str, &&str)| match pattern.split_once('*') {
        None => pattern == host,
        Some((head, tail)) => {
            host.len() >= head.len() + tail.len() && host.starts_with(head) && host.ends_with(tail)
        }
    };
    pattern.len() == host.len() && pattern.iter().zip(&host).all(label)
}

fn read_auth(registry: String, auth: DockerAuth) -> Result<Credential, CredentialError> {
    let (username, password) = match auth.auth.is_empty() {
        true => (auth.username, auth.password),
        false => {
            let wrong = || CredentialError::Auth(registry.clone());
            let bytes = STANDARD.decode(auth.auth.trim()).map_err(|_| wrong())?;
            let text = String::from_utf8(bytes).map_err(|_| wrong())?;
            let (username, password) = text.split_once(':').ok_or_else(wrong)?;
            (username.to_owned(), password.trim_end_matches('\0').to_owned())
        }
    };
    Ok(Credential {
        registry: plain_registry(&registry),
        username,
        password,
        identity_token: auth.identitytoken,
    })
}

/// `docker login` writes `https://index.docker.io/v1/` for docker.io and sometimes a scheme or an API
/// version for others.
fn plain_registry(written: &str) -> String {
    let rest =
        written.strip_prefix("https://").or_else(|| written.strip_prefix("http://")).unwrap_or(written);
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest);
    match rest.strip_prefix("index.docker.io").or_else(|| rest.strip_prefix("registry-1.docker.io")) {
        Some(path) if path.is_empty() || path.starts_with('/') => format!("docker.io{path}"),
        _ => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_login_writes() {
        let json = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpwYTpzcw=="},
            "localhost:5000":{"username":"u","password":"p"}}}"#;
        let found = Credential::from_docker_config(json).unwrap();
        assert_eq!((found[0].registry.as_str(), found[0].username.as_str()), ("docker.io", "user"));
        assert_eq!(found[0].password, "pa:ss");
        assert_eq!((found[1].registry.as_str(), found[1].password.as_str()), ("localhost:5000", "p"));
        assert!(!format!("{found:?}").contains("pa:ss"));
        let old = br#"{"localhost:5000":{"auth":"dTpw"}}"#;
        assert_eq!(Credential::from_docker_cfg(old).unwrap()[0].username, "u");
    }

    #[test]
    fn refuses_what_is_not_a_configuration() {
        for json in
            [&b"["[..], b"{}", br#"{"auths":{"a":{"auth":"!"}}}"#, br#"{"auths":{"a":{"auth":"YQ=="}}}"#]
        {
            assert!(Credential::from_docker_config(json).is_err());
        }
    }

    #[test]
    fn matches_as_the_kubelet_does() {
        let reference: Reference = "reg.example.com/team/app:1".parse().unwrap();
        let closeness = |registry: &str| {
            let registry = plain_registry(registry);
            let credential = Credential {
                registry,
                username: String::new(),
                password: String::new(),
                identity_token: None,
            };
            credential.matches(&reference)
        };
        assert!(closeness("reg.example.com/team") > closeness("reg.example.com"));
        assert!(closeness("*.example.com").is_some());
        assert!(closeness("https://reg.example.com/v2/").is_some());
        for other in ["example.com", "*.com", "reg.example.com/te", "reg.example.com/team/app/x", "docker.io"]
        {
            assert_eq!(closeness(other), None, "{other}");
        }
    }
}
