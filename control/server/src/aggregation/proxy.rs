//! Hands requests on to the server that answers for their group and version.

use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;

use super::Aggregation;
use super::remote::Remote;
use crate::kubelet::{kept, pass_on, upgrade};
use crate::limits::REQUEST_TIMEOUT;
use crate::outbound::Target;
use crate::router::RequestInfo;
use crate::{ApiError, RequestBody, ResponseBody, UserInfo, respond};

impl Aggregation {
    /// The answer of another server, when the request is for one; the request itself when it is not. The user is
    /// authenticated, and may do what is asked.
    pub(crate) async fn hand_on(
        &self,
        info: &RequestInfo,
        user: &UserInfo,
        request: Request<RequestBody>,
    ) -> Result<Result<Response<ResponseBody>, Request<RequestBody>>, ApiError> {
        let Some((group, version)) = group_version(&info.path) else { return Ok(Err(request)) };
        let Some(remote) = self.remote(group, version).await? else { return Ok(Err(request)) };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        // Boxed, as all that few requests need: room for it is not moved about with every request.
        Ok(Ok(Box::pin(self.proxy(&remote, &path, info.is_long_running(), user, request)).await))
    }

    /// The OpenAPI v3 document of another server, when the path is one's.
    pub(crate) async fn document(
        &self,
        path: &str,
        user: &UserInfo,
        request: Request<RequestBody>,
    ) -> Result<Result<Response<ResponseBody>, Request<RequestBody>>, ApiError> {
        let Some((group, version)) = path.strip_prefix("/openapi/v3").and_then(group_version) else {
            return Ok(Err(request));
        };
        let Some(remote) = self.remote(group, version).await? else { return Ok(Err(request)) };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Ok(Box::pin(self.proxy(&remote, &path, false, user, request)).await))
    }

    /// Sends the request to `remote` at `path`.
    pub(super) async fn proxy(
        &self,
        remote: &Remote,
        path: &str,
        long_running: bool,
        user: &UserInfo,
        request: Request<RequestBody>,
    ) -> Response<ResponseBody> {
        if !remote.available {
            return respond::text(503, "service unavailable\n");
        }
        let sent = async {
            let identity = self.front_proxy.as_ref().map(|proxy| proxy.identity.clone());
            let target = remote.target(identity)?;
            self.send(&target, path, user, request).await
        };
        let answer = if long_running {
            sent.await
        } else {
            let late = || Err(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()));
            tokio::time::timeout(REQUEST_TIMEOUT, sent).await.unwrap_or_else(|_| late())
        };
        answer.unwrap_or_else(|why| {
            tracing::debug!(apiservice = remote.name, why, "an aggregated API server did not answer");
            respond::text(503, format!("error trying to reach service: {why}\n"))
        })
    }

    async fn send(
        &self,
        target: &Target,
        path: &str,
        user: &UserInfo,
        mut request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, String> {
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let (parts, body) = request.into_parts();
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = parts.method;
        *outgoing.headers_mut() = kept(&parts.headers);
        name_user(outgoing.headers_mut(), user)?;
        let base: Uri = target.url().parse().map_err(|why: http::uri::InvalidUri| why.to_string())?;
        let authority = base.authority().map_or("", |authority| authority.as_str());
        if !upgrade::wanted(&parts.headers) {
            *outgoing.uri_mut() =
                format!("https://{authority}{path}").parse().map_err(|why| format!("{path}: {why}"))?;
            return self.outbound.send(target, outgoing).await.map(pass_on);
        }
        *outgoing.uri_mut() = path.parse().map_err(|why| format!("{path}: {why}"))?;
        let headers = outgoing.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(authority).map_err(|why| why.to_string())?);
        if let Some(protocol) = parts.headers.get(UPGRADE) {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, protocol.clone());
        }
        let mut sender = self.outbound.connect(target).await?;
        let mut answer = sender.send_request(outgoing).await.map_err(|why| why.to_string())?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let client = client.ok_or("the client's connection cannot be upgraded")?;
            let remote = hyper::upgrade::on(&mut answer).await.map_err(|why| why.to_string())?;
            tokio::spawn(upgrade::splice(client, remote, answer.headers()));
        }
        Ok(pass_on(answer))
    }
}

/// The group and version in a path below `/apis`.
fn group_version(path: &str) -> Option<(&str, &str)> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    (segments.next() == Some("apis")).then_some(())?;
    Some((segments.next()?, segments.next()?))
}

/// Says in headers who the user is. What the client sent of these was dropped before.
pub(super) fn name_user(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), String> {
    let mut add = |name: &str, value: &str| -> Result<(), String> {
        let name = HeaderName::try_from(name).map_err(|why| format!("{name:?}: {why}"))?;
        let value = HeaderValue::try_from(value).map_err(|why| format!("the header {name}: {why}"))?;
        headers.append(name, value);
        Ok(())
    };
    add("x-remote-user", &user.name)?;
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid)?;
    }
    for group in &user.groups {
        add("x-remote-group", group)?;
    }
    for (key, values) in &user.extra {
        for value in values {
            add(&format!("x-remote-extra-{}", escaped(key)), value)?;
        }
    }
    Ok(())
}

/// A key as a part of a header's name (RFC 9110, 5.6.2), other bytes as `%2F`.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.to_ascii_lowercase().bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
