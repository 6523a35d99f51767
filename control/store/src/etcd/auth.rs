//! `Auth`: the store has no users of its own, and says so.

use tonic::Status;

use super::Shared;
use super::proto::maintenance::{AuthStatusRequest, AuthStatusResponse};

/// The revision of the users and roles of an etcd that never had any.
const FIRST_AUTH_REVISION: u64 = 1;

pub(super) async fn status(face: Shared, _: AuthStatusRequest) -> Result<AuthStatusResponse, Status> {
    let header = face.header_now();
    Ok(AuthStatusResponse { header, enabled: false, auth_revision: FIRST_AUTH_REVISION })
}
