//! Answers that are made while they are sent keep their seats until they are sent.

use std::time::Duration;

use http::Response;
use http_body::Body;
use tokio::sync::oneshot;

use super::Admitted;
use crate::ResponseBody;
use crate::body::holding;

/// Answers up to this size, in bytes, are handed over at once.
const SMALL: u64 = 64 * 1024;
/// How long an answer keeps its seats at most: the time that requests have. A client that takes longer costs memory,
/// and nobody's turn.
const LONGEST: Duration = Duration::from_secs(60);

/// The answer, with its seats given back once it is sent.
pub(crate) fn hold(response: Response<ResponseBody>, admitted: Option<Admitted>) -> Response<ResponseBody> {
    let Some(admitted) = admitted else { return response };
    if response.body().size_hint().upper().is_some_and(|length| length <= SMALL) {
        return response;
    }
    let (end, ended) = oneshot::channel::<()>();
    tokio::spawn(async move {
        // Either way the seats go back.
        let _ = tokio::time::timeout(LONGEST, ended).await;
        drop(admitted);
    });
    holding(response, end)
}
