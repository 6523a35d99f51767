//! Which issuers of JSON Web Tokens are believed, and what their claims mean here: upstream's
//! AuthenticationConfiguration (`apiserver.config.k8s.io/v1`).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::expressions::{Expressions, Programs, Rule};
use crate::settings::{self, SettingsError};

const KIND: &str = "AuthenticationConfiguration";
/// Upstream's figure.
const MOST_ISSUERS: usize = 64;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthenticationSettings {
    /// The issuers.
    pub jwt: Vec<Issuer>,
    /// Who may come without credentials, if it says.
    pub anonymous: Option<Anonymous>,
}

/// One issuer of tokens, and how its claims become a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuer {
    /// What `iss` has to be, and below which discovery is.
    pub url: String,
    /// Where the discovery document is, when it is elsewhere.
    pub discovery_url: Option<String>,
    /// The authorities of the issuer's server, PEM; the host's own by default.
    pub authority: Option<String>,
    /// `aud` has to have one of them.
    pub audiences: Vec<String>,
    /// The claim that is the user's name, and what is put before it; empty where an expression gives the name.
    pub username: Mapping,
    /// The claim that lists the groups.
    pub groups: Option<Mapping>,
    /// The claim that is the UID.
    pub uid: Option<String>,
    /// Claims that must have these values.
    pub required: BTreeMap<String, String>,
    /// What expressions in CEL say of claims and users.
    pub expressions: Expressions,
    /// Algorithms that count; all that are known when there are none.
    pub algorithms: Vec<String>,
}

/// A claim, and a prefix that keeps what it says apart from other users and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The claim.
    pub claim: String,
    /// The prefix, which may be empty.
    pub prefix: String,
}

/// Who may come without credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Anonymous {
    /// Whether anybody may.
    pub enabled: bool,
    /// Only these paths; all when there are none.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A path that anonymous requests may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The whole path.
    pub path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[allow(dead_code)] // looked at before
    api_version: String,
    #[allow(dead_code)]
    kind: String,
    #[serde(default)]
    jwt: Vec<Entry>,
    anonymous: Option<Anonymous>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    issuer: IssuerEntry,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<RuleEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IssuerEntry {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    certificate_authority: Option<String>,
    #[serde(default)]
    audiences: Vec<String>,
    audience_match_policy: Option<String>,
    egress_selector_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RuleEntry {
    expression: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mappings {
    #[serde(default)]
    username: MappingEntry,
    #[serde(default)]
    groups: MappingEntry,
    #[serde(default)]
    uid: MappingEntry,
    #[serde(default)]
    extra: Vec<ExtraEntry>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct MappingEntry {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExtraEntry {
    key: String,
    value_expression: String,
}

/// Reads the file at `path`. `own` is the issuer of ServiceAccount tokens, which nobody else may be.
pub fn read(path: &Path, own: &str) -> Result<AuthenticationSettings, SettingsError> {
    parse(&settings::text(path)?, own).map_err(|why| settings::wrong(path, why))
}

pub(super) fn parse(text: &str, own: &str) -> Result<AuthenticationSettings, String> {
    let document: Document = settings::document(text, KIND)?;
    if let Some(anonymous) = &document.anonymous
        && !anonymous.enabled
        && !anonymous.conditions.is_empty()
    {
        return Err(
            "anonymous.conditions: Invalid value: enabled should be set to true when conditions are defined"
                .into(),
        );
    }
    if document.jwt.len() > MOST_ISSUERS {
        let found = document.jwt.len();
        return Err(format!("jwt: Too many: {found}: must have at most {MOST_ISSUERS} items"));
    }
    let mut issuers: Vec<Issuer> = Vec::new();
    for (index, entry) in document.jwt.into_iter().enumerate() {
        let issuer = issuer(entry).and_then(|issuer| check(&issuer, own).map(|_| issuer));
        let issuer = issuer.map_err(|why| format!("jwt[{index}].{why}"))?;
        if issuers.iter().any(|other| other.url == issuer.url) {
            return Err(format!("jwt[{index}].issuer.url: Duplicate value: {:?}", issuer.url));
        }
        let has_discovery = |other: &Issuer| other.discovery_url == issuer.discovery_url;
        if let Some(url) = issuer.discovery_url.as_ref().filter(|_| issuers.iter().any(has_discovery)) {
            return Err(format!("jwt[{index}].issuer.discoveryURL: Duplicate value: {url:?}"));
        }
        issuers.push(issuer);
    }
    Ok(AuthenticationSettings { jwt: issuers, anonymous: document.anonymous })
}

/// What no issuer may be, wherever it is configured; answers its expressions, compiled.
pub(super) fn check(issuer: &Issuer, own: &str) -> Result<Programs, String> {
    if issuer.url == own {
        return Err(format!(
            "issuer.url: Invalid value: {own:?}: URL must not overlap with disallowed issuers"
        ));
    }
    check_url("issuer.url", &issuer.url)?;
    if let Some(url) = &issuer.discovery_url {
        check_url("issuer.discoveryURL", url)?;
        if url.trim_end_matches('/') == issuer.url.trim_end_matches('/') {
            return Err("issuer.discoveryURL: Invalid value: must be different from URL".into());
        }
    }
    if issuer.audiences.is_empty() {
        return Err("issuer.audiences: Required value: at least one issuer.audiences is required".into());
    }
    for (index, audience) in issuer.audiences.iter().enumerate() {
        if audience.is_empty() {
            return Err(format!("issuer.audiences[{index}]: Required value: audience can't be empty"));
        }
        if issuer.audiences[..index].contains(audience) {
            return Err(format!("issuer.audiences[{index}]: Duplicate value: {audience:?}"));
        }
    }
    if issuer.username.claim.is_empty() && issuer.expressions.username.is_empty() {
        return Err("claimMappings.username: Required value: claim or expression is required".into());
    }
    for algorithm in &issuer.algorithms {
        if !super::keys::ALGORITHMS.contains(&algorithm.as_str()) {
            return Err(format!("unsupported signing alg: {algorithm:?}"));
        }
    }
    Programs::compile(&issuer.expressions)
}

fn check_url(field: &str, url: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{field}: Invalid value: {url:?}: {why}"));
    let Ok(uri) = url.parse::<http::Uri>() else { return wrong("it is not a URL") };
    if uri.scheme_str() != Some("https") {
        return wrong("URL scheme must be https");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return wrong("URL must not contain a username or password");
    }
    if uri.query().is_some() {
        return wrong("URL must not contain a query");
    }
    if url.contains('#') { wrong("URL must not contain a fragment") } else { Ok(()) }
}

fn issuer(entry: Entry) -> Result<Issuer, String> {
    let source = entry.issuer;
    if source.egress_selector_type.is_some() {
        return Err("issuer.egressSelectorType: Forbidden: there is no egress selector".into());
    }
    match source.audience_match_policy.as_deref().unwrap_or_default() {
        "" if source.audiences.len() > 1 => {
            return Err("issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple audiences".into());
        }
        "" | "MatchAny" => {}
        other => {
            return Err(format!(
                "issuer.audienceMatchPolicy: Invalid value: {other:?}: audienceMatchPolicy must be empty or MatchAny for single audience"
            ));
        }
    }
    let (required, claim_rules) = claim_rules(entry.claim_validation_rules)?;
    let maps = entry.claim_mappings;
    let rule = |rule: RuleEntry| Rule { expression: rule.expression, message: rule.message };
    let expressions = Expressions {
        username: maps.username.expression.clone(),
        groups: maps.groups.expression.clone(),
        uid: maps.uid.expression.clone(),
        extra: maps.extra.into_iter().map(|extra| (extra.key, extra.value_expression)).collect(),
        claim_rules,
        user_rules: entry.user_validation_rules.into_iter().map(rule).collect(),
    };
    let uid = mapping("uid", maps.uid, false)?;
    Ok(Issuer {
        url: source.url,
        discovery_url: source.discovery_url.filter(|url| !url.is_empty()),
        authority: source.certificate_authority.filter(|pem| !pem.is_empty()),
        audiences: source.audiences,
        username: mapping("username", maps.username, true)?.unwrap_or_default(),
        groups: mapping("groups", maps.groups, true)?,
        uid: uid.map(|mapping| mapping.claim),
        required,
        expressions,
        algorithms: Vec::new(),
    })
}

/// Claims with the values they must have, and rules by expressions.
fn claim_rules(rules: Vec<ClaimRule>) -> Result<(BTreeMap<String, String>, Vec<Rule>), String> {
    let (mut required, mut expressions) = (BTreeMap::new(), Vec::new());
    for (index, rule) in rules.into_iter().enumerate() {
        let at = format!("claimValidationRules[{index}]");
        let wrong = |field: &str, value: &str, why: &str| {
            Err(format!("{at}{field}: Invalid value: {value:?}: {why}"))
        };
        match (rule.claim.is_empty(), rule.expression.is_empty()) {
            (false, false) => return wrong("", &rule.claim, "claim and expression can't both be set"),
            (true, true) => return Err(format!("{at}: Required value: claim or expression is required")),
            (false, true) if !rule.message.is_empty() => {
                return wrong(".message", &rule.message, "may not be specified when claim is set");
            }
            (true, false) if !rule.required_value.is_empty() => {
                let why = "may not be specified when expression is set";
                return wrong(".requiredValue", &rule.required_value, why);
            }
            (true, false) => expressions.push(Rule { expression: rule.expression, message: rule.message }),
            (false, true) => {
                if required.insert(rule.claim.clone(), rule.required_value).is_some() {
                    return Err(format!("{at}.claim: Duplicate value: {:?}", rule.claim));
                }
            }
        }
    }
    Ok((required, expressions))
}

/// A claim and its prefix; `None` where there is none, or an expression. The prefix has to be given, be it empty: whoever
/// leaves it out may not have thought of tokens that say `system:masters`.
fn mapping(field: &str, entry: MappingEntry, with_prefix: bool) -> Result<Option<Mapping>, String> {
    let at = format!("claimMappings.{field}");
    if !entry.expression.is_empty() {
        return match (entry.claim.is_empty(), entry.prefix) {
            (false, _) => Err(format!("{at}: Invalid value: \"\": claim and expression can't both be set")),
            (true, Some(prefix)) => Err(format!(
                "{at}.prefix: Invalid value: {prefix:?}: may not be specified when expression is set"
            )),
            (true, None) => Ok(None),
        };
    }
    match (entry.claim.is_empty(), entry.prefix) {
        (true, Some(_)) => {
            Err(format!("{at}.prefix: Invalid value: non-nil prefix is not allowed without claim"))
        }
        (true, None) => Ok(None),
        (false, None) if with_prefix => Err(format!(
            "{at}.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to \
             disable prefixing"
        )),
        (false, prefix) => Ok(Some(Mapping { claim: entry.claim, prefix: prefix.unwrap_or_default() })),
    }
}
