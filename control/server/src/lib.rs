//! The API server: HTTP, authentication, authorization, admission, discovery, watch.
//!
//! A request goes through [`front`] (TLS, identity) or [`ApiServer::as_user`] (in the same process),
//! then in both cases through the same [`service`]: request info, limits, authorization, the verb.
//! What the server asks of others (who is this, may they, what to change or refuse on the way in,
//! how to reach a node) are the traits of [`hooks`].

mod body;
mod config;
mod error;
mod hooks;
mod identity;

pub use body::{BoxError, RequestBody, ResponseBody, empty, full};
pub use config::{Config, ConfigError};
pub use error::{ApiError, Cause, Details};
pub use hooks::{
    Admission, AdmissionRequest, Authenticator, Authorizer, Credentials, Decision, NodeProxy, NodeRequest,
    Operation, RuleList, TokenIssuer,
};
pub use identity::{Attributes, UserInfo};
