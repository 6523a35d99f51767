//! CertificateSigningRequests. Who asks is written down by admission, which knows the user.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use k8s_openapi::api::certificates::v1 as certificates;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use super::PART;
use super::prelude::*;
use crate::resource::Subresource;

/// The row of certificatesigningrequests.
pub(super) const RESOURCE: Resource = Resource {
    short_names: &["csr"],
    subresources: &[
        Subresource {
            name: "approval",
            kind: gvk("certificates.k8s.io", "v1", "CertificateSigningRequest"),
            verbs: PART,
        },
        status(gvk("certificates.k8s.io", "v1", "CertificateSigningRequest")),
    ],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::AGE,
            Column::text("SignerName", "certificates.v1.CertificateSigningRequestSpec#signerName"),
            Column::text("Requestor", "certificates.v1.CertificateSigningRequestSpec#request"),
            Column::text(
                "RequestedDuration",
                "certificates.v1.CertificateSigningRequestSpec#expirationSeconds",
            ),
            Column::text("Condition", "certificates.v1.CertificateSigningRequestStatus#conditions"),
        ],
        cells,
    },
    ..row!(
        "certificates.k8s.io" / "v1",
        "CertificateSigningRequest",
        "certificatesigningrequest",
        "certificatesigningrequests",
        "certificates",
        certificates::CertificateSigningRequest,
        CertificateRequestRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let seconds = object.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    let seconds = seconds.map_or_else(|| "<none>".to_owned(), duration::human);
    vec![
        meta::name(object).into(),
        age(object, now),
        read::or_none(read::text(object, "/spec/signerName")).into(),
        read::text(object, "/spec/username").into(),
        seconds.into(),
        state(object).into(),
    ]
}

fn state(object: &Value) -> String {
    let has =
        |kind: &str| read::list(object, "/status/conditions").iter().any(|c| read::text(c, "/type") == kind);
    let mut words: Vec<&str> = ["Denied", "Approved"].into_iter().filter(|kind| has(kind)).take(1).collect();
    if words.is_empty() {
        words.push("Pending");
    }
    if has("Failed") {
        words.push("Failed");
    }
    if !read::text(object, "/status/certificate").is_empty() {
        words.push("Issued");
    }
    words.join(",")
}

/// Shortest life that can be asked for, in seconds.
const MIN_SECONDS: i32 = 600;
/// What a key may be for.
pub(crate) const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// Conditions that are set through `approval` alone.
const VERDICTS: [&str; 2] = ["Approved", "Denied"];

/// What is true of certificatesigningrequests.
pub(super) struct CertificateRequestRules;

impl Rules for CertificateRequestRules {
    type Object = certificates::CertificateSigningRequest;

    const SCOPE: Scope = Scope::Cluster;
    const NAME: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: bool = true;
    const HAS_STATUS: bool = true;
    const SELECTABLE: &'static [&'static str] = &["metadata.name", "spec.signerName"];

    fn prepare_update(new: &mut Value, old: &Value) {
        // What was asked for stays.
        meta::copy_field(new, old, "spec");
    }

    fn prepare_part_update(part: &str, new: &mut Value, old: &Value) -> bool {
        if part != "approval" {
            return false;
        }
        let conditions = new.pointer("/status/conditions").cloned();
        meta::keep_all_but_status(new, old, &[]);
        meta::copy_field(new, old, "status");
        let status = new.as_object_mut().and_then(|fields| make_object(fields, "status"));
        if let (Some(status), Some(conditions)) = (status, conditions) {
            status.insert("conditions".into(), conditions);
        }
        true
    }

    fn validate(request: &Self::Object, errors: &mut Errors) {
        let (spec, path) = (&request.spec, spec_path());
        if let Err(why) = check_request(&spec.request.0) {
            let shown = validate::shown(&spec.request);
            errors.push(FieldError::invalid(&path.child("request"), shown, why));
        }
        let usages = validate::list(&spec.usages);
        let at = path.child("usages");
        if usages.is_empty() {
            errors.push(FieldError::required(&at, ""));
        }
        for (index, usage) in usages.iter().enumerate() {
            one_of(&at.index(index), usage, USAGES, errors);
        }
        let mut seen = HashSet::new();
        for (index, usage) in usages.iter().enumerate() {
            if !seen.insert(usage) {
                errors.push(FieldError::duplicate(&at.index(index), usage.as_str()));
            }
        }
        signer(&spec.signer_name, &path.child("signerName"), errors);
        if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < MIN_SECONDS) {
            let why = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, why));
        }
    }

    fn validate_update(_new: &Self::Object, _old: &Self::Object, _errors: &mut Errors) {}

    fn validate_status_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        conditions(new, old, errors);
        let (was, is) = (certificate(old), certificate(new));
        let at = status_path().child("certificate");
        if was != is
            && let Err(why) = check_certificates(is)
        {
            errors.push(FieldError::invalid(&at, "<certificate data>", why));
        }
        kept(new, old, errors);
        for kind in VERDICTS {
            let (was, is) = (of_kind(old, kind), of_kind(new, kind));
            let why = match is.len().cmp(&was.len()) {
                Ordering::Greater => format!("updates may not add a condition of type {kind:?}"),
                Ordering::Equal if is != was => {
                    format!("updates may not modify a condition of type {kind:?}")
                }
                _ => continue,
            };
            errors.push(FieldError::forbidden(&status_path().child("conditions"), why));
        }
        if was != is && !was.is_empty() {
            errors.push(FieldError::forbidden(&at, "updates may not modify existing certificate content"));
        }
    }

    fn validate_part_update(_part: &str, new: &Value, old: &Value, errors: &mut Errors) {
        let read = |of: &Value| serde_json::from_value::<Self::Object>(of.clone());
        match (read(new), read(old)) {
            (Ok(new), Ok(old)) => {
                conditions(&new, &old, errors);
                kept(&new, &old, errors);
            }
            (Err(why), _) | (_, Err(why)) => errors.push(FieldError::internal(&FieldPath::default(), why)),
        }
    }
}

type Request = certificates::CertificateSigningRequest;

fn all_conditions(request: &Request) -> &[certificates::CertificateSigningRequestCondition] {
    request.status.as_ref().map_or(&[][..], |status| validate::list(&status.conditions))
}

/// The conditions of one type.
fn of_kind<'a>(
    request: &'a Request,
    kind: &str,
) -> Vec<&'a certificates::CertificateSigningRequestCondition> {
    all_conditions(request).iter().filter(|condition| condition.type_ == kind).collect()
}

/// What was decided, or has failed, stays so.
fn kept(new: &Request, old: &Request, errors: &mut Errors) {
    for kind in VERDICTS.into_iter().chain(["Failed"]) {
        if of_kind(new, kind).len() < of_kind(old, kind).len() {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&status_path().child("conditions"), why));
        }
    }
}

fn certificate(request: &Request) -> &[u8] {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.map_or(&[], |certificate| &certificate.0)
}

/// What a signer gives has to be certificates, and nothing else.
fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let mut found = 0;
    for block in Pem::iter_from_buffer(pem) {
        let block = match block {
            Ok(block) => block,
            Err(_) if has_headers(pem) => return Err("no PEM block headers are permitted".to_owned()),
            Err(_) => break,
        };
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        found += 1;
        let parsed = block.parse_x509().map_err(|why| format!("x509: malformed certificate: {why}"));
        parsed?;
    }
    if found == 0 && !pem.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Ok(())
}

/// Whether lines like `Name: value` stand within the blocks.
fn has_headers(pem: &[u8]) -> bool {
    let mut within = false;
    pem.split(|byte| *byte == b'\n').any(|line| {
        if line.starts_with(b"-----") {
            within = line.starts_with(b"-----BEGIN");
        }
        within && line.contains(&b':')
    })
}

/// The conditions; what the request had before of empty types, types twice and both verdicts may stay.
fn conditions(new: &Request, old: &Request, errors: &mut Errors) {
    let before = all_conditions(old);
    let has = |kind: &str| before.iter().any(|condition| condition.type_ == kind);
    let types: HashSet<&str> = before.iter().map(|condition| condition.type_.as_str()).collect();
    let (empty, twice) = (has(""), types.len() < before.len());
    let both = VERDICTS.into_iter().all(has);
    let path = status_path().child("conditions");
    let mut seen = HashSet::new();
    for (index, condition) in all_conditions(new).iter().enumerate() {
        let (at, kind) = (path.index(index), condition.type_.as_str());
        if !empty {
            require(&at.child("type"), kind, errors);
        }
        let known = matches!(kind, "Approved" | "Denied" | "Failed");
        let allowed: &[&str] = if known { &["True"] } else { &["False", "True", "Unknown"] };
        require_one_of(&at.child("status"), &condition.status, allowed, errors);
        let other =
            VERDICTS.into_iter().find(|verdict| *verdict != kind).filter(|_| VERDICTS.contains(&kind));
        if !both && other.is_some_and(|other| seen.contains(other)) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(&path, kind, why));
        }
        if !seen.insert(kind) && !twice {
            errors.push(FieldError::duplicate(&at.child("type"), kind));
        }
    }
}

/// The request has to be one, signed with its own key.
fn check_request(pem: &[u8]) -> Result<(), String> {
    let (_, block) =
        x509_parser::pem::parse_x509_pem(pem).map_err(|_| "PEM block type must be CERTIFICATE REQUEST")?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
    }
    let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|why| why.to_string())?;
    request.verify_signature().map_err(|why| why.to_string())
}

/// Longest name of a signer: a domain, and a path of a namespace and a name.
const MAX_SIGNER: usize = names::MAX_SUBDOMAIN * 2 + names::MAX_LABEL + 2;

/// `example.com/name`, the name being one or several subdomains.
fn signer(name: &str, path: &FieldPath, errors: &mut Errors) {
    if !require(path, name, errors) {
        return;
    }
    if name == "kubernetes.io/legacy-unknown" {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(path, name, why));
        return;
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, name, why));
        return;
    };
    if domain.len() > names::MAX_SUBDOMAIN {
        errors.push(FieldError::too_long(path, names::MAX_SUBDOMAIN));
    }
    first_wrong(domain, names::dns1123_label, path, errors);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, why));
    }
    first_wrong(rest, names::dns1123_subdomain, path, errors);
    if name.len() > MAX_SIGNER {
        errors.push(FieldError::too_long(path, MAX_SIGNER));
    }
}

/// What is wrong with the first part between dots that breaks the rule.
fn first_wrong(text: &str, rule: fn(&str) -> Vec<String>, path: &FieldPath, errors: &mut Errors) {
    let wrong = text.split('.').map(|part| (part, rule(part))).find(|(_, wrong)| !wrong.is_empty());
    for why in wrong.iter().flat_map(|(part, wrong)| wrong.iter().map(move |why| (part, why))) {
        let (part, why) = why;
        errors.push(FieldError::invalid(path, text, format!("validating label {part:?}: {why}")));
    }
}
