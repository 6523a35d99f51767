//! From a request line to what is asked: resource or path, verb, namespace, name, subresource.
//!
//! Paths of resources are `/api/v1/…` and `/apis/<group>/<version>/…`, there
//! `[namespaces/<namespace>/]<resource>[/<name>[/<subresource>]]`, behind `watch/` for a watch as it was asked for of
//! old. The parsing does not need to know which resources exist, so that somebody who may not see a resource learns
//! nothing about it.

use http::Method;

use crate::query::{Query, percent_decode};
use crate::{ApiError, Attributes, Selectors, UserInfo};

/// What the request line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// `get`, `list`, `watch`, …; for other paths the method in lower case.
    pub(crate) verb: &'static str,
    /// The API group; empty for core.
    pub(crate) group: String,
    /// The API version.
    pub(crate) version: String,
    /// The namespace, or empty.
    pub(crate) namespace: String,
    /// The resource's plural name; empty when the path names no resource.
    pub(crate) resource: String,
    /// The object's name, or empty.
    pub(crate) name: String,
    /// The subresource, or empty.
    pub(crate) subresource: String,
    /// What follows the subresource (`proxy/some/path`), or empty.
    pub(crate) rest: String,
    /// The decoded path.
    pub(crate) path: String,
    /// What a request about a collection is limited to.
    pub(crate) selectors: Selectors,
    /// Whether the path itself says that it is a watch (`/api/v1/watch/pods`), of a collection or of one object.
    pub(crate) is_watch_path: bool,
}

impl RequestInfo {
    /// Reads method, path and query.
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Result<Self, ApiError> {
        let mut info =
            RequestInfo { verb: plain_verb(method), path: percent_decode(path)?, ..RequestInfo::default() };
        // Decoded before it is taken apart, as whoever a request is handed on to reads it: an escaped slash is one.
        let decoded = info.path.clone();
        let segments: Vec<&str> = decoded.split('/').filter(|s| !s.is_empty()).collect();
        let rest = match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                rest
            }
            _ => return Ok(info),
        };
        if let ["watch", watched @ ..] = rest
            && !watched.is_empty()
        {
            // Authorizers see no selectors here, as upstream: one object is named by the path.
            info.read_resource(watched);
            info.verb = "watch";
            info.is_watch_path = true;
            return Ok(info);
        }
        info.read_resource(rest);
        info.verb = info.resource_verb(method, query);
        if matches!(info.verb, "list" | "watch" | "deletecollection") {
            let text = |key| query.get(key).unwrap_or_default();
            info.selectors = Selectors::parse(text("fieldSelector"), text("labelSelector"));
        }
        if matches!(info.verb, "list" | "watch") {
            info.name = required_name(&info.selectors).unwrap_or_default();
        }
        Ok(info)
    }

    /// Reads what follows the version.
    fn read_resource(&mut self, segments: &[&str]) {
        let text = |s: &&str| (*s).to_owned();
        let object = match segments {
            // The subresources of a namespace itself; all else below a namespace is a resource in it.
            ["namespaces", namespace, sub @ ("status" | "finalize")] => {
                self.namespace = text(namespace);
                self.subresource = text(sub);
                &segments[..2]
            }
            ["namespaces", namespace, inner @ ..] if !inner.is_empty() => {
                self.namespace = text(namespace);
                inner
            }
            ["namespaces", namespace] => {
                self.namespace = text(namespace);
                segments
            }
            _ => segments,
        };
        self.resource = object.first().map(text).unwrap_or_default();
        self.name = object.get(1).map(text).unwrap_or_default();
        if let Some(subresource) = object.get(2) {
            self.subresource = text(subresource);
        }
        self.rest = object.get(3..).map(|r| r.join("/")).unwrap_or_default();
    }

    /// The verb of a request about a resource.
    fn resource_verb(&self, method: &Method, query: &Query) -> &'static str {
        let collection = self.name.is_empty();
        match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if collection => "deletecollection",
            Method::DELETE => "delete",
            Method::GET | Method::HEAD if collection && query.flag("watch") => "watch",
            Method::GET | Method::HEAD if collection => "list",
            Method::GET | Method::HEAD => "get",
            _ => plain_verb(method),
        }
    }

    /// Whether the path names a resource.
    pub(crate) fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// Whether the request is handed on to what listens in a pod, behind a service or on a node.
    pub(crate) fn is_proxy(&self) -> bool {
        self.group.is_empty() && self.subresource == "proxy"
    }

    /// Whether the request goes on for as long as the client wishes.
    pub(crate) fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(self.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
    }

    /// What an authorizer judges. Streams of a pod are judged by their usual verbs: opening them by GET is
    /// `get`, by POST `create`.
    pub(crate) fn attributes(&self, user: UserInfo) -> Attributes {
        Attributes {
            user,
            verb: self.verb.to_owned(),
            api_group: self.group.clone(),
            version: self.version.clone(),
            resource: self.resource.clone(),
            subresource: self.subresource.clone(),
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            path: self.path.clone(),
            selectors: self.selectors.clone(),
        }
    }
}

/// The method as a verb for paths that name no resource.
fn plain_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "other",
    }
}

/// The name in `fieldSelector=metadata.name=x`: such a list is about one object, for RBAC too. Taken from the selector
/// as it will be applied, so that nothing else can look like a name.
fn required_name(selectors: &Selectors) -> Option<String> {
    let term = selectors.fields.iter().find(|term| term.key == "metadata.name" && term.operator == "In")?;
    let is_segment = |name: &&String| !matches!(name.as_str(), "." | "..") && !name.contains(['/', '%']);
    term.values.first().filter(is_segment).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: Method, path: &str, query: &str) -> RequestInfo {
        RequestInfo::parse(&method, path, &Query::parse(query).unwrap()).unwrap()
    }

    /// `verb group/version namespace resource name subresource`, absent parts as `-`.
    fn line(method: Method, path: &str, query: &str) -> String {
        let i = info(method, path, query);
        let dash = |s: &str| if s.is_empty() { "-".to_owned() } else { s.to_owned() };
        let parts = [i.verb, &i.group, &i.version, &i.namespace, &i.resource, &i.name, &i.subresource];
        parts.map(dash).join(" ")
    }

    #[test]
    fn reads_resource_paths() {
        let cases = [
            (Method::GET, "/api/v1/pods", "", "list - v1 - pods - -"),
            (Method::GET, "/api/v1/pods", "watch=1", "watch - v1 - pods - -"),
            (Method::GET, "/api/v1/namespaces", "", "list - v1 - namespaces - -"),
            (Method::GET, "/api/v1/namespaces/a", "", "get - v1 a namespaces a -"),
            (Method::PUT, "/api/v1/namespaces/a/finalize", "", "update - v1 a namespaces a finalize"),
            (Method::GET, "/api/v1/namespaces/a/pods", "", "list - v1 a pods - -"),
            (Method::POST, "/api/v1/namespaces/a/pods/b/binding", "", "create - v1 a pods b binding"),
            (Method::DELETE, "/api/v1/namespaces/a/pods", "", "deletecollection - v1 a pods - -"),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments/b",
                "",
                "delete apps v1 a deployments b -",
            ),
            (Method::PATCH, "/api/v1/nodes/n/status", "", "patch - v1 - nodes n status"),
            (
                Method::GET,
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "",
                "get rbac.authorization.k8s.io v1 - clusterroles system:node -",
            ),
            (Method::GET, "/api/v1/pods", "fieldSelector=metadata.name%3Dx", "list - v1 - pods x -"),
            (Method::GET, "/api/v1/pods", "watch=1&fieldSelector=metadata.name==x", "watch - v1 - pods x -"),
            // A comma within a value is no end of it.
            (
                Method::GET,
                "/api/v1/pods",
                "fieldSelector=spec.nodeName!=a%5C,metadata.name=x",
                "list - v1 - pods - -",
            ),
            (Method::GET, "/api/v1/pods", "fieldSelector=metadata.name!=x", "list - v1 - pods - -"),
            // Names limit what is deleted one by one alone.
            (
                Method::DELETE,
                "/api/v1/namespaces/a/pods",
                "fieldSelector=metadata.name=x",
                "deletecollection - v1 a pods - -",
            ),
            (Method::GET, "/api/v1/namespaces/a/secrets/b", "watch=1", "get - v1 a secrets b -"),
            (Method::GET, "/api/v1/namespaces/a/secrets%2Fb", "", "get - v1 a secrets b -"),
            (Method::GET, "/apis/a.b%2Fv1%2Fnodes", "", "list a.b v1 - nodes - -"),
            (Method::GET, "/api/v1/watch/pods", "fieldSelector=metadata.name=x", "watch - v1 - pods - -"),
            (Method::GET, "/api/v1/watch/namespaces/a/pods", "watch=0", "watch - v1 a pods - -"),
            (Method::GET, "/api/v1/watch/namespaces/a/pods/b", "", "watch - v1 a pods b -"),
            (Method::GET, "/api/v1/watch/namespaces/a", "", "watch - v1 a namespaces a -"),
            (Method::GET, "/apis/apps/v1/watch/deployments", "", "watch apps v1 - deployments - -"),
            (Method::DELETE, "/api/v1/watch/namespaces/a/pods/b", "", "watch - v1 a pods b -"),
        ];
        for (method, path, query, expected) in cases {
            assert_eq!(line(method, path, query), expected, "{path}?{query}");
        }
    }

    #[test]
    fn other_paths_name_no_resource() {
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps/v1", "/healthz", "/openapi/v3/apis/apps/v1"]
        {
            let info = info(Method::GET, path, "");
            assert!(!info.is_resource(), "{path}");
            assert_eq!(info.verb, "get");
        }
    }

    #[test]
    fn broken_escapes_are_refused() {
        let error = RequestInfo::parse(&Method::GET, "/api/v1/pods/%zz", &Query::default()).unwrap_err();
        assert_eq!(error.code, 400);
    }
}
