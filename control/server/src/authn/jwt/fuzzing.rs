//! Tokens, claims and keys of other issuers.

use std::sync::LazyLock;

use super::claims::{self, Claims};
use super::expressions::Programs;
use super::keys::{ALGORITHMS, KeySet};
use super::{Issuer, Token, config};

/// An issuer whose claims are mapped by their names, and one with expressions.
const SETTINGS: &str = "{apiVersion: apiserver.config.k8s.io/v1, kind: AuthenticationConfiguration, jwt: [{issuer: {url: \
    'https://a.example', audiences: [x]}, claimMappings: {username: {claim: sub, prefix: p}, groups: {claim: g, prefix: q}, \
    uid: {claim: u}}, claimValidationRules: [{claim: a, requiredValue: b}]}, {issuer: {url: 'https://b.example', audiences: \
    [x]}, claimMappings: {username: {expression: 'claims.email.split(\"@\")[0] + string(claims.?n.orValue(1))'}, groups: \
    {expression: 'claims.g.map(x, x + claims.u)'}, uid: {expression: claims.u}, extra: [{key: a.example/x, valueExpression: \
    'string(claims.a)'}]}, claimValidationRules: [{expression: 'claims.email_verified == true && claims.exp - claims.nbf <= \
    86400'}], userValidationRules: [{expression: \"user.groups.all(g, !g.startsWith('system:'))\"}]}]}";

const NOW: i64 = 1_750_000_000;

static ISSUERS: LazyLock<Vec<(Issuer, Programs)>> = LazyLock::new(|| {
    let settings = config::parse(SETTINGS, "https://own").expect("the settings are right");
    let compiled = |issuer: Issuer| {
        let programs = Programs::compile(&issuer.expressions).expect("they were checked");
        (issuer, programs)
    };
    settings.jwt.into_iter().map(compiled).collect()
});

fn judge(claims: &Claims) {
    for (issuer, programs) in ISSUERS.iter() {
        let _ = claims::check(issuer, claims, NOW);
        let user = claims::user(issuer, programs, claims);
        assert!(!user.is_ok_and(|user| user.name.is_empty()), "nobody is without a name");
    }
}

/// What `jwt::Jwt` does with a token, but for its signature.
pub(in crate::authn) fn token(text: &str) {
    if let Some(token) = Token::parse(text) {
        judge(&token.claims);
    }
}

pub(crate) fn claim_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"iss":"https://a.example","aud":["x"],"exp":4000000000,"nbf":1,"sub":"s","g":["y","z"],"u":"v","a":"b","jti":"j"}"#,
        r#"{"aud":"x","exp":1750000001.5,"nbf":1.749999e9,"email":"e@f","email_verified":true,"g":["y"],"u":"v","a":1,"n":2.5}"#,
        r#"{"_claim_names":{"g":"src"},"sub":"s","u":"v"}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Claims as they stand in a token, without the wrapping that keeps changes from getting through.
pub(crate) fn claims(data: &[u8]) {
    if let Ok(claims) = serde_json::from_slice(data) {
        judge(&claims);
    }
}

pub(crate) fn key_seeds() -> Vec<Vec<u8>> {
    let keys = r#"{"keys":[{"kty":"RSA","kid":"k","n":"sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri","e":"AQAB","alg":"RS256"},
        {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty":"EC","crv":"P-521","x":"AA","y":"AQ"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    vec![keys.as_bytes().to_vec()]
}

/// The keys that an issuer publishes.
pub(crate) fn keys(data: &[u8]) {
    let Ok(keys) = KeySet::parse(data) else { return };
    for algorithm in ALGORITHMS {
        assert!(!keys.verifies(None, algorithm, b"message", &[7; 64]), "nobody signed this");
    }
}
