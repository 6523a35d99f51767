//! CEL in an AuthenticationConfiguration: claims that become a user by expressions, and rules about both.
//!
//! Checks and messages are upstream's (`apiserver/pkg/apis/apiserver/validation`, `apiserver/pkg/authentication/cel`).

use std::collections::BTreeSet;
use std::sync::LazyLock;

use carrack_api::names;
use carrack_cel::{
    Bindings, Budget, DYN, Environment, List, Map, PER_CALL, Program, STRING, Type, Value as Cel,
};
use serde_json::{Value, json};

use super::claims::Claims;
use crate::UserInfo;

/// The expressions of one issuer, by the fields they stand in; empty texts for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expressions {
    /// The user's name.
    pub username: String,
    /// The groups.
    pub groups: String,
    /// The UID.
    pub uid: String,
    /// Keys of `extra`, and what is there.
    pub extra: Vec<(String, String)>,
    /// What has to be true of the claims.
    pub claim_rules: Vec<Rule>,
    /// What has to be true of the user.
    pub user_rules: Vec<Rule>,
}

/// An expression that has to be true, and what is said when it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The expression.
    pub expression: String,
    /// The message.
    pub message: String,
}

/// The same, ready to run.
#[derive(Debug, Default)]
pub(super) struct Programs {
    username: Option<Program>,
    groups: Option<Program>,
    uid: Option<Program>,
    extra: Vec<(String, Program)>,
    claim_rules: Vec<(Rule, Program)>,
    user_rules: Vec<(Rule, Program)>,
}

static CLAIMS: LazyLock<Type> = LazyLock::new(|| Type::map(STRING, DYN));
static USER: LazyLock<Type> = LazyLock::new(|| {
    Type::object(
        "kubernetes.UserInfo",
        [
            ("username", STRING),
            ("uid", STRING),
            ("groups", Type::list(STRING)),
            ("extra", Type::map(STRING, Type::list(STRING))),
        ],
    )
});

/// Words for what an expression may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Bool,
    Any,
}

fn compile(at: &str, source: &str, wanted: Wanted, variable: &str, ty: &Type) -> Result<Program, String> {
    let wrong = |why: String| format!("{at}: Invalid value: {source:?}: {why}");
    let environment = Environment::new().with(variable, ty.clone());
    let program = Program::compile(source, &environment).map_err(|why| wrong(why.to_string()))?;
    if wanted == Wanted::Bool && *program.result_type() != Type::Bool {
        return Err(wrong("must evaluate to bool".to_owned()));
    }
    Ok(program)
}

fn of_claims(at: &str, source: &str) -> Result<Option<Program>, String> {
    if source.is_empty() {
        return Ok(None);
    }
    compile(at, source, Wanted::Any, "claims", &CLAIMS).map(Some)
}

fn rules(field: &str, rules: &[Rule], variable: &str, ty: &Type) -> Result<Vec<(Rule, Program)>, String> {
    let mut seen = BTreeSet::new();
    let mut programs = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{field}[{index}].expression");
        if rule.expression.is_empty() {
            return Err(format!("{at}: Required value"));
        }
        if !seen.insert(&rule.expression) {
            return Err(format!("{at}: Duplicate value: {:?}", rule.expression));
        }
        let program = compile(&at, &rule.expression, Wanted::Bool, variable, ty)?;
        programs.push((rule.clone(), program));
    }
    Ok(programs)
}

fn extra(entries: &[(String, String)]) -> Result<Vec<(String, Program)>, String> {
    let mut seen = BTreeSet::new();
    let mut programs = Vec::new();
    for (index, (key, source)) in entries.iter().enumerate() {
        let at = format!("claimMappings.extra[{index}]");
        check_key(key).map_err(|why| format!("{at}.key: {why}"))?;
        if !seen.insert(key) {
            return Err(format!("{at}.key: Duplicate value: {key:?}"));
        }
        let at = format!("{at}.valueExpression");
        let program = of_claims(&at, source)?.ok_or_else(|| format!("{at}: Required value"))?;
        programs.push((key.clone(), program));
    }
    Ok(programs)
}

/// A key of `extra` is below a domain, so that those of different makers are kept apart.
fn check_key(key: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("Invalid value: {key:?}: {why}"));
    if key.is_empty() {
        return Err("Required value".to_owned());
    }
    let Some((domain, path)) =
        key.split_once('/').filter(|(domain, path)| !domain.is_empty() && !path.is_empty())
    else {
        return wrong("must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    if let Some(why) = names::dns1123_subdomain(domain).first() {
        return wrong(why);
    }
    if !path.chars().all(|c| c.is_ascii_alphanumeric() || "-._~%!$&'()*+,;=:/".contains(c)) {
        return wrong("Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')");
    }
    if key.chars().any(|c| c.is_ascii_uppercase()) {
        return wrong("must be lowercase");
    }
    let reserved = |of: &str| domain == of || domain.ends_with(&format!(".{of}"));
    if reserved("kubernetes.io") || reserved("k8s.io") {
        return wrong("k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use");
    }
    Ok(())
}

impl Programs {
    /// Compiles all of them, in upstream's order; an error names the field below the issuer.
    pub(super) fn compile(of: &Expressions) -> Result<Self, String> {
        let programs = Programs {
            claim_rules: rules("claimValidationRules", &of.claim_rules, "claims", &CLAIMS)?,
            username: of_claims("claimMappings.username.expression", &of.username)?,
            groups: of_claims("claimMappings.groups.expression", &of.groups)?,
            uid: of_claims("claimMappings.uid.expression", &of.uid)?,
            extra: extra(&of.extra)?,
            user_rules: rules("userValidationRules", &of.user_rules, "user", &USER)?,
        };
        let uses_email = programs.username.as_ref().is_some_and(|program| program.selects("claims", "email"));
        if uses_email && !programs.look_at_verification() {
            return Err(format!(
                "claimMappings.username.expression: Invalid value: {:?}: claims.email_verified must be used in \
                 claimMappings.username.expression or claimMappings.extra[*].valueExpression or \
                 claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
                of.username
            ));
        }
        Ok(programs)
    }

    /// Whether anything asks if the address was verified.
    fn look_at_verification(&self) -> bool {
        let rules = self.claim_rules.iter().map(|(_, program)| program);
        let extra = self.extra.iter().map(|(_, program)| program);
        self.username.iter().chain(rules).chain(extra).any(|p| p.selects("claims", "email_verified"))
    }

    /// The name that the expression gives; `None` when there is no expression.
    pub(super) fn username(&self, claims: &Claims) -> Result<Option<String>, String> {
        let Some(name) = text("username", self.username.as_ref(), claims)? else { return Ok(None) };
        if name.is_empty() {
            return Err("oidc: empty username via CEL expression is not allowed".to_owned());
        }
        Ok(Some(name))
    }

    /// The UID, likewise.
    pub(super) fn uid(&self, claims: &Claims) -> Result<Option<String>, String> {
        text("uid", self.uid.as_ref(), claims)
    }

    /// The groups, likewise.
    pub(super) fn groups(&self, claims: &Claims) -> Result<Option<Vec<String>>, String> {
        let Some(program) = &self.groups else { return Ok(None) };
        let groups = run(program, "claims", &of(claims)).and_then(|value| strings(&value));
        groups.map(Some).map_err(|why| format!("oidc: error evaluating group claim expression: {why}"))
    }

    /// Keys and values of `extra`; those without values are left out.
    pub(super) fn extra(&self, claims: &Claims) -> Result<Vec<(String, Vec<String>)>, String> {
        let mut found = Vec::new();
        for (key, program) in &self.extra {
            let values = run(program, "claims", &of(claims)).and_then(|value| strings(&value));
            let values =
                values.map_err(|why| format!("oidc: error evaluating extra claim expression: {why}"))?;
            if !values.is_empty() {
                found.push((key.clone(), values));
            }
        }
        Ok(found)
    }

    /// Whether the rules about claims hold.
    pub(super) fn check_claims(&self, claims: &Claims) -> Result<(), String> {
        check(&self.claim_rules, "claims", &of(claims))
            .map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))
    }

    /// Whether the rules about the user hold.
    pub(super) fn check_user(&self, user: &UserInfo) -> Result<(), String> {
        if self.user_rules.is_empty() {
            return Ok(());
        }
        let user: Value =
            json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
        Cel::json(&user, &USER)
            .map_err(|why| why.to_string())
            .and_then(|user| check(&self.user_rules, "user", &user))
            .map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))
    }
}

fn of(claims: &Claims) -> Cel<'_> {
    Cel::Map(Map::Json(claims, &CLAIMS))
}

fn run<'a>(program: &'a Program, name: &'a str, value: &Cel<'a>) -> Result<Cel<'a>, String> {
    let bindings = Bindings::new().with(name, value.clone());
    program.evaluate(&bindings, &mut Budget::new(PER_CALL)).map_err(|why| why.to_string())
}

fn text(what: &str, program: Option<&Program>, claims: &Claims) -> Result<Option<String>, String> {
    let Some(program) = program else { return Ok(None) };
    let found = run(program, "claims", &of(claims)).and_then(|value| match value {
        Cel::String(text) => Ok(text.to_string()),
        _ => Err(format!("{what} claim expression must return a string")),
    });
    found.map(Some).map_err(|why| format!("oidc: error evaluating {what} claim expression: {why}"))
}

/// One text or several; empty ones count for nothing.
fn strings(value: &Cel<'_>) -> Result<Vec<String>, String> {
    const WRONG: &str = "expression must return a string or a list of strings";
    let list: Vec<String> = match value {
        Cel::Null => Vec::new(),
        Cel::String(text) => vec![text.to_string()],
        Cel::List(list) => each(list).ok_or(WRONG)?,
        _ => return Err(WRONG.to_owned()),
    };
    Ok(list.into_iter().filter(|text| !text.is_empty()).collect())
}

fn each(list: &List<'_>) -> Option<Vec<String>> {
    list.iter()
        .map(|element| match element {
            Ok(Cel::String(text)) => Some(text.to_string()),
            _ => None,
        })
        .collect()
}

fn check<'a>(rules: &'a [(Rule, Program)], name: &'a str, value: &Cel<'a>) -> Result<(), String> {
    for (rule, program) in rules {
        match run(program, name, value) {
            Ok(Cel::Bool(true)) => {}
            Ok(Cel::Bool(false)) => {
                return Err(format!("validation expression '{}' failed: {}", rule.expression, rule.message));
            }
            Ok(_) => return Err("validation expression must return a boolean".to_owned()),
            Err(why) => return Err(format!("expression '{}' resulted in error: {why}", rule.expression)),
        }
    }
    Ok(())
}
