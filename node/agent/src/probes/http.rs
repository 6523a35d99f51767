//! HTTP and HTTPS probes, as the kubelet makes them: certificates are not checked, redirects are followed on the same
//! host, and any status from 200 to 399 passes.

use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::reach::{Target, authority, dial, host, port};

/// How much of an answer's body is read, in bytes.
const BODY_LIMIT: usize = 10 * 1024;
/// How many redirects are followed, as with Go's client.
const MAX_REDIRECTS: usize = 10;
const AGENT: &str = "kube-probe/1.35";

/// Where one request goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// With the query.
    pub(super) path: String,
}

impl Place {
    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", authority(&self.host, self.port), self.path)
    }

    /// Where a redirect leads; none if that is another host (which passes, as upstream) or can not be read.
    pub(super) fn redirected(&self, location: &str) -> Option<Place> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(Place { path: location.to_owned(), ..self.clone() });
        }
        let uri: Uri = location.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = uri.host()?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        (host == self.host).then(|| Place { tls, host: host.to_owned(), port, path })
    }
}

/// GET; passes, or says why not.
pub(crate) async fn http_get(
    container: &Container,
    get: &HTTPGetAction,
    target: &Target,
) -> Result<(), String> {
    let path = get.path.as_deref().unwrap_or("/");
    let mut place = Place {
        tls: get.scheme.as_deref() == Some("HTTPS"),
        host: host(get.host.as_deref(), target),
        port: port(container, &get.port)?,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
    };
    for _ in 0..=MAX_REDIRECTS {
        let answer = ask(get, &place).await.map_err(|why| format!("Get \"{}\": {why}", place.url()))?;
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let next = location.filter(|_| is_redirect(answer.status())).and_then(|to| place.redirected(to));
        match (next, answer.status().as_u16()) {
            (Some(next), _) => place = next,
            (None, 200..400) => return Ok(()),
            (None, status) => return Err(format!("HTTP probe failed with statuscode: {status}")),
        }
    }
    Err(format!("Get \"{}\": stopped after {MAX_REDIRECTS} redirects", place.url()))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// One request and the head of its answer.
async fn ask(get: &HTTPGetAction, place: &Place) -> Result<Response<()>, String> {
    let stream = dial(&place.host, place.port).await?;
    if !place.tls {
        return exchange(get, place, stream).await;
    }
    let name = ServerName::try_from(place.host.clone()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(unverified()?));
    let stream = connector.connect(name, stream).await.map_err(|error| format!("tls: {error}"))?;
    exchange(get, place, stream).await
}

async fn exchange(
    get: &HTTPGetAction,
    place: &Place,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<Response<()>, String> {
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = request(get, place).map_err(|error| error.to_string())?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
        // The body is taken off the wire so that the server sees a clean end, but no more of it than is reasonable.
        let _ = Limited::new(body, BODY_LIMIT).collect().await;
        Ok(Response::from_parts(head, ()))
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(failed(error)),
        },
    }
}

/// The probe's own headers win; one with an empty value is left out where there is a default for it.
fn request(get: &HTTPGetAction, place: &Place) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let own = get.http_headers.as_deref().unwrap_or_default();
    let has = |name: &str| own.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    let defaults = [
        ("host", authority(&place.host, place.port)),
        ("user-agent", AGENT.into()),
        ("accept", "*/*".into()),
    ];
    let mut builder = Request::get(&place.path).header("connection", "close");
    for (name, value) in defaults.iter().filter(|(name, _)| !has(name)) {
        builder = builder.header(*name, value);
    }
    for header in own {
        let emptied =
            header.value.is_empty() && ["user-agent", "accept"].contains(&&*header.name.to_lowercase());
        if !emptied {
            builder = builder.header(&header.name, &header.value);
        }
    }
    builder.body(Empty::new())
}

fn unverified() -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    Ok(config.with_no_client_auth())
}

/// Takes any certificate: a probe asks whether a server answers, not who it is. Signatures are still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
