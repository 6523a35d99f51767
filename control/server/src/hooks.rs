//! What the server asks of others: who is this, may they, what to change or refuse, how to reach a node.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use serde_json::Value;

use crate::{ApiError, Attributes, Draft, RequestBody, ResponseBody, UserInfo};

/// What a connection and its request bring along to prove an identity.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The client certificate and its chain, as sent and already checked against the client CA by
    /// TLS; empty when the client sent none.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// The token of `Authorization: Bearer …`.
    pub bearer: Option<String>,
    /// The headers of the request, in which an authenticating proxy says whom it speaks for.
    pub headers: http::HeaderMap,
}

/// Says who a request comes from.
#[async_trait::async_trait]
pub trait Authenticator: Send + Sync {
    /// The user, or `None` when the credentials prove nothing. Credentials that are there and wrong
    /// (a forged or expired token) are an error, 401, also when others of the request would do.
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<UserInfo>, ApiError>;

    /// Whether a request that proves nothing may go on as the anonymous user.
    fn allows_anonymous(&self, path: &str) -> bool {
        crate::authn::anonymous_path(path)
    }

    /// The headers that carry credentials, which nobody behind the authentication is to see.
    fn credential_headers(&self, _name: &http::HeaderName) -> bool {
        false
    }

    /// What it counts for `/metrics`: name, help and value of each.
    fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        Vec::new()
    }

    /// The user and the accepted audiences behind a bearer token that is valid for one of
    /// `audiences` (for the API server itself when empty): what a TokenReview answers.
    async fn review_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(UserInfo, Vec<String>), ApiError>;
}

/// An authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allow,
    /// Refused, whatever others say; with the reason.
    Deny(String),
    /// Not allowed by this authorizer; with the reason. Nobody allowing it is a refusal.
    NoOpinion(String),
    /// Not known without asking somebody else: [`Authorizer::ask`] does.
    Ask,
}

/// The rules that apply to a user in a namespace, in the form of a SelfSubjectRulesReview.
#[derive(Clone, Debug, Default)]
pub struct RuleList {
    /// `ResourceRule` objects: `verbs`, `apiGroups`, `resources`, `resourceNames`.
    pub resource_rules: Vec<Value>,
    /// `NonResourceRule` objects: `verbs`, `nonResourceURLs`.
    pub non_resource_rules: Vec<Value>,
    /// Whether there may be more than is listed.
    pub incomplete: bool,
}

/// Says whether a user may do something.
#[async_trait::async_trait]
pub trait Authorizer: Send + Sync {
    /// The verdict on one request, from memory.
    fn authorize(&self, attributes: &Attributes) -> Decision;

    /// The verdict of whoever has to be asked, when [`Self::authorize`] said [`Decision::Ask`]. Takes a bounded time;
    /// never answers [`Decision::Ask`].
    async fn ask(&self, attributes: &Attributes) -> Decision {
        self.authorize(attributes)
    }

    /// Waits until the answers take in all that was stored before this call, so that nobody is refused what was
    /// granted a moment ago; [`crate::authz::decide`] calls it before a refusal.
    async fn catch_up(&self) {}

    /// What `user` may do in `namespace`.
    fn rules(&self, _user: &UserInfo, _namespace: &str) -> RuleList {
        RuleList { incomplete: true, ..RuleList::default() }
    }
}

/// What happens to the object, as admission sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object (or a subresource made by POST, such as `binding`).
    Create,
    /// An update or patch.
    Update,
    /// A deletion.
    Delete,
    /// A connection: `exec`, `attach`, `portforward`, `proxy`.
    Connect,
}

/// What admission looks at beside the object itself.
#[derive(Clone, Debug)]
pub struct AdmissionRequest<'a> {
    /// Who does what.
    pub attributes: &'a Attributes,
    /// What happens.
    pub operation: Operation,
    /// The kind of the object in the request, for instance `Pod` or `Binding`.
    pub kind: &'a str,
    /// The object as it is stored, with its `resourceVersion`; absent for creations.
    pub old: Option<&'a Value>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// Changes and judges objects on their way in.
///
/// Both methods run again when a write meets a conflict and is tried anew, so that they must not
/// have effects of their own.
#[async_trait::async_trait]
pub trait Admission: Send + Sync {
    /// Changes the object; runs for create, update and connect after decoding and defaults.
    /// An error refuses the request.
    async fn mutate(&self, _request: &AdmissionRequest<'_>, _object: &mut Draft<'_>) -> Result<(), ApiError> {
        Ok(())
    }

    /// Judges the final object (`None` for deletions) after the kind's own validation; returns
    /// warnings for the client.
    async fn validate(
        &self,
        _request: &AdmissionRequest<'_>,
        _object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        Ok(Vec::new())
    }
}

/// Issues ServiceAccount tokens for `serviceaccounts/token`.
#[async_trait::async_trait]
pub trait TokenIssuer: Send + Sync {
    /// Completes a TokenRequest: `account` is the stored ServiceAccount, `bound` the stored object
    /// that `request.spec.boundObjectRef` names (already looked up, UID checked). Returns the
    /// TokenRequest with its `status`.
    async fn issue(&self, account: &Value, request: Value, bound: Option<&Value>) -> Result<Value, ApiError>;

    /// What belongs into the data of the Secret called `secret` that holds a lasting token of `account` (the stored
    /// object); `None` when there are no such tokens.
    fn secret_data(
        &self,
        _account: &Value,
        _secret: &str,
    ) -> Option<Result<Vec<(&'static str, String)>, ApiError>> {
        None
    }

    /// What `/.well-known/openid-configuration` answers, `server` being the URL of this server; `None` when tokens
    /// cannot be checked by others.
    fn openid_configuration(&self, _server: &str) -> Option<Value> {
        None
    }

    /// What `/openid/v1/jwks` answers: the public keys that tokens are signed with.
    fn openid_keys(&self) -> Option<Value> {
        None
    }
}

/// A request that a node has to answer: `log`, `exec`, `attach`, `portforward`.
pub struct NodeRequest {
    /// The stored pod.
    pub pod: Value,
    /// The stored node that the pod is bound to.
    pub node: Value,
    /// `log`, `exec`, `attach` or `portforward`.
    pub subresource: String,
    /// The client's request, headers and query included; for an upgrade its extensions hold
    /// hyper's `OnUpgrade`.
    pub request: http::Request<RequestBody>,
}

/// Carries requests to the API of a node.
#[async_trait::async_trait]
pub trait NodeProxy: Send + Sync {
    /// The node's answer; for an upgrade 101, with the bytes copied by a task of its own.
    async fn forward(&self, request: NodeRequest) -> Result<http::Response<ResponseBody>, ApiError>;

    /// What the API of `node` (the stored object) answers to a request (`nodes/proxy`); `path` is that on the node,
    /// with the query: `/metrics?x=y`. For an upgrade as [`NodeProxy::forward`].
    async fn proxy(
        &self,
        node: &serde_json::Value,
        path: &str,
        request: http::Request<RequestBody>,
    ) -> Result<http::Response<ResponseBody>, ApiError>;
}
