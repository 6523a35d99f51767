//! Why a call out failed, in the words that people know from upstream and search for.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use rustls::CertificateError;

use super::resolve::ResolveError;

/// A call that came to no answer: `Post "https://…": dial tcp …`.
#[derive(Debug, thiserror::Error)]
#[error("{method} {url:?}: {why}")]
pub(crate) struct CallError {
    pub(crate) method: &'static str,
    pub(crate) url: String,
    pub(crate) why: String,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("dial tcp: lookup {host}: {}", if source.kind() == io::ErrorKind::TimedOut { "i/o timeout" } else { "no such host" })]
    LookUp { host: String, source: io::Error },
    #[error("dial tcp: lookup {host}: no such host")]
    Nowhere { host: String },
    #[error("dial tcp {to}: {}", dial_words(source))]
    Tcp { to: SocketAddr, source: io::Error },
}

fn dial_words(error: &io::Error) -> String {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset by peer",
        io::ErrorKind::HostUnreachable => "no route to host",
        io::ErrorKind::NetworkUnreachable => "network is unreachable",
        io::ErrorKind::TimedOut => return "i/o timeout".into(),
        _ => return format!("connect: {error}"),
    };
    format!("connect: {words}")
}

/// The innermost cause of an error that says something.
pub(crate) fn words(error: &(dyn Error + 'static)) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = error;
    while let Some(error) = cause {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return dial.to_string();
        }
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return tls_words(tls);
        }
        last = error;
        // Errors of I/O do not name what is inside of them as their source.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    match last.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::UnexpectedEof) => "EOF".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "read: connection reset by peer".to_owned(),
        _ => last.to_string(),
    }
}

fn tls_words(error: &rustls::Error) -> String {
    let why = match error {
        // An authority of the same name with another key is an unknown one, too.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "x509: certificate signed by unknown authority".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "x509: certificate has expired or is not yet valid".to_owned(),
        rustls::Error::InvalidCertificate(why) => format!("x509: {why}"),
        other => return format!("tls: {other}"),
    };
    format!("tls: failed to verify certificate: {why}")
}
