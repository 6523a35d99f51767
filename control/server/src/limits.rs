//! What protects the server from requests that take too much: body sizes, time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use carrack_api::codec::MAX_BODY;
use carrack_api::status::go_quoted;
use http_body_util::BodyExt;

use crate::query::Query;
use crate::{ApiError, RequestBody};

/// How long a request may take that does not go on for as long as the client wishes; upstream's default.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the request may take: what `timeout` of the query says, at most [`REQUEST_TIMEOUT`].
pub(crate) fn timeout(query: &Query) -> Result<Duration, ApiError> {
    let Some(text) = query.non_empty("timeout") else { return Ok(REQUEST_TIMEOUT) };
    // Less than nothing asks for nothing special, as nothing does.
    let (is_negative, amount) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let parsed = if amount == "0" { Some(Duration::ZERO) } else { parse_duration(amount) };
    let parsed = parsed.filter(|_| !amount.is_empty()).ok_or_else(|| {
        let is_number = !amount.is_empty() && amount.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let what = if is_number { "missing unit in duration" } else { "invalid duration" };
        let text = go_quoted(text);
        ApiError::bad_request(format!("invalid timeout specified in the request URL - time: {what} {text}"))
    })?;
    Ok(if is_negative || parsed.is_zero() { REQUEST_TIMEOUT } else { parsed.min(REQUEST_TIMEOUT) })
}

/// Reads a duration as Go writes it, such as `32s`, `1m30s` or `500ms`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        total += number
            * match &rest[digits..unit_end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(total).ok()
}

/// Reads a whole body; 413 when it has more than [`MAX_BODY`] bytes, 400 when the client breaks off.
pub(crate) async fn read_body(mut body: RequestBody) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| ApiError::bad_request(format!("cannot read the body: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > MAX_BODY {
            return Err(ApiError::too_large(MAX_BODY));
        }
        // Most bodies come in one piece, which is then not copied.
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::from(&first[..]);
    whole.unsplit(rest);
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_go_writes_them_and_bounded() {
        let cases = [
            ("", Some(60_000)),
            ("timeout=32s", Some(32_000)),
            ("timeout=0s", Some(60_000)),
            ("timeout=1m30s", Some(60_000)),
            ("timeout=250ms", Some(250)),
            ("timeout=-3s", Some(60_000)),
            ("timeout=0", Some(60_000)),
            ("timeout=-", None),
            ("timeout=soon", None),
            ("timeout=3", None),
        ];
        for (query, expected) in cases {
            let got = timeout(&Query::parse(query).unwrap()).ok().map(|d| d.as_millis());
            assert_eq!(got, expected, "{query}");
        }
    }
}
