//! gRPC probes: one call of `grpc.health.v1.Health/Check` over HTTP/2 without TLS.
//!
//! The protocol is gRPC over HTTP/2 (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) with the two messages of
//! grpc/health/v1/health.proto, which are small enough to be written by hand.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::GRPCAction;

use super::reach::{authority, dial};

/// The largest answer that is read, in bytes; a health answer has two.
const ANSWER_LIMIT: usize = 4096;
/// `grpc-status` codes.
const OK: u32 = 0;
const UNIMPLEMENTED: u32 = 12;
/// `HealthCheckResponse.ServingStatus`.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

/// Asks for the health of a service; passes when it is SERVING, or says why not in the words of the kubelet.
pub(super) async fn check(action: &GRPCAction, host: &str) -> Result<(), String> {
    let port = u16::try_from(action.port).map_err(|_| format!("there is no port {}", action.port))?;
    let address = authority(host, port);
    let unreachable = |why: String| format!("error: failed to connect service at \"{address}\": {why}");
    let stream = dial(host, port).await.map_err(unreachable)?;
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.35")
        .body(Full::new(question(action.service.as_deref().unwrap_or_default())))
        .map_err(|error| failed(&error))?;
    let call = async {
        let (head, body) = sender.send_request(request).await.map_err(|error| failed(&error))?.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|error| failed(&error))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        verdict(head.status.as_u16(), &head.headers, &trailers, &body.to_bytes())
    };
    tokio::pin!(connection);
    tokio::pin!(call);
    tokio::select! {
        verdict = &mut call => verdict,
        ended = &mut connection => match ended {
            Ok(()) => call.await,
            Err(error) => Err(failed(&error)),
        },
    }
}

fn failed(error: &dyn std::fmt::Display) -> String {
    format!("error: health rpc probe failed: {error}")
}

/// `HealthCheckRequest { service = 1 }` in a gRPC frame: no compression, length, message.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.extend(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(message);
    frame.into()
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What an answer says. The call's own status is in the trailers, or in the headers when there is no body.
fn verdict(status: u16, headers: &HeaderMap, trailers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    if status != 200 {
        return Err(failed(&format!("unexpected HTTP status code {status}")));
    }
    let text = |name: &str| trailers.get(name).or(headers.get(name)).and_then(|value| value.to_str().ok());
    let message = text("grpc-message").unwrap_or_default();
    match text("grpc-status").and_then(|code| code.parse().ok()) {
        Some(OK) => {}
        Some(UNIMPLEMENTED) => {
            return Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            ));
        }
        Some(code) => return Err(failed(&format!("rpc error: code = {code} desc = {message}"))),
        None => return Err(failed(&"the answer has no grpc-status")),
    }
    match serving_status(body) {
        Some(SERVING) => Ok(()),
        Some(other) => {
            let name = usize::try_from(other).ok().and_then(|n| STATUSES.get(n)).copied();
            Err(format!("service unhealthy (responded with \"{}\")", name.unwrap_or("UNKNOWN")))
        }
        None => Err(failed(&"the answer can not be read")),
    }
}

/// `HealthCheckResponse { status = 1 }` out of a gRPC frame; fields that are not known are passed over.
pub(super) fn serving_status(body: &[u8]) -> Option<u64> {
    let (&compressed, rest) = body.split_first()?;
    let (length, message) = rest.split_first_chunk::<4>()?;
    let mut message = message.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    if compressed != 0 {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_bytes() {
        assert_eq!(question("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(question("db").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
        assert_eq!(question(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0), "a field that is 0 is left out");
        assert_eq!(serving_status(&[0, 0, 0, 0, 5, 0x12, 1, 9, 8, 2]), Some(2), "others are passed over");
        for bad in
            [&[][..], &[0, 0], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 9, 8, 1], &[0, 0, 0, 0, 2, 8, 0x80]]
        {
            assert_eq!(serving_status(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn verdicts_use_the_kubelets_words() {
        let heads =
            |code: &str| HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]);
        let none = HeaderMap::new();
        let serving = [0, 0, 0, 0, 2, 8, 1];
        assert_eq!(verdict(200, &none, &heads("0"), &serving), Ok(()));
        let not = verdict(200, &none, &heads("0"), &[0, 0, 0, 0, 2, 8, 2]).unwrap_err();
        assert_eq!(not, "service unhealthy (responded with \"NOT_SERVING\")");
        assert!(verdict(200, &heads("12"), &none, &[]).unwrap_err().contains("does not implement"));
        assert!(verdict(200, &heads("5"), &none, &[]).unwrap_err().contains("code = 5"));
        assert!(verdict(200, &none, &none, &serving).is_err());
        assert!(verdict(404, &none, &heads("0"), &serving).is_err());
    }
}
