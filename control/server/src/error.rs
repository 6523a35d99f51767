//! What a client is told when a request fails: a `metav1.Status` behind one pointer, so that results stay small.

use std::ops::Deref;

use carrack_api::status::{self, GroupResource};
use carrack_store::{ReadError, WatchError, WriteError};

pub use carrack_api::status::{Cause, Details};

/// A failed request: becomes the HTTP status and the `Status` object of the answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ApiError(Box<carrack_api::Status>);

impl From<carrack_api::Status> for ApiError {
    fn from(status: carrack_api::Status) -> Self {
        ApiError(Box::new(status))
    }
}

impl Deref for ApiError {
    type Target = carrack_api::Status;
    fn deref(&self) -> &carrack_api::Status {
        &self.0
    }
}

/// Group and resource as the table's messages want them.
fn of<'a>(group: &'a str, resource: &'a str) -> GroupResource<'a> {
    GroupResource { group, resource }
}

impl ApiError {
    /// An error without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        carrack_api::Status {
            code,
            reason,
            message: message.into(),
            details: None,
            continue_token: None,
            remaining_items: None,
        }
        .into()
    }

    /// 404: the object does not exist.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        status::not_found(of(group, resource), name).into()
    }

    /// 404: nothing is served at this path.
    pub fn no_such_path() -> Self {
        status::no_such_path().into()
    }

    /// 409: the object is already there.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        status::already_exists(of(group, resource), name).into()
    }

    /// 409: the request conflicts with the object's present state.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        status::conflict(of(group, resource), name, why).into()
    }

    /// 403: the request is understood and refused.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        if resource.is_empty() {
            let mut error = Self::new(403, "Forbidden", format!("forbidden: {why}"));
            error.0.details.get_or_insert_default();
            return error;
        }
        status::forbidden_because(of(group, resource), name, why).into()
    }

    /// 401: no acceptable credentials.
    pub fn unauthorized() -> Self {
        status::unauthorized().into()
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        status::bad_request(message).into()
    }

    /// 422: the object is not valid; `kind` is the object's kind.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let list: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let mut status = status::invalid(group, kind, name, &[]);
        match list.as_slice() {
            [] => {}
            [one] => status.message += &format!(": {one}"),
            many => status.message += &format!(": [{}]", many.join(", ")),
        }
        status.details.get_or_insert_default().causes = causes;
        status.into()
    }

    /// 405: the resource does not know this verb.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut error = Self::new(405, "MethodNotAllowed", message);
        error.0.details.get_or_insert_default();
        error
    }

    /// Whether this is [`ApiError::no_such_path`].
    pub(crate) fn is_no_such_path(&self) -> bool {
        *self.0 == status::no_such_path()
    }

    /// 406: none of the representations asked for exists.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 415: the body's content type is not understood.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        status::too_large(limit).into()
    }

    /// 410: the revision asked for is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        status::expired(message).into()
    }

    /// 429: come back after `seconds`.
    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Self {
        status::too_many_requests(message, seconds).into()
    }

    /// 500: the server's own fault.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        status::internal(message).into()
    }

    /// 503: a part that the request needs is away.
    pub fn unavailable(message: impl Into<String>) -> Self {
        status::unavailable(message).into()
    }

    /// 504: not done in time. Says nothing about another try, which clients would make by themselves: what was asked for
    /// may have been done.
    pub fn timeout(message: &str) -> Self {
        status::timeout(message, 0).into()
    }

    /// The same error, telling the client when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// The same error with a further cause.
    #[must_use]
    pub fn with_cause(mut self, cause: Cause) -> Self {
        self.0.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// The seconds after which the client may try again, if the error says so.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details.as_ref().map(|d| d.retry_after_seconds).filter(|seconds| *seconds > 0)
    }
}

/// What a client is told when a write does not reach the store. Leadership comes back by itself: 503 says so. A full
/// disk needs a person: 500, as upstream's, so that clients do not silently repeat the write for minutes. An unknown
/// outcome is a timeout, for which clients look before they repeat.
impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::TooLarge { limit, .. } => ApiError::too_large(limit),
            WriteError::NotLeader { .. } | WriteError::Stopped | WriteError::Failed(_) => {
                ApiError::unavailable(format!("the store cannot write: {error}")).retry_after(1)
            }
            WriteError::Unknown => {
                ApiError::timeout("the store's leader changed, the write may or may not be done")
            }
            WriteError::Unreadable(_) => ApiError::internal(error),
            other => ApiError::internal(format!("the store refused the write: {other}")),
        }
    }
}

/// What a client is told when the store cannot be read.
impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Compacted { requested, compacted } => too_old(requested, compacted),
            ReadError::FutureRevision { requested, current } => too_new(requested, current),
            ReadError::NotLeader { .. } | ReadError::Stopped | ReadError::Failed(_) => {
                ApiError::unavailable(format!("the store cannot be read: {error}")).retry_after(1)
            }
            ReadError::Corrupt | ReadError::History(_) | ReadError::Unreadable(_) => {
                ApiError::internal(error)
            }
        }
    }
}

/// What a watcher is told when its watch cannot start or go on.
impl From<WatchError> for ApiError {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Compacted { requested, compacted } => too_old(requested, compacted),
            WatchError::BadRevision(_) => ApiError::bad_request(error.to_string()),
            WatchError::Stopped => ApiError::unavailable(error.to_string()).retry_after(1),
            WatchError::History(_) | WatchError::Unreadable(_) => ApiError::internal(error),
        }
    }
}

/// 410: events or history from `asked` on are gone.
fn too_old(asked: i64, oldest: i64) -> ApiError {
    status::too_old_resource_version(asked.unsigned_abs(), oldest.unsigned_abs()).into()
}

/// 504: `asked` is not reached yet.
pub(crate) fn too_new(asked: i64, current: i64) -> ApiError {
    status::too_large_resource_version(asked.unsigned_abs(), current.unsigned_abs()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_do_not_repeat_by_themselves_what_may_be_done() {
        assert_eq!(ApiError::timeout("late").retry_after_seconds(), None);
        assert_eq!(ApiError::from(WriteError::Unknown).retry_after_seconds(), None);
        assert_eq!(too_new(9, 5).retry_after_seconds(), Some(1));
    }

    #[test]
    fn refusals_about_paths_have_details_without_content() {
        for refused in
            [ApiError::forbidden("", "", "", "no"), ApiError::method_not_allowed(), ApiError::timeout("")]
        {
            assert_eq!(refused.details, Some(Box::default()), "{refused}");
        }
    }
}
