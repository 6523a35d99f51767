//! What a registry wants to see before it answers: `WWW-Authenticate`, and tokens for it.
//!
//! The flow is that of the distribution project ("Token Authentication Specification", and its OAuth2
//! variant for refresh tokens).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde::Deserialize;

use super::transport::{Ask, NoAnswer, Transport};
use crate::credential::Credential;

/// The largest answer of a token server.
const MAX_TOKEN_ANSWER: usize = 1 << 20;

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Why no token was given.
#[derive(Debug)]
pub(super) enum TokenError {
    NoAnswer {
        uri: Uri,
        error: NoAnswer,
    },
    /// The token server refused: its words.
    Refused(String),
    /// Its answer, or what the registry said about it, makes no sense.
    Protocol(String),
}

/// Reads the challenges of a 401. Of several, a token is better than a password.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).into_iter();
    let mut found: Vec<Challenge> = values.filter_map(|value| parse(value.to_str().ok()?)).collect();
    let bearer = found.iter().position(|one| matches!(one, Challenge::Bearer { .. })).unwrap_or(0);
    (!found.is_empty()).then(|| found.swap_remove(bearer))
}

fn parse(value: &str) -> Option<Challenge> {
    let (scheme, parameters) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    for (name, value) in (Parameters { rest: parameters }) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

/// `name="value", name=value …`
struct Parameters<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, String);

    fn next(&mut self) -> Option<(&'a str, String)> {
        let (name, rest) = self.rest.trim_start_matches([',', ' ', '\t']).split_once('=')?;
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find([',', ' ']).unwrap_or(rest.len());
            self.rest = &rest[end..];
            return Some((name.trim(), rest[..end].to_owned()));
        };
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((index, char)) = chars.next() {
            match char {
                '"' => {
                    self.rest = &quoted[index + 1..];
                    return Some((name.trim(), value));
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        None
    }
}

/// `Basic …` for a user name and password.
pub(super) fn basic(credential: &Credential) -> Result<HeaderValue, TokenError> {
    let text = STANDARD.encode(format!("{}:{}", credential.username, credential.password));
    secret(&format!("Basic {text}"))
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// Gets the `Bearer …` that a challenge wants, for pulling from one repository. Without a credential the token
/// is one for everybody.
///
/// `plain` says whether the token server may be talked to over HTTP: only where the registry may be.
pub(super) async fn token(
    transport: &Transport,
    (realm, service, scope): (&str, Option<&str>, &str),
    credential: Option<&Credential>,
    plain: bool,
) -> Result<HeaderValue, TokenError> {
    let realm: Uri = realm.parse().map_err(|_| TokenError::Protocol(format!("token server \"{realm}\"")))?;
    if !(realm.scheme_str() == Some("https") || plain && realm.scheme_str() == Some("http")) {
        return Err(TokenError::Protocol(format!("token server {realm} is not reached over HTTPS")));
    }
    let refresh = credential.and_then(|credential| credential.identity_token.as_deref());
    let mut parameters = vec![("scope", scope)];
    parameters.extend(service.map(|service| ("service", service)));
    let ask = match refresh {
        Some(refresh) => {
            parameters.extend([
                ("grant_type", "refresh_token"),
                ("client_id", "carrack"),
                ("refresh_token", refresh),
            ]);
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, form)]);
            Ask { method: Method::POST, uri: realm, headers, body: encode(&parameters).into() }
        }
        None => {
            let separator = if realm.query().is_some() { '&' } else { '?' };
            let uri = format!("{realm}{separator}{}", encode(&parameters));
            let uri = uri.parse().map_err(|_| TokenError::Protocol(format!("token server \"{uri}\"")))?;
            let named = credential.filter(|credential| !credential.username.is_empty());
            let headers = named.map(|credential| Ok((header::AUTHORIZATION, basic(credential)?)));
            let headers = headers.into_iter().collect::<Result<HeaderMap, TokenError>>()?;
            Ask { method: Method::GET, uri, headers, body: Default::default() }
        }
    };
    fetch(transport, ask).await
}

async fn fetch(transport: &Transport, ask: Ask) -> Result<HeaderValue, TokenError> {
    let uri = ask.uri.clone();
    let response =
        transport.send(ask).await.map_err(|error| TokenError::NoAnswer { uri: uri.clone(), error })?;
    let status = response.status();
    let body = super::read_body(response, MAX_TOKEN_ANSWER)
        .await
        .map_err(|message| TokenError::NoAnswer { uri, error: NoAnswer { message, connecting: false } })?;
    if status != StatusCode::OK {
        return Err(TokenError::Refused(super::registry_words(&body, status)));
    }
    let answer: TokenAnswer = serde_json::from_slice(&body)
        .map_err(|error| TokenError::Protocol(format!("token server: {error}")))?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    let token = token.ok_or_else(|| TokenError::Protocol("the token server gave no token".to_owned()))?;
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Result<HeaderValue, TokenError> {
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        TokenError::Protocol("the credentials hold characters that HTTP does not allow".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// `application/x-www-form-urlencoded`
fn encode(parameters: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        let mut out = String::new();
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
                other => out.push_str(&format!("%{other:02X}")),
            }
        }
        out
    };
    let pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        challenge(&headers)
    }

    #[test]
    fn reads_challenges() {
        let dockerhub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(read(&[dockerhub]), Some(expected.clone()));
        assert_eq!(read(&["Basic realm=x", dockerhub]), Some(expected));
        assert_eq!(read(&["basic"]), Some(Challenge::Basic));
        let bare = Challenge::Bearer { realm: "https://t".to_owned(), service: None, scope: None };
        assert_eq!(read(&["Bearer realm=https://t"]), Some(bare));
        for nonsense in [&["Negotiate"][..], &[], &["Bearer"], &["Bearer realm=\"https"]] {
            assert_eq!(read(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn escapes_parameters() {
        assert_eq!(
            encode(&[("scope", "repository:a/b:pull"), ("x", "ä&=")]),
            "scope=repository%3Aa%2Fb%3Apull&x=%C3%A4%26%3D"
        );
    }
}
