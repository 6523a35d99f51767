//! Paths that name no resource: discovery, OpenAPI, version, health, metrics, the keys of token issuing.

use carrack_api::openapi::{self, Document};
use carrack_api::{Catalogue, discovery};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::negotiate::{self, Representation, aggregated_discovery};
use crate::query::Query;
use crate::respond::{self, Pieces};
use crate::server::Inner;
use crate::{ApiError, RequestBody, ResponseBody, UserInfo, health, metrics};

/// What the version endpoint says beside the platform.
const GIT_VERSION: &str = "v1.35.0+carrack";

/// How long a document that is asked for by its hash may be kept: a year, as upstream.
const KEPT: SignedDuration = SignedDuration::from_hours(365 * 24);

/// The media type of OpenAPI v2 as protobuf. Older clients ask with an `@` in place of the second dot, which no media
/// type may have; the answer is labelled like this for them, too.
const OPENAPI_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers a path; 404 when there is nothing, 405 when it is not asked for by GET or HEAD.
pub(crate) async fn answer(
    server: &Inner,
    user: &UserInfo,
    request: Request<RequestBody>,
    path: &str,
    query: &Query,
) -> Result<Response<ResponseBody>, ApiError> {
    let request = match server.aggregation.document(path, user, request).await? {
        Ok(answer) => return Ok(answer),
        Err(own) => own,
    };
    // Bodies of requests cannot be shared between threads, heads can.
    let (head, _) = request.into_parts();
    let (method, headers) = (&head.method, &head.headers);
    if let Some(response) = health::answer(server, path, query) {
        return Ok(response);
    }
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let now = server.kinds.now();
    let kinds = &*now;
    let response = match segments.as_slice() {
        ["metrics"] => text_metrics(metrics::page(server)),
        ["metrics", "slis"] => text_metrics(server.health.slis.page()),
        ["openapi", "v2"] => {
            let merged = server.aggregation.openapi_v2(now.clone()).await?;
            let merged = merged.as_deref();
            if negotiate::wants_openapi_protobuf(headers) {
                let own = || openapi::v2_protobuf(kinds);
                tagged(merged.map_or_else(own, |m| &m.protobuf), OPENAPI_PROTOBUF, headers)?
            } else {
                let own = || openapi::v2(kinds);
                tagged(merged.map_or_else(own, |m| &m.json), "application/json", headers)?
            }
        }
        ["openapi", "v3"] => {
            let mut index = openapi::v3_index(kinds);
            server.aggregation.add_openapi(&mut index).await?;
            json_value(&index, query, headers)?
        }
        ["openapi", "v3", rest @ ..] => {
            let document = openapi::v3(kinds, &rest.join("/")).ok_or_else(ApiError::no_such_path)?;
            let answer = tagged(document, "application/json", headers)?;
            hashed(answer, document, path, query)
        }
        _ => match value(server, kinds, &segments, headers).await? {
            Answer::Plain(value) => json_value(&value, query, headers)?,
            Answer::Aggregated(value, version) => {
                let text = respond::to_text(&value, &Representation::plain())?;
                tagged(&Document::of(text), version.content_type(), headers)?
            }
        },
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed());
    }
    Ok(response)
}

/// A document and how it is labelled.
enum Answer {
    Plain(Value),
    Aggregated(Value, discovery::AggregatedVersion),
}

/// The documents that are JSON values.
async fn value(
    server: &Inner,
    kinds: &Catalogue,
    segments: &[&str],
    headers: &HeaderMap,
) -> Result<Answer, ApiError> {
    let aggregated = aggregated_discovery(headers);
    let plain = match segments {
        [] => paths(kinds),
        ["version"] => version(),
        ["api"] => match aggregated {
            Some(version) => {
                return Ok(Answer::Aggregated(discovery::aggregated_core(kinds, version), version));
            }
            None => discovery::api_versions(kinds, &address(server)),
        },
        ["apis"] => match aggregated {
            Some(version) => {
                let mut list = discovery::aggregated_groups(kinds, version);
                server.aggregation.add_described(&mut list).await?;
                return Ok(Answer::Aggregated(list, version));
            }
            None => {
                let mut list = discovery::api_group_list(kinds);
                server.aggregation.add_groups(&mut list).await?;
                list
            }
        },
        ["api", version] => {
            discovery::api_resource_list(kinds, "", version).ok_or_else(ApiError::no_such_path)?
        }
        ["apis", group] => {
            let own = discovery::api_group(kinds, group);
            server.aggregation.group(own, group).await?.ok_or_else(ApiError::no_such_path)?
        }
        ["apis", group, version] => {
            discovery::api_resource_list(kinds, group, version).ok_or_else(ApiError::no_such_path)?
        }
        [".well-known", "openid-configuration"] => {
            let url = format!("https://{}", address(server));
            server.config.tokens.openid_configuration(&url).ok_or_else(ApiError::no_such_path)?
        }
        ["openid", "v1", "jwks"] => server.config.tokens.openid_keys().ok_or_else(ApiError::no_such_path)?,
        _ => return Err(ApiError::no_such_path()),
    };
    Ok(Answer::Plain(plain))
}

/// Where clients reach this server.
fn address(server: &Inner) -> String {
    std::net::SocketAddr::new(server.config.advertise_address, server.config.secure_port).to_string()
}

/// What is served at all.
fn paths(kinds: &Catalogue) -> Value {
    let mut paths: Vec<String> = vec!["/api".into(), "/api/v1".into(), "/apis".into()];
    for group in discovery::groups(kinds) {
        paths.push(format!("/apis/{group}"));
        paths.extend(discovery::versions_of(kinds, group).into_iter().map(|v| format!("/apis/{group}/{v}")));
    }
    let others = [
        "/healthz",
        "/livez",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
        "/openid/v1/jwks",
    ];
    paths.extend(others.map(str::to_owned));
    paths.sort();
    json!({"paths": paths})
}

/// The version whose behaviour this server follows.
fn version() -> Value {
    json!({
        "major": "1",
        "minor": "35",
        "emulationMajor": "1",
        "emulationMinor": "35",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "34",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

/// A value as JSON (or YAML).
fn json_value(value: &Value, query: &Query, headers: &HeaderMap) -> Result<Response<ResponseBody>, ApiError> {
    let representation = Representation::negotiate(headers, query, false)?;
    let mut response = respond::value(200, value, &representation);
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// A document, or 304 when the client has it.
fn tagged(
    document: &Document,
    media: &'static str,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ApiError> {
    let tag = format!("\"{}\"", document.hash);
    let known = headers.get(IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut response = if known {
        respond::text(304, "")
    } else {
        let representation = match media {
            "application/json" => Representation::negotiate(headers, &Query::default(), false)?,
            // Chosen by what the client takes.
            _ => Representation::plain().compressed_for(headers),
        };
        Pieces::ready(vec![document.bytes.clone()]).into_response(200, &representation)
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    Ok(response)
}

/// The answer about a document that the client may have asked for by its hash: that one never changes, and another one is
/// where the index says now.
fn hashed(
    mut answer: Response<ResponseBody>,
    document: &Document,
    path: &str,
    query: &Query,
) -> Response<ResponseBody> {
    let Some(hash) = query.non_empty("hash") else { return answer };
    if *hash != *document.hash {
        let place = format!("{path}?hash={}", document.hash);
        let mut moved = respond::text(301, format!("<a href=\"{place}\">Moved Permanently</a>.\n\n"));
        moved.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        if let Ok(place) = HeaderValue::from_str(&place) {
            moved.headers_mut().insert(LOCATION, place);
        }
        return moved;
    }
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    let expires = (Timestamp::now() + KEPT).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(expires) = HeaderValue::from_str(&expires) {
        headers.insert(EXPIRES, expires);
    }
    answer
}

/// A page of metrics.
fn text_metrics(page: String) -> Response<ResponseBody> {
    let mut response = respond::text(200, page);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
