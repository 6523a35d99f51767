//! `Cluster`: who belongs to the store.

use tonic::Status;

use super::error::{self, of_member, of_read};
use super::proto::ResponseHeader;
use super::proto::cluster::*;
use super::{Face, Shared};
use crate::cluster::Member as Known;

fn member(known: Known) -> Member {
    let Known { id, name, peer_urls, client_urls, is_learner, .. } = known;
    Member { id, name, peer_urls, client_urls, is_learner }
}

fn members(face: &Face) -> Vec<Member> {
    face.store.members().into_iter().map(member).collect()
}

/// Answers about members name no revision, as in etcd.
fn header(face: &Face) -> Option<ResponseHeader> {
    face.header(0)
}

/// The answer once the membership is changed.
fn changed(face: &Face) -> MembersResponse {
    MembersResponse { header: header(face), members: members(face) }
}

pub(super) async fn list(face: Shared, request: MemberListRequest) -> Result<MembersResponse, Status> {
    if request.linearizable {
        face.store.ready().await.map_err(of_read)?;
    }
    Ok(changed(&face))
}

pub(super) async fn add(face: Shared, request: MemberAddRequest) -> Result<MemberAddResponse, Status> {
    let id = face.store.member_add(request.is_learner, request.peer_urls).await.map_err(of_member)?;
    let members = members(&face);
    let added = members.iter().find(|member| member.id == id).cloned();
    // This member may not know of it yet, if another one leads.
    let added = added.ok_or_else(|| error::status(error::UNKNOWN_OUTCOME))?;
    Ok(MemberAddResponse { header: header(&face), member: Some(added), members })
}

pub(super) async fn remove(face: Shared, request: MemberRemoveRequest) -> Result<MembersResponse, Status> {
    face.store.member_remove(request.id).await.map_err(of_member)?;
    Ok(changed(&face))
}

pub(super) async fn update(face: Shared, request: MemberUpdateRequest) -> Result<MembersResponse, Status> {
    face.store.member_update(request.id, request.peer_urls).await.map_err(of_member)?;
    Ok(changed(&face))
}

pub(super) async fn promote(face: Shared, request: MemberPromoteRequest) -> Result<MembersResponse, Status> {
    face.store.member_promote(request.id).await.map_err(of_member)?;
    Ok(changed(&face))
}
