//! Paths and queries to what is asked for.

use http::{Method, Uri};

use super::api::{ApiFailure, Attach, ExecRequest, Target};
use super::logs::LogOptions;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Route {
    Healthz,
    Pods,
    StatsSummary,
    ResourceMetrics,
    Logs(Target, LogOptions),
    Exec(Target, ExecRequest),
    Attach(Target, Attach),
    PortForward { namespace: String, pod: String, ports: Vec<u16> },
}

/// Why a request is not one of those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RouteError {
    /// There is no such path.
    NotFound,
    /// The path is there, but not for this method.
    Method,
    /// The path or the query makes no sense.
    Bad(String),
}

impl From<ApiFailure> for RouteError {
    fn from(failure: ApiFailure) -> RouteError {
        RouteError::Bad(failure.to_string())
    }
}

/// Reads a request's method, path and query.
pub(super) fn route(method: &Method, uri: &Uri) -> Result<Route, RouteError> {
    let parts: Option<Vec<String>> = uri.path().trim_start_matches('/').split('/').map(decode).collect();
    let parts = parts.ok_or_else(|| RouteError::Bad("the path is not UTF-8".to_owned()))?;
    let query = Query::parse(uri.query().unwrap_or_default())?;
    let names: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (found, streams) = match names.as_slice() {
        ["healthz"] => (Route::Healthz, false),
        ["pods"] => (Route::Pods, false),
        ["stats", "summary"] => (Route::StatsSummary, false),
        ["metrics", "resource"] => (Route::ResourceMetrics, false),
        ["containerLogs", rest @ ..] => (Route::Logs(target(rest)?, log_options(&query)?), false),
        ["exec", rest @ ..] => (Route::Exec(target(rest)?, exec_request(&query)?), true),
        ["attach", rest @ ..] => (Route::Attach(target(rest)?, attach(&query)?), true),
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            let (namespace, pod) = ((*namespace).to_owned(), (*pod).to_owned());
            (Route::PortForward { namespace, pod, ports: ports(&query)? }, true)
        }
        _ => return Err(RouteError::NotFound),
    };
    match (method, streams) {
        (&Method::GET, _) | (&Method::POST, true) => Ok(found),
        _ => Err(RouteError::Method),
    }
}

/// `namespace/pod/container`, or with the pod's uid before the container.
fn target(parts: &[&str]) -> Result<Target, RouteError> {
    let (namespace, pod, uid, container) = match parts {
        [namespace, pod, container] => (namespace, pod, None, container),
        [namespace, pod, uid, container] => (namespace, pod, Some((*uid).to_owned()), container),
        _ => return Err(RouteError::NotFound),
    };
    if [namespace, pod, container].iter().any(|name| name.is_empty()) {
        return Err(RouteError::NotFound);
    }
    let own = |name: &&str| (*name).to_owned();
    Ok(Target { namespace: own(namespace), pod: own(pod), uid, container: own(container) })
}

fn exec_request(query: &Query) -> Result<ExecRequest, RouteError> {
    let command = query.all("command");
    match command.is_empty() {
        true => Err(RouteError::Bad("you must specify at least 1 command for the container".to_owned())),
        false => Ok(ExecRequest { command, streams: attach(query)? }),
    }
}

fn attach(query: &Query) -> Result<Attach, RouteError> {
    let tty = query.flag("tty")?;
    let streams = Attach {
        tty,
        stdin: query.flag("input")?,
        stdout: query.flag("output")?,
        // A terminal has one output; clients that ask for both mean that one.
        stderr: query.flag("error")? && !tty,
    };
    match streams.stdin || streams.stdout || streams.stderr {
        true => Ok(streams),
        false => Err(RouteError::Bad("you must specify at least 1 of stdin, stdout, stderr".to_owned())),
    }
}

fn log_options(query: &Query) -> Result<LogOptions, RouteError> {
    let since = match (query.number("sinceSeconds")?, query.first("sinceTime")) {
        (Some(_), Some(_)) => {
            return Err(RouteError::Bad(
                "at most one of sinceTime or sinceSeconds may be specified".to_owned(),
            ));
        }
        (Some(0), None) => return Err(RouteError::Bad("sinceSeconds: must be greater than 0".to_owned())),
        (Some(seconds), None) => {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            let since = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(seconds));
            Some(since.unwrap_or(jiff::Timestamp::MIN))
        }
        (None, Some(time)) => {
            let bad = |error| RouteError::Bad(format!("sinceTime: \"{time}\": {error}"));
            Some(time.parse().map_err(bad)?)
        }
        (None, None) => None,
    };
    let limit_bytes = query.number("limitBytes")?;
    if limit_bytes == Some(0) {
        return Err(RouteError::Bad("limitBytes: must be greater than 0".to_owned()));
    }
    Ok(LogOptions {
        follow: query.flag("follow")?,
        previous: query.flag("previous")?,
        timestamps: query.flag("timestamps")?,
        tail_lines: query.number("tailLines")?,
        since,
        limit_bytes,
    })
}

/// The ports that are forwarded: SPDY clients do not name them here.
fn ports(query: &Query) -> Result<Vec<u16>, RouteError> {
    let given = query.all("port");
    let all = given.iter().flat_map(|list| list.split(','));
    let port = |text: &str| {
        let port = text.trim().parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| RouteError::Bad(format!("port: {text:?} is not a port")))
    };
    all.map(port).collect()
}

/// The parameters of a query, in their order.
struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    fn parse(text: &str) -> Result<Query, RouteError> {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode_form(name)?, decode_form(value)?))
        };
        let pairs = text.split('&').filter(|part| !part.is_empty()).map(pair).collect::<Option<_>>();
        Ok(Query { pairs: pairs.ok_or_else(|| RouteError::Bad("the query is not UTF-8".to_owned()))? })
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// The first value, if it is not empty.
    fn first(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Go's `strconv.ParseBool`, and a name without a value as true.
    fn flag(&self, name: &str) -> Result<bool, RouteError> {
        match self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()) {
            Some("" | "1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            Some(other) => Err(RouteError::Bad(format!("{name}: \"{other}\" is neither true nor false"))),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, RouteError> {
        let bad =
            |value: &str| RouteError::Bad(format!("{name}: \"{value}\" is not a whole number of at least 0"));
        self.first(name).map(|value| value.parse().map_err(|_| bad(value))).transpose()
    }
}

/// Undoes percent-encoding; `None` if the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%');
        let escaped = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

fn decode_form(text: &str) -> Option<String> {
    decode(&text.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(uri: &str) -> Result<Route, RouteError> {
        route(&Method::GET, &uri.parse().unwrap())
    }

    fn web() -> Target {
        Target { namespace: "ns".to_owned(), pod: "p".to_owned(), uid: None, container: "web".to_owned() }
    }

    #[test]
    fn knows_the_kubelets_paths() {
        assert_eq!(get("/healthz"), Ok(Route::Healthz));
        assert_eq!(get("/pods"), Ok(Route::Pods));
        assert_eq!(get("/stats/summary"), Ok(Route::StatsSummary));
        assert_eq!(get("/metrics/resource"), Ok(Route::ResourceMetrics));
        assert_eq!(
            get("/portForward/ns/p"),
            Ok(Route::PortForward { namespace: "ns".to_owned(), pod: "p".to_owned(), ports: vec![] })
        );
        let with_uid = Target { uid: Some("u".to_owned()), ..web() };
        let streams = Attach { tty: false, stdin: true, stdout: false, stderr: true };
        assert_eq!(get("/attach/ns/p/u/web?input=1&error=true"), Ok(Route::Attach(with_uid, streams)));
        for path in [
            "/",
            "/exec",
            "/exec/ns/p",
            "/containerLogs/ns//c",
            "/metrics",
            "/pods/x",
            "/containerLogs/a/b/c/d/e",
        ] {
            assert_eq!(get(&format!("{path}?command=a&output=1")), Err(RouteError::NotFound), "{path}");
        }
        let post = |uri: &str| route(&Method::POST, &uri.parse().unwrap());
        assert!(post("/exec/ns/p/web?command=a&output=1").is_ok());
        assert_eq!(post("/pods"), Err(RouteError::Method));
    }

    #[test]
    fn reads_commands() {
        let streams = Attach { tty: true, stdin: true, stdout: true, stderr: false };
        let command = ["sh", "-c", "echo $A&B/c +ü"].map(str::to_owned).to_vec();
        let uri = "/exec/ns/p/web?command=sh&command=-c&command=echo%20%24A%26B%2Fc+%2B%C3%BC&input=1&output=1&error=1&tty=1";
        assert_eq!(get(uri), Ok(Route::Exec(web(), ExecRequest { command, streams })));
        for (query, words) in [
            ("output=1", "at least 1 command"),
            ("command=a", "at least 1 of stdin, stdout, stderr"),
            ("command=a&tty=maybe", "neither true nor false"),
            ("command=%ff&output=1", "not UTF-8"),
        ] {
            match get(&format!("/exec/ns/p/web?{query}")) {
                Err(RouteError::Bad(message)) => assert!(message.contains(words), "{message}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn reads_log_options() {
        let Ok(Route::Logs(target, options)) = get(
            "/containerLogs/ns/p/web?follow=true&tailLines=5&timestamps&previous=0&limitBytes=9&sinceTime=2026-01-02T03%3A04%3A05Z",
        ) else {
            panic!("a log")
        };
        assert_eq!(target, web());
        let since = "2026-01-02T03:04:05Z".parse().unwrap();
        let expected = LogOptions {
            follow: true,
            previous: false,
            timestamps: true,
            tail_lines: Some(5),
            since: Some(since),
            limit_bytes: Some(9),
        };
        assert_eq!(options, expected);
        for query in [
            "tailLines=-1",
            "tailLines=x",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceTime=yesterday",
            "sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z",
        ] {
            assert!(
                matches!(get(&format!("/containerLogs/ns/p/web?{query}")), Err(RouteError::Bad(_))),
                "{query}"
            );
        }
    }
}
