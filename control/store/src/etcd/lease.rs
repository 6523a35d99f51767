//! `Lease`.

use futures::Stream;
use tonic::{Status, Streaming};

use super::Shared;
use super::error::{self, of_write};
use super::proto::lease::*;
use crate::error::WriteError;

/// The TTL that tells a client that there is no such lease.
const GONE: i64 = -1;

pub(super) async fn grant(face: Shared, request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Status> {
    let ttl = request.ttl.max(face.store.least_lease_ttl());
    let lease = match request.id {
        0 => face.store.lease_grant(ttl).await,
        id => face.store.lease_grant_as(id, ttl).await,
    };
    let lease = lease.map_err(of_write)?;
    let header = face.header_now();
    Ok(LeaseGrantResponse { header, id: lease.id, ttl: lease.granted_ttl, error: String::new() })
}

pub(super) async fn revoke(face: Shared, request: LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Status> {
    face.store.lease_revoke(request.id).await.map_err(of_write)?;
    Ok(LeaseRevokeResponse { header: face.header_now() })
}

pub(super) async fn keep_alive(
    face: Shared,
    incoming: Streaming<LeaseKeepAliveRequest>,
) -> Result<impl Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send + 'static, Status> {
    Ok(futures::stream::unfold(Some((face, incoming)), |session| async {
        let (face, mut incoming) = session?;
        let request = tokio::select! {
            biased;
            () = face.stopped() => return Some((Err(error::status(error::STOPPED)), None)),
            request = incoming.message() => request,
        };
        // A client that ends its side, or its connection, is not interested any more.
        let id = request.ok()??.id;
        let ttl = match face.store.lease_keep_alive(id).await {
            Ok(lease) => lease.granted_ttl,
            Err(WriteError::LeaseNotFound(_)) => 0,
            Err(error) => return Some((Err(of_write(error)), None)),
        };
        let response = LeaseKeepAliveResponse { header: face.header_now(), id, ttl };
        Some((Ok(response), Some((face, incoming))))
    }))
}

pub(super) async fn time_to_live(
    face: Shared,
    request: LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse, Status> {
    let header = face.header_now();
    let id = request.id;
    Ok(match face.store.lease_time_to_live(id).await.map_err(of_write)? {
        None => LeaseTimeToLiveResponse { header, id, ttl: GONE, ..LeaseTimeToLiveResponse::default() },
        Some((lease, keys)) => LeaseTimeToLiveResponse {
            header,
            id,
            ttl: lease.remaining_ttl,
            granted_ttl: lease.granted_ttl,
            keys: if request.keys { keys } else { Vec::new() },
        },
    })
}

pub(super) async fn leases(face: Shared, _: LeaseLeasesRequest) -> Result<LeaseLeasesResponse, Status> {
    let leases = face.store.leases().into_iter().map(|id| LeaseStatus { id }).collect();
    Ok(LeaseLeasesResponse { header: face.header_now(), leases })
}
