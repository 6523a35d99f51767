//! What is called: a URL or a Service, and how its certificate is judged.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use serde_json::Value;

use super::credentials::Credentials;
use super::trust::Trust;
use crate::authn::text;

/// The port of a Service when none is named.
const HTTPS: u16 = 443;

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// `https://host[:port]/path`.
    Url(String),
    /// A Service's port.
    Service { namespace: String, name: String, port: u16, path: String },
}

/// What is called.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) place: Place,
    pub(crate) trust: Arc<Trust>,
    /// Who is to be known there.
    pub(super) credentials: Option<Arc<Credentials>>,
}

/// Why a client configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("a client configuration needs a url or a service")]
    Nowhere,
    #[error("caBundle is not base64: {0}")]
    Encoding(#[from] base64::DecodeError),
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    Bundle,
    #[error("{0:?} is no name of a server")]
    Name(String),
    #[error("{0:?} is no URL with https:// in front")]
    Scheme(String),
}

impl Target {
    /// What is called as nobody.
    pub(crate) fn new(place: Place, trust: Trust) -> Self {
        Target { place, trust: Arc::new(trust), credentials: None }
    }

    /// The same, called as this user.
    #[must_use]
    pub(super) fn with(self, credentials: &Arc<Credentials>) -> Self {
        let trust = match &credentials.identity {
            Some(identity) => Arc::new(Trust::clone(&self.trust).showing(Some(Arc::clone(identity)))),
            None => self.trust,
        };
        Target { trust, credentials: Some(Arc::clone(credentials)), ..self }
    }

    /// Name and port of the server; `None` when the URL names none.
    pub(super) fn host(&self) -> Option<(String, u16)> {
        match &self.place {
            Place::Url(url) => {
                let url: Uri = url.parse().ok()?;
                Some((url.host()?.to_owned(), url.port_u16().unwrap_or(HTTPS)))
            }
            Place::Service { namespace, name, port, .. } => Some((format!("{name}.{namespace}.svc"), *port)),
        }
    }

    /// Reads a `clientConfig` of a webhook or a CustomResourceDefinition: `url` or `service`, and `caBundle`.
    pub(crate) fn of_client_config(config: &Value) -> Result<Self, TargetError> {
        let place = match (config.get("url").and_then(Value::as_str), config.get("service")) {
            (Some(url), _) if !url.starts_with("https://") => {
                return Err(TargetError::Scheme(url.to_owned()));
            }
            (Some(url), _) => Place::Url(url.to_owned()),
            (None, Some(service)) => service_place(service),
            (None, None) => return Err(TargetError::Nowhere),
        };
        Ok(Target::new(place, Trust::of_bundle(&bundle(config)?)?))
    }

    /// The URL as messages tell it; its host is the name that the certificate has to have.
    pub(crate) fn url(&self) -> String {
        match &self.place {
            Place::Url(url) => url.clone(),
            Place::Service { namespace, name, port, path } => {
                format!("https://{name}.{namespace}.svc:{port}{path}")
            }
        }
    }
}

/// A reference to a Service: `namespace`, `name`, `port`, `path`.
pub(crate) fn service_place(service: &Value) -> Place {
    let port = service.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let path = text(service, "/path");
    Place::Service {
        namespace: text(service, "/namespace").to_owned(),
        name: text(service, "/name").to_owned(),
        port: port.unwrap_or(HTTPS),
        path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
    }
}

/// The PEM text in `caBundle`; empty when there is none.
pub(crate) fn bundle(config: &Value) -> Result<String, TargetError> {
    let bytes = STANDARD.decode(text(config, "/caBundle"))?;
    String::from_utf8(bytes).map_err(|_| TargetError::Bundle)
}
