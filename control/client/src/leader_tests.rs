//! Election against a one-object API: first come, crash, restart under the same name, release.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use tower::service_fn;

use super::*;

/// An API server that knows one Lease, with compare-and-swap on its revision.
#[derive(Clone, Default)]
struct OneLease(Arc<Mutex<(Option<Lease>, u64)>>);

impl OneLease {
    fn client(&self) -> Client {
        let state = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let state = state.clone();
            async move { Ok::<_, std::convert::Infallible>(state.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let method = request.method().clone();
        let bytes = request.into_body().collect_bytes().await.unwrap();
        let mut state = self.0.lock();
        let (lease, revision) = &mut *state;
        if method == http::Method::GET {
            return match lease {
                Some(lease) => reply(StatusCode::OK, serde_json::to_vec(lease).unwrap()),
                None => failure(StatusCode::NOT_FOUND, "NotFound"),
            };
        }
        let mut new: Lease = serde_json::from_slice(&bytes).unwrap();
        if method == http::Method::POST && lease.is_some() {
            return failure(StatusCode::CONFLICT, "AlreadyExists");
        }
        let current = lease.as_ref().and_then(|l| l.metadata.resource_version.clone());
        if method == http::Method::PUT && new.metadata.resource_version != current {
            return failure(StatusCode::CONFLICT, "Conflict");
        }
        *revision += 1;
        new.metadata.resource_version = Some(revision.to_string());
        *lease = Some(new.clone());
        reply(StatusCode::OK, serde_json::to_vec(&new).unwrap())
    }

    fn holder(&self) -> Option<String> {
        self.0.lock().0.as_ref().and_then(|l| holder(l).map(str::to_owned))
    }
}

fn reply(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
}

fn failure(status: StatusCode, reason: &str) -> Response<Body> {
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": reason, "code": status.as_u16(),
    });
    reply(status, serde_json::to_vec(&body).unwrap())
}

fn candidate(server: &OneLease, identity: &str) -> Elector {
    Elector::new(server.client(), "kube-system", "test", identity, Timings::default())
}

#[tokio::test(start_paused = true)]
async fn the_first_candidate_does_not_wait() {
    let server = OneLease::default();
    let before = Instant::now();
    candidate(&server, "a").acquire().await;
    assert!(before.elapsed() < Duration::from_millis(10), "{:?}", before.elapsed());
    assert_eq!(server.holder().as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_restart_under_the_same_name_does_not_wait() {
    let server = OneLease::default();
    candidate(&server, "a").acquire().await;
    let before = Instant::now();
    candidate(&server, "a").acquire().await;
    assert!(before.elapsed() < Duration::from_millis(10), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_leader_is_replaced_after_its_lease_only() {
    let server = OneLease::default();
    candidate(&server, "a").acquire().await;
    let before = Instant::now();
    let lease = candidate(&server, "b").acquire().await;
    assert!(before.elapsed() >= Duration::from_secs(15), "{:?}", before.elapsed());
    assert!(before.elapsed() < Duration::from_secs(19), "{:?}", before.elapsed());
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_renews_keeps_the_lease_and_one_that_released_it_frees_it() {
    let server = OneLease::default();
    let first = candidate(&server, "a");
    let lease = first.acquire().await;
    let holding = tokio::spawn(async move {
        tokio::select! {
            lost = first.hold(lease) => panic!("lost: {lost}"),
            () = tokio::time::sleep(Duration::from_secs(60)) => first.release().await,
        }
    });
    let before = Instant::now();
    candidate(&server, "b").acquire().await;
    assert!(before.elapsed() >= Duration::from_secs(60), "{:?}", before.elapsed());
    assert!(before.elapsed() < Duration::from_secs(63), "{:?}", before.elapsed());
    holding.await.unwrap();
    assert_eq!(server.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_notices_that_the_lease_was_taken() {
    let server = OneLease::default();
    let first = candidate(&server, "a");
    let lease = first.acquire().await;
    {
        let mut state = server.0.lock();
        state.1 += 1;
        let revision = state.1.to_string();
        let lease = state.0.as_mut().unwrap();
        lease.spec.as_mut().unwrap().holder_identity = Some("b".into());
        lease.metadata.resource_version = Some(revision);
    }
    assert!(matches!(first.hold(lease).await, Lost::Taken { holder, .. } if holder == "b"));
}
