//! What all ways of judging a bearer token have in common.

use crate::{ApiError, UserInfo};

/// A token that was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Whose it is.
    pub(super) user: UserInfo,
    /// Which of the audiences that were asked for it is good for.
    pub(super) audiences: Vec<String>,
}

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It is of this kind, and wrong.
    #[error("{0}")]
    Wrong(String),
    /// It could not be judged.
    #[error(transparent)]
    Server(#[from] ApiError),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Refusal::Wrong(why)
    }
}

/// Judges tokens of one kind.
#[async_trait::async_trait]
pub(super) trait TokenJudge: Send + Sync {
    /// The user behind the token, for one of `audiences` (this API server when empty). `None`: it is not of this kind.
    async fn judge(&self, token: &str, audiences: &[String]) -> Result<Option<Accepted>, Refusal>;
}

/// For tokens that name no audience of this cluster, and so are for the API server: which of `wanted` that is.
pub(super) fn among(wanted: &[String], own: &[String]) -> Result<Vec<String>, Refusal> {
    if wanted.is_empty() {
        return Ok(own.to_vec());
    }
    let both: Vec<String> = wanted.iter().filter(|audience| own.contains(audience)).cloned().collect();
    if both.is_empty() {
        return Err(format!("token audiences {own:?} is invalid for the target audiences {wanted:?}").into());
    }
    Ok(both)
}
