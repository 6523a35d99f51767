//! `Cluster`: who belongs to the store.

use tonic::Status;

use super::error::{self, MEMBER_NOT_FOUND};
use super::proto::ResponseHeader;
use super::proto::cluster::*;
use super::{Face, Shared};

fn members(face: &Face) -> Vec<Member> {
    vec![Member {
        id: face.store.ids().1,
        name: face.config.name.clone(),
        peer_urls: Vec::new(),
        client_urls: face.config.client_urls.clone(),
        is_learner: false,
    }]
}

/// Answers about members name no revision, as in etcd.
fn header(face: &Face) -> Option<ResponseHeader> {
    face.header(0)
}

fn alone(face: &Face, id: u64) -> Status {
    if id == face.store.ids().1 {
        Status::failed_precondition("etcdserver: the store has one member only, which cannot be changed")
    } else {
        error::status(MEMBER_NOT_FOUND)
    }
}

pub(super) async fn list(face: Shared, _: MemberListRequest) -> Result<MembersResponse, Status> {
    Ok(MembersResponse { header: header(&face), members: members(&face) })
}

pub(super) async fn add(_: Shared, _: MemberAddRequest) -> Result<MemberAddResponse, Status> {
    Err(Status::failed_precondition("etcdserver: this store has no peers"))
}

pub(super) async fn remove(face: Shared, request: MemberRemoveRequest) -> Result<MembersResponse, Status> {
    Err(alone(&face, request.id))
}

pub(super) async fn update(face: Shared, request: MemberUpdateRequest) -> Result<MembersResponse, Status> {
    Err(alone(&face, request.id))
}

pub(super) async fn promote(face: Shared, request: MemberPromoteRequest) -> Result<MembersResponse, Status> {
    Err(alone(&face, request.id))
}
