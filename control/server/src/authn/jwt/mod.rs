//! Tokens of other issuers: JSON Web Tokens that an OpenID Connect provider signs.

mod claims;
mod config;
mod expressions;
#[cfg(any(test, fuzzing))]
#[allow(clippy::expect_used, reason = "whatever is wrong is to be seen")]
pub(super) mod fuzzing;
mod keys;
mod source;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

pub use config::{Anonymous, AuthenticationSettings, Condition, Issuer, Mapping, read};
pub use expressions::{Expressions, Rule};

use super::judge::{Accepted, Refusal, TokenJudge, among};
use super::jws::MAX_TOKEN_BYTES;
use claims::Claims;
use expressions::Programs;
use keys::{ALGORITHMS, KeySet};
use source::Source;

/// Google's tokens leave out the scheme (OpenID Connect Core 1.0, 15.6.2).
const GOOGLE: (&str, &str) = ("accounts.google.com", "https://accounts.google.com");

/// Why an issuer cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the issuer {url:?}: {why}")]
pub struct IssuerError {
    url: String,
    why: String,
}

/// Judges the tokens of one issuer.
pub(super) struct Jwt {
    issuer: Issuer,
    programs: Programs,
    source: Source,
    /// The audiences that mean this API server.
    own_audiences: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none are.
    crit: Option<serde::de::IgnoredAny>,
}

/// A token in its parts.
struct Token<'a> {
    header: Header,
    claims: Claims,
    signed: &'a [u8],
    signature: Vec<u8>,
}

/// Refuses an issuer that nobody could be believed by; see [`Jwt::start`].
pub(super) fn check(issuer: &Issuer, accounts: &str) -> Result<(), IssuerError> {
    let checked = config::check(issuer, accounts).and_then(|_| Source::trust(issuer).map(drop));
    checked.map_err(|why| IssuerError { url: issuer.url.clone(), why })
}

impl Jwt {
    /// Begins to fetch the issuer's keys. `accounts` is the issuer of ServiceAccount tokens.
    pub(super) fn start(
        issuer: Issuer,
        accounts: &str,
        own_audiences: Vec<String>,
    ) -> Result<Self, IssuerError> {
        let wrong = |why: String| IssuerError { url: issuer.url.clone(), why };
        let programs = config::check(&issuer, accounts).map_err(wrong)?;
        let source = Source::start(&issuer).map_err(wrong)?;
        Ok(Self { issuer, programs, source, own_audiences })
    }

    /// Waits until the issuer's keys are there; says whose are not.
    pub(super) async fn ready(&self) -> Result<(), String> {
        match self.source.ready().await {
            true => Ok(()),
            false => Err(format!("the keys of {} cannot be fetched", self.issuer.url)),
        }
    }

    async fn check_signature(&self, token: &Token<'_>) -> Result<(), String> {
        let algorithm = token.header.alg.as_str();
        let allowed = match self.issuer.algorithms.as_slice() {
            [] => ALGORITHMS.contains(&algorithm),
            some => some.iter().any(|one| one == algorithm),
        };
        if !allowed || token.header.crit.is_some() {
            return Err(format!(
                "oidc: verify token: oidc: id token signed with unsupported algorithm, got {algorithm:?}"
            ));
        }
        let signed_by = |keys: &KeySet| {
            keys.verifies(token.header.kid.as_deref(), algorithm, token.signed, &token.signature)
        };
        let Some(keys) = self.source.known() else {
            return Err("oidc: authenticator not initialized".into());
        };
        if signed_by(&keys) {
            return Ok(());
        }
        // Perhaps with a key that the issuer has made since.
        match self.source.newer().await {
            Some(keys) if signed_by(&keys) => Ok(()),
            _ => {
                Err("oidc: verify token: failed to verify signature: failed to verify id token signature"
                    .into())
            }
        }
    }
}

#[async_trait::async_trait]
impl TokenJudge for Jwt {
    async fn judge(&self, text: &str, audiences: &[String]) -> Result<Option<Accepted>, Refusal> {
        let Some(token) = Token::parse(text) else { return Ok(None) };
        let issuer = token.claims.get("iss").and_then(serde_json::Value::as_str).unwrap_or_default();
        let issuer = if issuer == GOOGLE.0 { GOOGLE.1 } else { issuer };
        if issuer != self.issuer.url {
            return Ok(None);
        }
        let accepted = among(audiences, &self.own_audiences)?;
        claims::check(&self.issuer, &token.claims, jiff::Timestamp::now().as_second())?;
        self.check_signature(&token).await?;
        let user = claims::user(&self.issuer, &self.programs, &token.claims)?;
        Ok(Some(Accepted { user, audiences: accepted }))
    }
}

impl<'a> Token<'a> {
    /// The parts of a compact JWS (RFC 7515, 3.1); `None` when it is none. Nothing of it is to be believed yet.
    fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Self {
            header: serde_json::from_slice(&decode(header)?).ok()?,
            claims: serde_json::from_slice(&decode(payload)?).ok()?,
            signed: signed.as_bytes(),
            signature: decode(signature)?,
        })
    }
}
