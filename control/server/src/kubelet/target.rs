//! From a request about a pod to a request to its node: where the node is, and the path it is asked by.

use std::net::IpAddr;

use carrack_api::status::{FieldError, FieldPath};
use serde_json::Value;

use super::container;
use crate::ApiError;
use crate::authn::text;
use crate::query::Query;

/// The port of a node's API when its status does not say.
const DEFAULT_PORT: u16 = 10250;

/// Where a node's API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The node's name, for messages.
    pub(super) node: String,
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

impl Endpoint {
    /// What the node's status says: its internal address before an external one.
    pub(super) fn of(node: &Value) -> Result<Self, ApiError> {
        let name = text(node, "/metadata/name").to_owned();
        let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
        let of_type = |wanted: &str| {
            let addresses = addresses.into_iter().flatten();
            addresses
                .filter(|address| text(address, "/type") == wanted)
                .find_map(|address| text(address, "/address").parse().ok())
        };
        let address = of_type("InternalIP").or_else(|| of_type("ExternalIP")).ok_or_else(|| {
            ApiError::new(500, "", format!("node {name:?} has no InternalIP in its status.addresses yet"))
        })?;
        let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        Ok(Self { node: name, address, port: port.unwrap_or(DEFAULT_PORT) })
    }

    /// `address:port`, with brackets where needed.
    pub(super) fn authority(&self) -> String {
        std::net::SocketAddr::new(self.address, self.port).to_string()
    }
}

/// A request about a pod, as its node is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Path and query.
    pub(super) path: String,
    /// The container it is about; empty for port-forward.
    pub(super) container: String,
}

impl Target {
    /// Translates the query of `subresource` of `pod`.
    pub(super) fn of(pod: &Value, subresource: &str, query: &Query) -> Result<Self, ApiError> {
        let place = format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        if subresource == "portforward" {
            let ports: Vec<_> = query.all("ports").map(|ports| ("port", ports.to_owned())).collect();
            let path = format!("/portForward/{place}{}", encode_query(&ports));
            return Ok(Self { path, container: String::new() });
        }
        let container = container::choose(pod, query.get("container"))?;
        let (prefix, parameters) = match subresource {
            "log" => ("containerLogs", log_parameters(pod, query)?),
            "exec" => ("exec", exec_parameters(query)?),
            "attach" => ("attach", stream_parameters(query)?),
            other => return Err(ApiError::internal(format!("pods/{other} is not answered by nodes"))),
        };
        let path = format!("/{prefix}/{place}/{}{}", encode(container), encode_query(&parameters));
        Ok(Self { path, container: container.to_owned() })
    }
}

type Parameters = Vec<(&'static str, String)>;

/// Options of `log`, checked as upstream checks PodLogOptions.
fn log_parameters(pod: &Value, query: &Query) -> Result<Parameters, ApiError> {
    let mut parameters = Vec::new();
    for name in ["follow", "previous", "timestamps"] {
        if query.flag(name) {
            parameters.push((name, "true".to_owned()));
        }
    }
    let mut wrong = Vec::new();
    for (name, least) in [("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)] {
        let Some(value) = query.integer(name)? else { continue };
        if value < least {
            let why =
                if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            wrong.push(FieldError::invalid(&FieldPath::root(name), value, why));
        }
        parameters.push((name, value.to_string()));
    }
    if let Some(since) = query.non_empty("sinceTime") {
        if query.non_empty("sinceSeconds").is_some() {
            let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            wrong.push(FieldError::forbidden(&FieldPath::default(), why));
        }
        since.parse::<jiff::Timestamp>().map_err(|_| {
            ApiError::bad_request(format!("query parameter sinceTime: {since:?} is not an RFC 3339 time"))
        })?;
        parameters.push(("sinceTime", since.to_owned()));
    }
    if let Some(stream) = query.non_empty("stream") {
        if !["All", "Stdout", "Stderr"].contains(&stream) {
            wrong.push(FieldError::not_supported(
                &FieldPath::root("stream"),
                stream,
                &["All", "Stdout", "Stderr"],
            ));
        }
        parameters.push(("stream", stream.to_owned()));
    }
    if wrong.is_empty() {
        return Ok(parameters);
    }
    Err(carrack_api::status::invalid("", "PodLogOptions", text(pod, "/metadata/name"), &wrong).into())
}

fn exec_parameters(query: &Query) -> Result<Parameters, ApiError> {
    let mut parameters = stream_parameters(query)?;
    let commands: Vec<_> = query.all("command").map(|word| ("command", word.to_owned())).collect();
    if commands.is_empty() {
        return Err(ApiError::bad_request("you must specify at least one command for the container"));
    }
    parameters.splice(0..0, commands);
    Ok(parameters)
}

/// The streams, by the names that nodes know them under.
fn stream_parameters(query: &Query) -> Result<Parameters, ApiError> {
    let names = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    let parameters: Parameters = names
        .into_iter()
        .filter(|(ours, _)| query.flag(ours))
        .map(|(_, node)| (node, "1".to_owned()))
        .collect();
    if parameters.iter().all(|(name, _)| *name == "tty") {
        return Err(ApiError::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(parameters)
}

/// `?a=b&c=d`; empty when there is nothing.
fn encode_query(parameters: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.push_str(&encode(value));
    }
    text
}

/// Escapes all but the unreserved characters (RFC 3986, 2.3).
fn encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}
