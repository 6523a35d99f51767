//! What containers answer to probes.

use super::grpc::serving_status;
use super::http::Place;

pub(crate) fn answers() -> Vec<Vec<u8>> {
    ["\0\0\0\0\u{2}\u{8}\u{1}", "/a?b=c", "https://a.example:1/b"].map(|text| text.as_bytes().to_vec()).into()
}

/// The body of a gRPC answer, and where a redirect leads.
pub(crate) fn answer(data: &[u8]) {
    let _ = serving_status(data);
    let place = Place { tls: false, host: "a.example".to_owned(), port: 1, path: "/".to_owned() };
    let next = std::str::from_utf8(data).ok().and_then(|location| place.redirected(location));
    assert!(next.is_none_or(|next| next.host == place.host), "a redirect to another host");
}
