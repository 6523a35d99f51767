//! Configuration, claims and signatures, without an issuer.

use serde_json::{Value, json};

use super::claims::{self, Claims};
use super::config::{Issuer, Mapping, parse};
use super::keys::KeySet;
use super::*;

const OWN: &str = "https://kubernetes.default.svc.cluster.local";
const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
const ONE: &str = "jwt:\n- issuer:\n    url: https://issuer.example.com\n    audiences: [kube]\n  claimMappings:\n    \
     username:\n      claim: sub\n      prefix: 'oidc:'\n";

#[test]
fn a_configuration_is_read() {
    let more = "    groups: {claim: roles, prefix: ''}\n    uid: {claim: id}\n  claimValidationRules:\n  - {claim: hd, \
         requiredValue: example.com}\nanonymous:\n  enabled: true\n  conditions:\n  - path: /healthz\n";
    let read = parse(&format!("{HEAD}{ONE}{more}"), OWN).unwrap();
    let issuer = &read.jwt[0];
    assert_eq!(issuer.username, Mapping { claim: "sub".into(), prefix: "oidc:".into() });
    assert_eq!(issuer.groups, Some(Mapping { claim: "roles".into(), prefix: String::new() }));
    assert_eq!((issuer.uid.as_deref(), issuer.required["hd"].as_str()), (Some("id"), "example.com"));
    assert_eq!(read.anonymous.unwrap().conditions[0].path, "/healthz");
}

#[test]
fn what_is_wrong_with_a_configuration_is_named() {
    let changed = |from: &str, to: &str| format!("{HEAD}{}", ONE.replace(from, to));
    let more = |of: &str| of.replace("jwt:\n", "").replace("issuer.example", "other.example");
    let found_at = |url: &str| {
        let one = ONE.replace("[kube]", &format!("[kube]\n    discoveryURL: {url}"));
        format!("{HEAD}{one}{}", more(&one))
    };
    let many = format!("{HEAD}{ONE}{}", more(ONE).repeat(64));
    for (text, says) in [
        (
            changed("https:", "http:"),
            "jwt[0].issuer.url: Invalid value: \"http://issuer.example.com\": URL scheme must be https",
        ),
        (changed("example.com", "example.com/?a=b"), "URL must not contain a query"),
        (changed("https://issuer.example.com", OWN), "must not overlap with disallowed issuers"),
        (changed("[kube]", "[]"), "at least one issuer.audiences is required"),
        (changed("[kube]", "[kube, b]"), "audienceMatchPolicy must be MatchAny for multiple audiences"),
        (changed("[kube]", "['']"), "issuer.audiences[0]: Required value: audience can't be empty"),
        (
            changed("[kube]", "[kube, kube]\n    audienceMatchPolicy: MatchAny"),
            "issuer.audiences[1]: Duplicate value: \"kube\"",
        ),
        (found_at("https://d.example.com/x"), "jwt[1].issuer.discoveryURL: Duplicate value"),
        (many, "jwt: Too many: 65: must have at most 64 items"),
        (changed("[kube]", "[kube]\n    audienceMatchPolicy: MatchAll"), "Invalid value: \"MatchAll\""),
        (
            changed("[kube]", "[kube]\n    discoveryURL: https://issuer.example.com/"),
            "must be different from URL",
        ),
        (changed("      prefix: 'oidc:'\n", ""), "claimMappings.username.prefix: Required value"),
        (
            changed("      claim: sub\n      prefix: 'oidc:'\n", "      prefix: x\n"),
            "not allowed without claim",
        ),
        (format!("{HEAD}{ONE}{}", ONE.replace("jwt:\n", "")), "jwt[1].issuer.url: Duplicate value"),
        (
            format!("{HEAD}anonymous: {{enabled: false, conditions: [{{path: /x}}]}}\n"),
            "enabled should be set to true",
        ),
        (format!("{HEAD}jtw: []\n"), "jtw"),
        ("apiVersion: v1\nkind: AuthenticationConfiguration\n".into(), "apiserver.config.k8s.io/v1"),
    ] {
        let error = parse(&text, OWN).unwrap_err();
        assert!(error.contains(says), "{text}\n{error}");
    }
}

/// A configuration whose claims become a user by expressions; `username` is that of the name, `more` further lines of the
/// issuer.
fn by_expressions(username: &str, more: &str) -> String {
    let of = format!("      expression: \"{username}\"\n");
    format!("{HEAD}{}{more}", ONE.replace("      claim: sub\n      prefix: 'oidc:'\n", &of))
}

#[test]
fn what_is_wrong_with_expressions_is_named() {
    let both =
        by_expressions("claims.sub", "").replace("      expression", "      claim: sub\n      expression");
    let prefix =
        by_expressions("claims.sub", "").replace("      expression", "      prefix: x\n      expression");
    let rules = |rules: &str| by_expressions("claims.sub", &format!("  claimValidationRules: [{rules}]\n"));
    let user = |rules: &str| by_expressions("claims.sub", &format!("  userValidationRules: [{rules}]\n"));
    let extra = |key: &str, value: &str| {
        by_expressions("claims.sub", &format!("    extra: [{{key: '{key}', valueExpression: '{value}'}}]\n"))
    };
    let verified = "claims.email_verified must be used in";
    for (text, says) in [
        (both, "claimMappings.username: Invalid value: \"\": claim and expression can't both be set"),
        (prefix, "username.prefix: Invalid value: \"x\": may not be specified when expression is set"),
        (
            by_expressions("claims.", ""),
            "claimMappings.username.expression: Invalid value: \"claims.\": compilation failed",
        ),
        (by_expressions("user.name", ""), "undeclared reference to 'user'"),
        (by_expressions("claims.email", ""), verified),
        (by_expressions("claims.?email.orValue('x')", ""), verified),
        (
            rules("{expression: claims.a}"),
            "claimValidationRules[0].expression: Invalid value: \"claims.a\": must evaluate to bool",
        ),
        (
            rules("{expression: 'true'}, {expression: 'true'}"),
            "claimValidationRules[1].expression: Duplicate value",
        ),
        (
            rules("{expression: 'true', requiredValue: x}"),
            "requiredValue: Invalid value: \"x\": may not be specified",
        ),
        (
            rules("{claim: a, requiredValue: x, message: m}"),
            "message: Invalid value: \"m\": may not be specified",
        ),
        (rules("{claim: a, expression: 'true'}"), "claim and expression can't both be set"),
        (rules("{message: m}"), "claimValidationRules[0]: Required value: claim or expression is required"),
        (user("{message: m}"), "userValidationRules[0].expression: Required value"),
        (user("{expression: user.name == 'x'}"), "undefined field 'name'"),
        (
            extra("foo", "claims.x"),
            "claimMappings.extra[0].key: Invalid value: \"foo\": must be a domain-prefixed path",
        ),
        (extra("Example.org/a", "claims.x"), "extra[0].key"),
        (extra("example.org/A", "claims.x"), "must be lowercase"),
        (extra("kubernetes.io/a", "claims.x"), "are reserved for Kubernetes use"),
        (extra("a.k8s.io/a", "claims.x"), "are reserved for Kubernetes use"),
        (extra("example.org/a", ""), "claimMappings.extra[0].valueExpression: Required value"),
    ] {
        let error = parse(&text, OWN).unwrap_err();
        assert!(error.starts_with("jwt[0].") && error.contains(says), "{text}\n{error}");
    }
    for fine in [
        by_expressions("claims.email_verified ? claims.email : 'nobody'", ""),
        by_expressions(
            "claims.email",
            "  claimValidationRules: [{expression: claims.email_verified == true}]\n",
        ),
    ] {
        parse(&fine, OWN).unwrap();
    }
}

#[test]
fn expressions_make_a_user() {
    let more = "    groups: {expression: 'claims.roles.split(\",\")'}\n    uid: {expression: claims.sub}\n    extra:\n    \
        - {key: example.org/tenant, valueExpression: claims.tenant}\n    - {key: example.org/none, valueExpression: '\"\"'}\n  \
        claimValidationRules:\n  - {expression: 'claims.exp - claims.nbf <= 3600', message: too long}\n  userValidationRules:\n  \
        - {expression: \"!user.username.startsWith('system:')\", message: reserved}\n  \
        - {expression: \"user.groups.all(g, g != 'root') && user.extra['example.org/tenant'][0] != ''\"}\n";
    let text = by_expressions("claims.name + ':' + string(claims.age)", more);
    let issuer = parse(&text, OWN).unwrap().jwt.remove(0);
    let programs = Programs::compile(&issuer.expressions).unwrap();
    let good = json!({"name": "jane", "age": 3, "roles": "a,b,", "sub": "7", "tenant": ["x", ""], "exp": 100, "nbf": 50});
    let user = claims::user(&issuer, &programs, &claims_of(good.clone())).unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane:3", "7"));
    assert_eq!(user.groups, ["a", "b", "system:authenticated"]);
    assert_eq!(user.extra, [("example.org/tenant".to_owned(), vec!["x".to_owned()])].into());
    for (field, value, says) in [
        ("name", json!(1), "oidc: error evaluating username claim expression: no such overload"),
        ("roles", json!(1), "oidc: error evaluating group claim expression: no such overload"),
        (
            "sub",
            json!(7),
            "oidc: error evaluating uid claim expression: uid claim expression must return a string",
        ),
        ("sub", Value::Null, "oidc: error evaluating uid claim expression: no such key: sub"),
        (
            "tenant",
            json!([1]),
            "oidc: error evaluating extra claim expression: expression must return a string or a list",
        ),
        (
            "exp",
            json!(99999),
            "oidc: error evaluating claim validation expression: validation expression 'claims.exp - \
            claims.nbf <= 3600' failed: too long",
        ),
        (
            "name",
            json!("system:x"),
            "oidc: error evaluating user info validation rule: validation expression \
            '!user.username.startsWith('system:')' failed: reserved",
        ),
        ("roles", json!("root"), "user info validation rule: validation expression"),
    ] {
        let mut claims = claims_of(good.clone());
        if value.is_null() {
            claims.remove(field)
        } else {
            claims.insert(field.into(), value)
        };
        let error = claims::user(&issuer, &programs, &claims).unwrap_err();
        assert!(error.contains(says), "{field}: {error}");
    }
    let nameless = parse(&by_expressions("''", ""), OWN).unwrap().jwt.remove(0);
    let programs = Programs::compile(&nameless.expressions).unwrap();
    let error = claims::user(&nameless, &programs, &claims_of(good)).unwrap_err();
    assert_eq!(error, "oidc: empty username via CEL expression is not allowed");
}

fn issuer() -> Issuer {
    let mapping = |claim: &str, prefix: &str| Mapping { claim: claim.into(), prefix: prefix.into() };
    Issuer {
        url: "https://issuer.example.com".into(),
        audiences: vec!["kube".into(), "other".into()],
        username: mapping("email", "oidc:"),
        groups: Some(mapping("groups", "oidc:")),
        uid: Some("id".into()),
        required: [("hd".to_owned(), "example.com".to_owned())].into(),
        ..Issuer::default()
    }
}

fn claims_of(value: Value) -> Claims {
    value.as_object().unwrap().clone()
}

#[test]
fn claims_become_a_user() {
    let good = json!({"email": "jane@example.com", "groups": ["dev", "ops"], "id": "7", "hd": "example.com", "jti": "x"});
    let user = claims::user(&issuer(), &Programs::default(), &claims_of(good.clone())).unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("oidc:jane@example.com", "7"));
    assert_eq!(user.groups, ["oidc:dev", "oidc:ops", "system:authenticated"]);
    assert_eq!(user.extra["authentication.kubernetes.io/credential-id"], ["JTI=x"]);
    let changed = |field: &str, value: Value| {
        let mut claims = claims_of(good.clone());
        if value.is_null() {
            claims.remove(field)
        } else {
            claims.insert(field.into(), value)
        };
        claims::user(&issuer(), &Programs::default(), &claims)
    };
    assert_eq!(changed("groups", json!("dev")).unwrap().groups[0], "oidc:dev", "one group as a string");
    assert_eq!(changed("groups", Value::Null).unwrap().groups, ["system:authenticated"]);
    assert!(changed("email_verified", json!(true)).is_ok());
    for (field, value, says) in [
        ("email", Value::Null, "oidc: parse username claims \"email\": claim not present"),
        ("email", json!(7), "oidc: parse username claims \"email\""),
        ("email", json!(""), "it is empty"),
        ("email_verified", json!(false), "oidc: email not verified"),
        ("email_verified", json!("yes"), "oidc: parse 'email_verified' claim"),
        ("groups", json!([1]), "oidc: parse groups claim \"groups\""),
        ("id", Value::Null, "oidc: parse uid claim \"id\""),
        ("hd", Value::Null, "oidc: required claim hd not present in ID token"),
        (
            "hd",
            json!("evil.com"),
            "oidc: required claim hd value does not match. Got = evil.com, want = example.com",
        ),
        ("hd", json!(true), "oidc: parse claim hd"),
    ] {
        let error = changed(field, value).unwrap_err();
        assert!(error.contains(says), "{field}: {error}");
    }
}

#[test]
fn audience_and_time_have_to_fit() {
    let check = |claims: Value| claims::check(&issuer(), &claims_of(claims), 1000);
    assert_eq!(check(json!({"aud": "kube", "exp": 1001})), Ok(()));
    assert_eq!(check(json!({"aud": ["x", "other"], "exp": 1001.5, "nbf": 1299})), Ok(()));
    for (claims, says) in [
        (json!({"aud": "x", "exp": 1001}), "expected audience in [\"kube\", \"other\"] got [\"x\"]"),
        (json!({"exp": 1001}), "expected audience"),
        (json!({"aud": {"kube": 1}, "exp": 1001}), "expected audience"),
        (json!({"aud": "kube", "exp": 1000}), "oidc: token is expired (Token Expiry: 1000)"),
        (json!({"aud": "kube"}), "no expiry"),
        (json!({"aud": "kube", "exp": "9999"}), "no expiry"),
        (json!({"aud": "kube", "exp": 2000, "nbf": 1300}), "before the nbf (not before) time: 1300"),
    ] {
        let error = check(claims).unwrap_err();
        assert!(error.starts_with("oidc: verify token: ") && error.contains(says), "{error}");
    }
}

/// The examples of RFC 7515, appendices A.2 (RS256), A.3 (ES256) and A.4 (ES512), and RFC 8037, appendix A (EdDSA).
const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const RSA_SIGNED: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const P256_SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const P521_SIGNED: &str = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
const EDWARDS_SIGNED: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

#[test]
fn the_standards_own_examples_verify() {
    let set = json!({"keys": [
        {"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"},
        {"kty": "RSA", "use": "enc", "n": RSA_N, "e": "AQAB"},
        {"kty": "RSA", "kid": "rsa", "n": RSA_N, "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
         "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty": "EC", "crv": "P-521",
         "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
         "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"},
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty": "EC", "crv": "P-256", "x": "too short", "y": "x"},
    ]});
    let keys = KeySet::parse(set.to_string().as_bytes()).unwrap();
    assert_eq!(keys.len(), 4, "only keys that check signatures");
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    for (algorithm, token) in
        [("RS256", RSA_SIGNED), ("ES256", P256_SIGNED), ("ES512", P521_SIGNED), ("EdDSA", EDWARDS_SIGNED)]
    {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut signature = decode(signature);
        let verifies = |id: Option<&str>, algorithm: &str, signature: &[u8]| {
            keys.verifies(id, algorithm, signed.as_bytes(), signature)
        };
        assert!(verifies(None, algorithm, &signature), "{algorithm}");
        assert!(verifies(Some(""), algorithm, &signature), "{algorithm}");
        assert!(!verifies(Some("none"), algorithm, &signature), "{algorithm} by a key that is not there");
        for other in ["none", "HS256", "RS384", "PS256", "ES384"] {
            assert!(!verifies(None, other, &signature), "{algorithm} is no {other}");
        }
        signature[7] ^= 1;
        assert!(!verifies(None, algorithm, &signature), "{algorithm} changed");
    }
    assert!(KeySet::parse(b"{}").is_err());
}
