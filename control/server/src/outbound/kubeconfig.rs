//! Where a webhook is and who one is there: kubeconfig files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::credentials::{Authorization, Credentials};
use super::target::{Place, Target};
use super::trust::{Trust, identity};

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
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
    #[serde(default)]
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

/// A file, with paths in it relative to its own directory.
pub(super) struct Kubeconfig<'a> {
    path: &'a Path,
    directory: &'a Path,
    document: Document,
}

fn read(path: &Path) -> Result<String, KubeconfigError> {
    std::fs::read_to_string(path).map_err(|source| KubeconfigError::Read { path: path.into(), source })
}

impl<'a> Kubeconfig<'a> {
    /// Reads the file at `path`.
    pub(super) fn read(path: &'a Path) -> Result<Self, KubeconfigError> {
        let text = read(path)?;
        let document = serde_saphyr::from_str(&text)
            .map_err(|error| KubeconfigError::Malformed { path: path.into(), why: error.to_string() })?;
        Ok(Kubeconfig { path, directory: path.parent().unwrap_or(Path::new(".")), document })
    }

    /// The server of the current context, called as its user.
    pub(super) fn target(&self) -> Result<Target, KubeconfigError> {
        let document = &self.document;
        let context = self
            .context()
            .ok_or_else(|| self.unusable("it has no context of the name that current-context says"))?;
        let cluster = document.clusters.iter().find(|named| named.name == context.cluster);
        let cluster =
            &cluster.ok_or_else(|| self.unusable("the current context names no cluster in it"))?.value;
        let credentials = match document.users.iter().find(|named| named.name == context.user) {
            Some(named) => self.credentials(&named.value)?,
            None if context.user.is_empty() => Credentials::default(),
            None => return Err(self.unusable("the current context names no user in it")),
        };
        self.check(cluster)?;
        let authority = cluster.certificate_authority.as_deref();
        let authorities = self.text(cluster.certificate_authority_data.as_deref(), authority)?;
        let trust = Trust::of_bundle(authorities.as_deref().unwrap_or_default())
            .and_then(|trust| trust.named(cluster.tls_server_name.as_deref()))
            .map_err(|why| self.unusable(&why.to_string()))?;
        let place = Place::Url(cluster.server.clone());
        Ok(Target::new(place, trust).with(&Arc::new(credentials)))
    }

    /// All users by their names, and the name of the current context's.
    #[expect(clippy::type_complexity, reason = "it is read once, into fields with names")]
    pub(super) fn users(
        &self,
    ) -> Result<(BTreeMap<String, Arc<Credentials>>, Option<String>), KubeconfigError> {
        let mut users = BTreeMap::new();
        for named in &self.document.users {
            users.insert(named.name.clone(), Arc::new(self.credentials(&named.value)?));
        }
        Ok((users, self.context().map(|context| context.user.clone())))
    }

    fn context(&self) -> Option<&Context> {
        let document = &self.document;
        document
            .contexts
            .iter()
            .find(|named| named.name == document.current_context)
            .map(|named| &named.value)
    }

    /// What upstream can do and this server does not is refused, rather than left out.
    fn check(&self, cluster: &Cluster) -> Result<(), KubeconfigError> {
        let wrong = [
            (
                cluster.insecure_skip_tls_verify,
                "insecure-skip-tls-verify would hand out tokens to whoever answers: give certificate-authority",
            ),
            (cluster.proxy_url.is_some(), "proxy-url is not supported"),
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

    fn credentials(&self, user: &User) -> Result<Credentials, KubeconfigError> {
        if user.exec.is_some() || user.auth_provider.is_some() {
            let why = "a user with exec or auth-provider is not supported: give a certificate or a token";
            return Err(self.unusable(why));
        }
        let certificate =
            self.text(user.client_certificate_data.as_deref(), user.client_certificate.as_deref())?;
        let key = self.text(user.client_key_data.as_deref(), user.client_key.as_deref())?;
        let identity = match (certificate, key) {
            (Some(chain), Some(key)) => Some(identity(&chain, &key).map_err(|why| self.unusable(&why))?),
            (None, None) => None,
            _ => return Err(self.unusable("a client certificate needs its client key, and the reverse")),
        };
        Ok(Credentials { identity, authorization: self.authorization(user)? })
    }

    fn authorization(&self, user: &User) -> Result<Option<Authorization>, KubeconfigError> {
        let text = match (&user.token_file, &user.token, &user.username) {
            (Some(file), ..) => {
                let found = Authorization::file(self.directory.join(file));
                return found.map(Some).map_err(|why| self.unusable(&why));
            }
            (None, Some(token), _) => format!("Bearer {token}"),
            (None, None, Some(name)) => {
                let password = user.password.as_deref().unwrap_or_default();
                format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
            }
            (None, None, None) => return Ok(None),
        };
        let value = Authorization::fixed(&text);
        value.map(Some).ok_or_else(|| self.unusable("the token is not printable text"))
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
