//! gRPC's own health service (`grpc.health.v1`): it answers for the whole server, whatever service is asked for.

use futures::Stream;
use tonic::Status;

use super::proto::{HealthCheckRequest, HealthCheckResponse};
use super::{Face, Shared};

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

fn condition(face: &Face) -> HealthCheckResponse {
    let status = face.store.status();
    let well = status.failed.is_none() && status.leader.is_some();
    HealthCheckResponse { status: if well { SERVING } else { NOT_SERVING } }
}

pub(super) async fn check(face: Shared, _: HealthCheckRequest) -> Result<HealthCheckResponse, Status> {
    Ok(condition(&face))
}

/// Says how it is now, and once more when the store fails or the server stops.
pub(super) async fn watch(
    face: Shared,
    _: HealthCheckRequest,
) -> Result<impl Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static, Status> {
    Ok(futures::stream::unfold((face, 0), |(face, said)| async move {
        if said == 1 {
            tokio::select! {
                () = face.stopped() => {}
                _ = face.store.failed() => {}
            }
        }
        let response = match said {
            0 => condition(&face),
            1 => HealthCheckResponse { status: NOT_SERVING },
            _ => return None,
        };
        Some((Ok(response), (face, said + 1)))
    }))
}
