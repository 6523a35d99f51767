//! Certificate requests: who asks is written down, and only those who may speak for a signer approve or sign.
//!
//! This is upstream's CertificateApproval, CertificateSigning and CertificateSubjectRestriction, and what its
//! registry notes of the requestor.

use std::sync::Arc;

use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::{display_name, spec};
use crate::authn::text;
use crate::authz::verdict;
use crate::{Admission, AdmissionRequest, ApiError, Attributes, Authorizer, Draft, Operation};

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
/// Whose certificates this server takes for users.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// The group that may do everything: nobody gets into it by a certificate that others approve.
const MASTERS: &str = "system:masters";

/// Which of upstream's plugins count.
#[derive(Clone, Copy, Debug)]
pub struct CertificateChecks {
    /// CertificateApproval.
    pub approval: bool,
    /// CertificateSigning.
    pub signing: bool,
    /// CertificateSubjectRestriction.
    pub subject: bool,
}

/// The plugin.
pub struct CertificateRequest {
    authorizers: Vec<Arc<dyn Authorizer>>,
    checks: CertificateChecks,
}

impl CertificateRequest {
    /// `authorizers` say who may `approve` and `sign` for a signer.
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Self { authorizers, checks: CertificateChecks { approval: true, signing: true, subject: true } }
    }

    /// The same with these checks alone.
    #[must_use]
    pub fn with(self, checks: CertificateChecks) -> Self {
        Self { checks, ..self }
    }

    /// Whether the user has the verb on the signer, or on all of its domain.
    async fn may(&self, request: &Attributes, verb: &str, signer: &str) -> bool {
        let domain = signer.split('/').next().unwrap_or_default();
        for name in [signer.to_owned(), format!("{domain}/*")] {
            let question = Attributes {
                verb: verb.into(),
                resource: "signers".into(),
                subresource: String::new(),
                name,
                ..request.clone()
            };
            if verdict(&self.authorizers, &question).await.is_ok() {
                return true;
            }
        }
        false
    }
}

fn is_about_requests(request: &AdmissionRequest<'_>) -> bool {
    request.attributes.api_group == GROUP && request.attributes.resource == RESOURCE
}

#[async_trait::async_trait]
impl Admission for CertificateRequest {
    async fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Draft<'_>) -> Result<(), ApiError> {
        if !is_about_requests(request) || request.operation != Operation::Create {
            return Ok(());
        }
        let user = &request.attributes.user;
        let fields = spec(object);
        // Whatever the body says of the user is not to be believed.
        for (field, value) in [
            ("username", json!(user.name)),
            ("uid", json!(user.uid)),
            ("groups", json!(user.groups)),
            ("extra", json!(user.extra)),
        ] {
            let empty =
                value.as_str() == Some("") || value.as_object().is_some_and(serde_json::Map::is_empty);
            if empty {
                fields.remove(field);
            } else {
                fields.insert(field.to_owned(), value);
            }
        }
        Ok(())
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let Some(object) = object.filter(|_| is_about_requests(request)) else { return Ok(Vec::new()) };
        let refuse = |why: String| {
            Err(ApiError::forbidden(GROUP, RESOURCE, display_name(request, Some(object)), &why))
        };
        let signer = text(object, "/spec/signerName");
        let changed =
            |pointer: &str| request.old.is_some_and(|old| old.pointer(pointer) != object.pointer(pointer));
        match (request.operation, request.attributes.subresource.as_str()) {
            (Operation::Create, "")
                if self.checks.subject
                    && signer == CLIENT_SIGNER
                    && organizations(object).contains(MASTERS) =>
            {
                refuse(format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"))
            }
            (Operation::Update, "approval")
                if self.checks.approval && !self.may(request.attributes, "approve", signer).await =>
            {
                refuse(format!("user not permitted to approve requests with signerName {signer:?}"))
            }
            (Operation::Update, "status")
                if self.checks.signing
                    && (changed("/status/certificate") || changed("/status/conditions"))
                    && !self.may(request.attributes, "sign", signer).await =>
            {
                refuse(format!("user not permitted to sign requests with signerName {signer:?}"))
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// The organizations in the request's subject, which become groups. What cannot be read is for validation to refuse.
fn organizations(object: &Value) -> std::collections::BTreeSet<String> {
    let read = |subject: &X509Name<'_>| {
        subject.iter_organization().filter_map(|o| Some(o.as_str().ok()?.to_owned())).collect()
    };
    of_subject(object, read).unwrap_or_default()
}

/// The common name in the request's subject, which becomes the user's name; `None` when it cannot be read.
pub(super) fn common_name(object: &Value) -> Option<String> {
    of_subject(object, |subject| {
        let last = subject.iter_common_name().last();
        last.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
    })
}

/// What `read` finds in the subject of `spec.request`.
fn of_subject<T>(object: &Value, read: impl FnOnce(&X509Name<'_>) -> T) -> Option<T> {
    use base64::Engine as _;
    let pem = base64::engine::general_purpose::STANDARD.decode(text(object, "/spec/request")).ok()?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents).ok()?;
    Some(read(&request.certification_request_info.subject))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decision, UserInfo};

    /// Lets one user do one thing.
    struct Only(&'static str, &'static str);

    #[async_trait::async_trait]
    impl Authorizer for Only {
        fn authorize(&self, asked: &Attributes) -> Decision {
            let is = asked.verb == self.0 && asked.name == self.1 && asked.resource == "signers";
            if is { Decision::Allow } else { Decision::NoOpinion(String::new()) }
        }
    }

    fn attributes(subresource: &str) -> Attributes {
        let mut user = UserInfo::new("jane", ["team"]);
        user.extra.insert("from".into(), vec!["here".into()]);
        Attributes {
            user,
            api_group: GROUP.into(),
            resource: RESOURCE.into(),
            subresource: subresource.into(),
            name: "r".into(),
            ..Attributes::default()
        }
    }

    async fn judge(
        allowed: Only,
        operation: Operation,
        subresource: &str,
        old: &Value,
        new: &Value,
    ) -> Result<Vec<String>, ApiError> {
        let plugin = CertificateRequest::new(vec![Arc::new(allowed)]);
        let attributes = attributes(subresource);
        let old = Some(old);
        let request = AdmissionRequest { attributes: &attributes, operation, kind: "", old, dry_run: false };
        plugin.validate(&request, Some(new)).await
    }

    #[tokio::test]
    async fn who_asks_is_not_taken_from_the_body() {
        let attributes = attributes("");
        let operation = Operation::Create;
        let request =
            AdmissionRequest { attributes: &attributes, operation, kind: "", old: None, dry_run: false };
        let mut object = json!({"spec": {"username": "admin", "uid": "1", "groups": ["system:masters"]}});
        let mut draft = Draft::new(&mut object);
        CertificateRequest::new(Vec::new()).mutate(&request, &mut draft).await.unwrap();
        let groups = ["team", "system:authenticated"];
        let expected = json!({"spec": {"username": "jane", "groups": groups, "extra": {"from": ["here"]}}});
        assert_eq!(object, expected);
    }

    #[tokio::test]
    async fn only_those_who_speak_for_the_signer_approve_and_sign() {
        let plain = json!({"spec": {"signerName": "example.com/a"}});
        let signed = json!({"spec": {"signerName": "example.com/a"}, "status": {"certificate": "eA=="}});
        let update = Operation::Update;
        for (allowed, part, new, passes) in [
            (Only("approve", "example.com/a"), "approval", &plain, true),
            (Only("approve", "example.com/*"), "approval", &plain, true),
            (Only("approve", "example.com/b"), "approval", &plain, false),
            (Only("sign", "example.com/a"), "approval", &plain, false),
            (Only("sign", "example.com/a"), "status", &signed, true),
            (Only("approve", "example.com/a"), "status", &signed, false),
            (Only("nothing", ""), "status", &plain, true),
        ] {
            let (verb, name) = (allowed.0, allowed.1);
            let verdict = judge(allowed, update, part, &plain, new).await;
            assert_eq!(verdict.is_ok(), passes, "{verb} {name} {part}");
        }
        let error = judge(Only("", ""), update, "approval", &plain, &plain).await.unwrap_err();
        let words = "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve \
                     requests with signerName \"example.com/a\"";
        assert_eq!((error.code, error.message.as_str()), (403, words));
    }
}
