//! What registries say beside the documents.

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{auth, registry_words, retry_after};

pub(crate) fn answers() -> Vec<Vec<u8>> {
    let texts = [
        "Bearer realm=\"https://a.example/token\",service=\"b\\\"\", scope=repository:c:pull, error=x",
        "Basic realm=a",
        "30",
        "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\"}],\"details\":\"d\"}",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// The header that asks for credentials, the one that asks for patience, and the body of an error.
pub(crate) fn answer(data: &[u8]) {
    let _ = registry_words(data, StatusCode::FORBIDDEN);
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, value.clone()), (RETRY_AFTER, value)]);
    let _ = (auth::challenge(&headers), retry_after(&headers));
}
