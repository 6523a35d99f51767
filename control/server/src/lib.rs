//! The API server: HTTP, authentication, authorization, admission, discovery, watch.
//!
//! A request comes through the TLS front ([`ApiServer::serve`]) or through [`ApiServer::as_user`] (in the same
//! process), then in both cases through the same service: request info, limits, authorization, the verb.
//! What the server asks of others (who is this, may they, what to change or refuse on the way in, how to reach a
//! node) are the traits of `hooks`.

mod aggregation;
mod body;
mod call;
mod care;
mod components;
mod config;
mod conversion;
mod definitions;
mod draft;
mod error;
mod event_leases;
mod events;
mod flow;
mod front;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod hooks;
mod identity;
mod interest;
mod kinds;
mod kubernetes;
mod limits;
mod listed;
mod metrics;
mod metrics_api;
mod namespaces;
mod negotiate;
mod object;
mod options;
mod outbound;
mod paths;
mod protobuf;
mod proxy;
mod query;
mod quota;
mod registry;
mod reload;
mod respond;
mod rewrite;
mod router;
mod server;
mod service;
mod service_addresses;
mod service_range;
mod services;
mod settings;
mod side;
mod slis;
mod stall;
mod start;
mod store_objects;
mod tracking;
mod ttl;
mod used_tokens;
mod verbs;

pub mod admission;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod encryption;
pub mod join;
pub mod kubelet;
pub mod pki;

pub use body::{BoxError, RequestBody, ResponseBody, empty, full};
pub use config::{Config, ConfigError};
pub use draft::Draft;
pub use error::{ApiError, Cause, Details};
pub use hooks::{
    Admission, AdmissionRequest, Authenticator, Authorizer, Credentials, Decision, NodeProxy, NodeRequest,
    Operation, RuleList, TokenIssuer,
};
pub use identity::{Attributes, Requirement, Selectors, UserInfo};
pub use listed::{ListedServer, SERVERS, server_key};
pub use outbound::{CallError, CallFailure, KubeconfigError, Remote, WebhookUsers};
pub use reload::ReloadError;
pub use server::ApiServer;
pub use service::UserService;
pub use settings::{SettingsError, duration};
pub use start::StartError;
pub use store_objects::StoreObjects;
