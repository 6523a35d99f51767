//! Which representation the client wants: media type, Table, PartialObjectMetadata, indentation, compression.

use carrack_api::discovery::AggregatedVersion;
use carrack_api::table::Version;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Uri};

use crate::query::Query;
use crate::{ApiError, protobuf};

/// What can be produced for any object.
pub(crate) const PRODUCED: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];
/// What can be produced, and taken, where objects have no form in protobuf.
pub(crate) const TEXT: &[&str] = &["application/json", "application/yaml"];

/// The text form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`; what has no message goes as JSON.
    Protobuf,
}

impl Media {
    /// The value of `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Yaml => "application/yaml",
            Media::Protobuf => protobuf::MEDIA_TYPE,
        }
    }
}

/// What becomes of each object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transform {
    /// The object itself.
    None,
    /// Rows of a Table.
    Table(Version),
    /// Metadata alone.
    Metadata(Version),
}

/// The representation that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Representation {
    /// The text form.
    pub(crate) media: Media,
    /// What becomes of objects.
    pub(crate) transform: Transform,
    /// Whether JSON is indented.
    pub(crate) pretty: bool,
    /// Whether the client takes gzip.
    pub(crate) gzip: bool,
}

/// One entry of an `Accept` header.
#[derive(Debug)]
struct Accepted<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Accepted<'a> {
    fn parse(entry: &'a str) -> Self {
        let mut parts = entry.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
        let quality =
            parameters.iter().find(|(k, _)| *k == "q").and_then(|(_, v)| v.parse().ok()).unwrap_or(1.0);
        Accepted { media, parameters, quality }
    }

    fn parameter(&self, key: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    /// The text form, if this entry means one that can be produced.
    fn media(&self) -> Option<Media> {
        match self.media {
            "application/json" | "*/*" | "application/*" => Some(Media::Json),
            "application/yaml" => Some(Media::Yaml),
            protobuf::MEDIA_TYPE => Some(Media::Protobuf),
            _ => None,
        }
    }

    /// What becomes of objects, if this entry asks for something that can be produced. `single` is true
    /// where one object is answered (which has no list form).
    fn transform(&self) -> Option<Transform> {
        let Some(kind) = self.parameter("as") else { return Some(Transform::None) };
        if self.parameter("g") != Some("meta.k8s.io") {
            return None;
        }
        let version = Version::parse(self.parameter("v")?)?;
        match kind {
            // Cells are of any type, for which there is no message.
            "Table" if self.media() == Some(Media::Protobuf) => None,
            "Table" => Some(Transform::Table(version)),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Transform::Metadata(version)),
            _ => None,
        }
    }
}

/// The entries of the `Accept` headers, best first; one for everything when there are none.
fn accepted(headers: &HeaderMap) -> Vec<Accepted<'_>> {
    let mut entries: Vec<Accepted<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|v| !v.is_empty())
        .map(Accepted::parse)
        .filter(|a| a.quality > 0.0)
        .collect();
    if entries.is_empty() {
        entries.push(Accepted::parse("*/*"));
    }
    entries.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    entries
}

impl Representation {
    /// Agrees on a representation; 406 when nothing fits. Tables and bare metadata are made only where `transforms`
    /// says so: of stored objects and of scales.
    pub(crate) fn negotiate(headers: &HeaderMap, query: &Query, transforms: bool) -> Result<Self, ApiError> {
        Self::negotiate_for(headers, query, transforms, true)
    }

    /// The same for objects that have a form in protobuf only where `messages` says so; bare metadata has one always.
    pub(crate) fn negotiate_for(
        headers: &HeaderMap,
        query: &Query,
        transforms: bool,
        messages: bool,
    ) -> Result<Self, ApiError> {
        let fits = |(media, transform): &(Media, Transform)| match transform {
            Transform::None => messages || *media != Media::Protobuf,
            _ => transforms,
        };
        let offers = accepted(headers);
        let chosen = offers.iter().filter_map(|a| Some((a.media()?, a.transform()?))).find(fits);
        let Some((media, transform)) = chosen else {
            let produced = if messages { PRODUCED } else { TEXT };
            return Err(carrack_api::status::not_acceptable(produced).into());
        };
        let pretty = query.optional_flag("pretty").unwrap_or_else(|| is_for_eyes(headers));
        Ok(Representation { media, transform, pretty, gzip: accepts_gzip(headers) })
    }

    /// JSON whatever was asked for.
    pub(crate) fn plain() -> Self {
        Representation { media: Media::Json, transform: Transform::None, pretty: false, gzip: false }
    }

    /// The representation of a refusal, as upstream has it: in a text form that the client takes without anything done to
    /// objects; where there is none, JSON that people can read.
    fn of_refusal(headers: &HeaderMap, query: &str) -> Self {
        let plain = |offer: &Accepted<'_>| offer.media().filter(|_| offer.parameter("as").is_none());
        let media = accepted(headers).iter().find_map(plain);
        let asked = Query::parse(query).ok().and_then(|query| query.optional_flag("pretty"));
        let pretty = media.is_none() || asked.unwrap_or_else(|| is_for_eyes(headers));
        Representation { media: media.unwrap_or(Media::Json), pretty, ..Self::plain() }
    }

    /// The same, compressed where the client takes it.
    pub(crate) fn compressed_for(self, headers: &HeaderMap) -> Self {
        Representation { gzip: accepts_gzip(headers), ..self }
    }

    /// The same as JSON.
    pub(crate) fn as_json(self) -> Self {
        Representation { media: Media::Json, ..self }
    }

    /// The same without a transformation, for answers that have no other form (such as `Status`).
    pub(crate) fn untransformed(self) -> Self {
        Representation { transform: Transform::None, ..self }
    }

    /// Whether the stored bytes can be sent as they are.
    pub(crate) fn is_verbatim(&self) -> bool {
        self.media == Media::Json && self.transform == Transform::None && !self.pretty
    }
}

/// What says how a refusal is to be written, kept while a request is answered: most are not refused, so that reading it waits.
pub(crate) struct RefusalForm {
    accept: Option<HeaderValue>,
    agent: Option<HeaderValue>,
    uri: Uri,
}

impl RefusalForm {
    /// Of this request.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let header = |name| request.headers().get(name).cloned();
        RefusalForm { accept: header(ACCEPT), agent: header(USER_AGENT), uri: request.uri().clone() }
    }

    /// The path of the request.
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    /// The representation.
    pub(crate) fn representation(&self) -> Representation {
        let mut headers = HeaderMap::new();
        for (name, value) in [(ACCEPT, &self.accept), (USER_AGENT, &self.agent)] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        Representation::of_refusal(&headers, self.uri.query().unwrap_or_default())
    }
}

/// Whether a person reads along, as upstream guesses: browsers and `curl` get indented JSON.
fn is_for_eyes(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|a| agent.starts_with(a))
}

/// Whether the client takes gzip.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(Accepted::parse)
        .any(|a| a.media == "gzip" && a.quality > 0.0)
}

/// The version of the aggregated discovery document that the client prefers over the plain one.
pub(crate) fn aggregated_discovery(headers: &HeaderMap) -> Option<AggregatedVersion> {
    for entry in accepted(headers) {
        if entry.media().is_none() {
            continue;
        }
        // An entry for the plain form that comes first is preferred.
        let kind = entry.parameter("as")?;
        if kind == "APIGroupDiscoveryList"
            && entry.parameter("g") == Some("apidiscovery.k8s.io")
            && let Some(version) = entry.parameter("v").and_then(AggregatedVersion::parse)
        {
            return Some(version);
        }
    }
    None
}

/// Whether the client prefers the OpenAPI v2 document as protobuf.
pub(crate) fn wants_openapi_protobuf(headers: &HeaderMap) -> bool {
    let protobuf = |media: &str| {
        media
            .strip_prefix("application/com.github.proto-openapi.spec.v2")
            .is_some_and(|rest| matches!(rest, "@v1.0+protobuf" | ".v1.0+protobuf"))
    };
    let entries = accepted(headers);
    entries.iter().find(|e| protobuf(e.media) || e.media().is_some()).is_some_and(|e| protobuf(e.media))
}

/// The media type of the request's body, in lower case and without parameters; empty when absent.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        headers
    }

    fn chosen(accept: &str) -> Result<(Media, Transform), u16> {
        Representation::negotiate(&headers(accept), &Query::default(), true)
            .map(|r| (r.media, r.transform))
            .map_err(|e| e.code)
    }

    #[test]
    fn kubectl_gets_tables() {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(chosen(accept), Ok((Media::Json, Transform::Table(Version::V1))));
        let unknown = "application/json;as=Table;v=v9;g=meta.k8s.io,application/json";
        assert_eq!(chosen(unknown), Ok((Media::Json, Transform::None)));
        let plain =
            |a: &str| Representation::negotiate(&headers(a), &Query::default(), false).map(|r| r.transform);
        assert_eq!(plain(accept).unwrap(), Transform::None);
        assert_eq!(plain("application/json;as=Table;v=v1;g=meta.k8s.io").unwrap_err().code, 406);
    }

    #[test]
    fn media_by_preference() {
        let both = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(chosen(both), Ok((Media::Protobuf, Transform::None)));
        let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(chosen(table), Err(406));
        let json = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(chosen(&format!("{table},{json}")), Ok((Media::Json, Transform::Table(Version::V1))));
        assert_eq!(chosen("image/png"), Err(406));
        assert_eq!(chosen("text/html;q=0.9,*/*;q=0.8"), Ok((Media::Json, Transform::None)));
        assert_eq!(chosen("application/json;q=0.5,application/yaml"), Ok((Media::Yaml, Transform::None)));
    }

    #[test]
    fn refusals_are_in_the_form_that_was_asked_for() {
        let of = |accept: &str, query: &str| {
            let chosen = Representation::of_refusal(&headers(accept), query);
            (chosen.media, chosen.pretty)
        };
        assert_eq!(of("application/json", ""), (Media::Json, false));
        assert_eq!(of("application/json", "pretty=true"), (Media::Json, true));
        assert_eq!(of("application/yaml", ""), (Media::Yaml, false));
        assert_eq!(of("application/vnd.kubernetes.protobuf,application/json", ""), (Media::Protobuf, false));
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(of(&format!("{table},application/yaml"), ""), (Media::Yaml, false));
        assert_eq!(of(table, ""), (Media::Json, true));
        assert_eq!(of("image/png", "pretty=false"), (Media::Json, true));
    }

    #[test]
    fn openapi_as_protobuf_by_either_name() {
        for (accept, expected) in [
            ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", true),
            ("application/com.github.proto-openapi.spec.v2.v1.0+protobuf,*/*", true),
            ("application/json,application/com.github.proto-openapi.spec.v2.v1.0+protobuf", false),
            ("*/*", false),
        ] {
            assert_eq!(wants_openapi_protobuf(&headers(accept)), expected, "{accept}");
        }
    }

    #[test]
    fn aggregated_discovery_by_accept() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(aggregated_discovery(&headers(v2)), Some(AggregatedVersion::V2));
        assert_eq!(aggregated_discovery(&headers("application/json")), None);
        assert_eq!(aggregated_discovery(&HeaderMap::new()), None);
    }
}
