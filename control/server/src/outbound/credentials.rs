//! Who this server is to the one it calls: a client certificate, and a token or a password.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::HeaderValue;
use parking_lot::Mutex;

use super::trust::Identity;

/// How long a token from a file counts before the file is read anew; upstream's figure.
const FRESH: Duration = Duration::from_secs(60);

/// What is shown to the other side.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    pub(super) identity: Option<Identity>,
    pub(super) authorization: Option<Authorization>,
}

impl Credentials {
    /// The value of `Authorization`, where there is one.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.as_ref().map(Authorization::value)
    }
}

/// What goes into the header `Authorization`.
pub(super) enum Authorization {
    /// Always the same.
    Fixed(HeaderValue),
    /// A bearer token in a file that somebody renews.
    File { path: PathBuf, read: Mutex<(Instant, HeaderValue)> },
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(…)")
    }
}

impl Authorization {
    /// Of this text, which is a secret; `None` when it cannot stand in a header.
    pub(super) fn fixed(text: &str) -> Option<Self> {
        header(text).map(Authorization::Fixed)
    }

    /// Of the token in the file at `path`, read now and whenever it may have changed.
    pub(super) fn file(path: PathBuf) -> Result<Self, String> {
        let read = Mutex::new((Instant::now(), token(&path)?));
        Ok(Authorization::File { path, read })
    }

    fn value(&self) -> HeaderValue {
        let (path, read) = match self {
            Authorization::Fixed(value) => return value.clone(),
            Authorization::File { path, read } => (path, read),
        };
        let mut read = read.lock();
        if read.0.elapsed() >= FRESH {
            match token(path) {
                Ok(value) => *read = (Instant::now(), value),
                // The old one may still be good; the other side says so if not.
                Err(error) => tracing::warn!(error, "a token cannot be read anew"),
            }
        }
        read.1.clone()
    }
}

fn token(path: &Path) -> Result<HeaderValue, String> {
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {place}: {error}"))?;
    header(&format!("Bearer {}", text.trim())).ok_or_else(|| format!("{place} holds no printable token"))
}

fn header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_token_is_read_and_a_lost_one_keeps_counting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(Authorization::file(path.clone()).is_err(), "no file yet");
        std::fs::write(&path, "one\n").unwrap();
        let token = Authorization::file(path.clone()).unwrap();
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(token.value(), "Bearer one", "it is fresh");
        let age = || {
            let Authorization::File { read, .. } = &token else { panic!("it is a file") };
            read.lock().0 = Instant::now().checked_sub(FRESH).unwrap();
        };
        age();
        assert_eq!(token.value(), "Bearer two");
        std::fs::remove_file(&path).unwrap();
        age();
        assert_eq!(token.value(), "Bearer two");
        assert!(!format!("{token:?}").contains("two"), "secrets are not for logs");
    }
}
