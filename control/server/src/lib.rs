//! The API server: HTTP, authentication, authorization, admission, discovery, watch.
//!
//! A request comes through the TLS front ([`ApiServer::serve`]) or through [`ApiServer::as_user`] (in the same
//! process), then in both cases through the same service: request info, limits, authorization, the verb.
//! What the server asks of others (who is this, may they, what to change or refuse on the way in, how to reach a
//! node) are the traits of `hooks`.

mod body;
mod call;
mod config;
mod error;
mod event_leases;
mod events;
mod front;
mod health;
mod hooks;
mod identity;
mod limits;
mod metrics;
mod namespaces;
mod negotiate;
mod object;
mod options;
// The way to aggregated API servers goes through it, too.
#[allow(dead_code)]
mod outbound;
mod paths;
mod protobuf;
mod query;
mod registry;
mod respond;
mod rewrite;
mod router;
mod server;
mod service;
mod service_range;
mod services;
mod side;
mod start;
mod store_objects;
mod tracking;
mod verbs;

pub mod admission;
pub mod authn;
pub mod authz;
pub mod kubelet;
pub mod pki;

pub use body::{BoxError, RequestBody, ResponseBody, empty, full};
pub use config::{Config, ConfigError};
pub use error::{ApiError, Cause, Details};
pub use hooks::{
    Admission, AdmissionRequest, Authenticator, Authorizer, Credentials, Decision, NodeProxy, NodeRequest,
    Operation, RuleList, TokenIssuer,
};
pub use identity::{Attributes, UserInfo};
pub use server::ApiServer;
pub use service::UserService;
pub use start::StartError;
pub use store_objects::StoreObjects;
