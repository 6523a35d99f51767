//! Why a call out failed, in the words that people know from upstream and search for.

use std::error::Error;
use std::io;

use http::Method;
use rustls::CertificateError;

use super::dial::DialError;

/// A call that came to no answer, or to none of use: `Post "https://…": dial tcp …`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{method} {url:?}: {why}")]
pub struct CallError {
    pub(crate) method: &'static str,
    pub(crate) url: String,
    /// What went wrong.
    pub why: CallFailure,
}

/// What went wrong with a call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallFailure {
    /// There is nothing to call.
    #[error("it is no URL to call: {0}")]
    Url(String),
    /// There was no answer.
    #[error("{0}")]
    Failed(String),
    /// There was no answer in time.
    #[error("context deadline exceeded")]
    Late,
    /// The answer was no success.
    #[error("unexpected status {0}")]
    Status(u16),
    /// The answer was not JSON.
    #[error("the answer is not JSON: {0}")]
    Json(String),
}

impl CallError {
    /// Whether calling again may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self.why {
            CallFailure::Failed(_) => true,
            CallFailure::Status(code) => code == 429 || code >= 500,
            _ => false,
        }
    }
}

/// A method as messages begin with it.
pub(super) fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "Get",
        Method::POST => "Post",
        _ => "Call",
    }
}

/// The innermost cause of an error that says something, in known words.
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
