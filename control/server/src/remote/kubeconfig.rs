//! Where a webhook is and who one is there: a kubeconfig file, of which the current context counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde::Deserialize;
use serde_json::Value;

use super::{Remote, RemoteError, Security};

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum KubeconfigError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is no kubeconfig: {why}", path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("{}: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
    #[error("{}: {source}", path.display())]
    Remote { path: PathBuf, source: RemoteError },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    value: T,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    proxy_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<serde::de::IgnoredAny>,
    #[serde(rename = "auth-provider")]
    auth_provider: Option<serde::de::IgnoredAny>,
}

/// A webhook: its URL, and a client that it knows.
#[derive(Clone)]
pub struct Target {
    remote: Remote,
    url: String,
    authorization: Option<HeaderValue>,
}

impl Target {
    /// Reads the kubeconfig at `path`; a request takes `timeout` at most.
    pub fn open(path: &Path, timeout: Duration) -> Result<Self, KubeconfigError> {
        let text = read(path)?;
        let malformed = |why: String| KubeconfigError::Malformed { path: path.into(), why };
        let file: Document = serde_saphyr::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        Reader { path, directory: path.parent().unwrap_or(Path::new(".")) }.target(file, timeout)
    }

    /// What the webhook answers to `body`.
    pub(crate) async fn post(&self, body: &Value) -> Result<Value, RemoteError> {
        self.remote.post(&self.url, self.authorization.clone(), body).await
    }
}

fn read(path: &Path) -> Result<String, KubeconfigError> {
    std::fs::read_to_string(path).map_err(|source| KubeconfigError::Read { path: path.into(), source })
}

/// Reads a kubeconfig; paths in it are relative to its own directory.
struct Reader<'a> {
    path: &'a Path,
    directory: &'a Path,
}

impl Reader<'_> {
    fn target(&self, file: Document, timeout: Duration) -> Result<Target, KubeconfigError> {
        let find = |name: &str| file.contexts.iter().find(|context| context.name == name);
        let (cluster, user) = match find(&file.current_context) {
            Some(context) => (context.value.cluster.clone(), context.value.user.clone()),
            None => return Err(self.unusable("it has no context of the name that current-context says")),
        };
        let cluster = file.clusters.into_iter().find(|named| named.name == cluster);
        let cluster =
            cluster.ok_or_else(|| self.unusable("the current context names no cluster in it"))?.value;
        let user = match file.users.into_iter().find(|named| named.name == user) {
            Some(named) => named.value,
            None if user.is_empty() => User::default(),
            None => return Err(self.unusable("the current context names no user in it")),
        };
        self.check(&cluster, &user)?;
        let certificate =
            self.text(user.client_certificate_data.as_deref(), user.client_certificate.as_deref())?;
        let key = self.text(user.client_key_data.as_deref(), user.client_key.as_deref())?;
        let authority = cluster.certificate_authority.as_deref();
        let security = Security {
            authorities: self.text(cluster.certificate_authority_data.as_deref(), authority)?,
            identity: certificate.zip(key),
            server_name: cluster.tls_server_name.clone(),
        };
        let remote = Remote::new(&security, timeout)
            .map_err(|source| KubeconfigError::Remote { path: self.path.into(), source })?;
        Ok(Target { remote, url: cluster.server, authorization: self.authorization(&user)? })
    }

    /// What upstream can do and this server does not is refused, rather than left out.
    fn check(&self, cluster: &Cluster, user: &User) -> Result<(), KubeconfigError> {
        let wrong = [
            (
                cluster.insecure_skip_tls_verify,
                "insecure-skip-tls-verify would hand out tokens to whoever answers: give certificate-authority",
            ),
            (cluster.proxy_url.is_some(), "proxy-url is not supported"),
            (
                user.exec.is_some() || user.auth_provider.is_some(),
                "a user with exec or auth-provider is not supported: give a certificate or a token",
            ),
            (
                !(cluster.server.starts_with("https://") || cluster.server.starts_with("http://")),
                "the cluster's server has to be a URL with https:// in front",
            ),
        ];
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, why)) => Err(self.unusable(why)),
            None => Ok(()),
        }
    }

    fn authorization(&self, user: &User) -> Result<Option<HeaderValue>, KubeconfigError> {
        let token = match (&user.token, &user.token_file) {
            (_, Some(file)) => Some(read(&self.directory.join(file))?.trim().to_owned()),
            (token, None) => token.clone(),
        };
        let text = match (token, &user.username) {
            (Some(token), _) => format!("Bearer {token}"),
            (None, Some(name)) => {
                let password = user.password.as_deref().unwrap_or_default();
                format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
            }
            (None, None) => return Ok(None),
        };
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| self.unusable("the token is not printable text"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// PEM text that is in the file itself, or beside it.
    fn text(&self, data: Option<&str>, file: Option<&Path>) -> Result<Option<String>, KubeconfigError> {
        let Some(data) = data else {
            return file.map(|file| read(&self.directory.join(file))).transpose();
        };
        let bytes = STANDARD.decode(data).map_err(|_| self.unusable("a …-data field is not base64"))?;
        String::from_utf8(bytes).map(Some).map_err(|_| self.unusable("a …-data field holds no PEM text"))
    }

    fn unusable(&self, why: &str) -> KubeconfigError {
        KubeconfigError::Unusable { path: self.path.into(), why: why.into() }
    }
}
