//! `Maintenance`: the condition of a member, and its upkeep.

use futures::Stream;
use tonic::Status;

use super::error::{self, BAD_LEADER_TRANSFEREE, MEMBER_NOT_FOUND, NOT_LEADER, of_member, of_write};
use super::proto::maintenance::*;
use super::{API_VERSION, Shared};
use crate::alarm::{Alarm, AlarmKind};
use crate::upkeep::UpkeepError;

const ACTIVATE: i32 = 1;
const DEACTIVATE: i32 = 2;

/// etcd's word for "never compacted".
const NEVER_COMPACTED: i64 = -1;

fn of_upkeep(error: UpkeepError) -> Status {
    error::status(match error {
        UpkeepError::Write(error) => return of_write(error),
        UpkeepError::Compacted { .. } => error::COMPACTED,
        UpkeepError::FutureRevision { .. } => error::FUTURE_REVISION,
        UpkeepError::Full => error::NO_SPACE,
        UpkeepError::History(_) => return Status::internal(error.to_string()),
    })
}

pub(super) async fn alarm(face: Shared, request: AlarmRequest) -> Result<AlarmResponse, Status> {
    let kind = u8::try_from(request.alarm).ok().and_then(AlarmKind::from_code);
    let before = face.store.alarms();
    let chosen = |alarm: &Alarm| {
        (request.member_id == 0 || request.member_id == alarm.member) && kind.is_none_or(|k| k == alarm.kind)
    };
    let answer: Vec<Alarm> = match request.action {
        ACTIVATE => {
            let kind = kind.ok_or_else(|| Status::invalid_argument("etcdserver: which alarm to raise?"))?;
            let own = face.store.ids().1;
            if request.member_id != 0 && request.member_id != own {
                return Err(error::status(MEMBER_NOT_FOUND));
            }
            let alarm = Alarm { member: own, kind };
            face.store.alarm(alarm, true).await.map_err(of_write)?;
            vec![alarm]
        }
        DEACTIVATE => {
            let chosen: Vec<Alarm> = before.into_iter().filter(chosen).collect();
            for alarm in &chosen {
                face.store.alarm(*alarm, false).await.map_err(of_write)?;
            }
            chosen
        }
        _ => before.into_iter().filter(chosen).collect(),
    };
    let member = |a: Alarm| AlarmMember { member_id: a.member, alarm: a.kind.code().into() };
    Ok(AlarmResponse { header: face.header_now(), alarms: answer.into_iter().map(member).collect() })
}

pub(super) async fn status(face: Shared, _: StatusRequest) -> Result<StatusResponse, Status> {
    let status = face.store.status();
    let mut errors: Vec<String> = face.store.alarms().iter().map(Alarm::to_string).collect();
    errors.extend(status.failed);
    if status.leader.is_none() {
        errors.push(error::NO_LEADER.1.to_owned());
    }
    Ok(StatusResponse {
        header: face.header(status.revision),
        version: API_VERSION.to_owned(),
        db_size: status.db_bytes as i64,
        leader: status.leader.unwrap_or_default(),
        raft_index: status.raft_index,
        raft_term: status.term,
        raft_applied_index: status.applied_index,
        errors,
        db_size_in_use: status.db_bytes_in_use as i64,
        is_learner: status.is_learner,
        storage_version: String::new(),
        db_size_quota: status.quota_bytes as i64,
    })
}

pub(super) async fn defragment(face: Shared, _: DefragmentRequest) -> Result<DefragmentResponse, Status> {
    face.store.defragment().await.map_err(of_upkeep)?;
    // Without a header, as in etcd.
    Ok(DefragmentResponse { header: None })
}

pub(super) async fn hash(face: Shared, _: HashRequest) -> Result<HashResponse, Status> {
    let hash = face.store.hash().await.map_err(of_upkeep)?;
    Ok(HashResponse { header: face.header_now(), hash })
}

pub(super) async fn hash_kv(face: Shared, request: HashKvRequest) -> Result<HashKvResponse, Status> {
    let hash = face.store.hash_kv(request.revision.max(0)).await.map_err(of_upkeep)?;
    Ok(HashKvResponse {
        header: face.header_now(),
        hash: hash.hash,
        compact_revision: if hash.compacted == 0 { NEVER_COMPACTED } else { hash.compacted },
        hash_revision: hash.revision,
    })
}

/// The blobs together are the file that `etcdctl snapshot save` makes.
pub(super) async fn snapshot(
    face: Shared,
    _: SnapshotRequest,
) -> Result<impl Stream<Item = Result<SnapshotResponse, Status>> + Send + 'static, Status> {
    let snapshot = face.store.snapshot().await.map_err(of_upkeep)?;
    let remaining = snapshot.bytes;
    Ok(futures::stream::unfold(Some((face, snapshot, remaining)), |state| async {
        let (face, mut snapshot, remaining) = state?;
        let blob = match snapshot.next().await? {
            Ok(blob) => blob,
            Err(error) => return Some((Err(of_upkeep(error)), None)),
        };
        let remaining_bytes = remaining.saturating_sub(blob.len() as u64);
        let header = face.header_now();
        let response = SnapshotResponse { header, remaining_bytes, blob, version: API_VERSION.to_owned() };
        Some((Ok(response), Some((face, snapshot, remaining_bytes))))
    }))
}

pub(super) async fn move_leader(
    face: Shared,
    request: MoveLeaderRequest,
) -> Result<MoveLeaderResponse, Status> {
    // As etcd: the leader alone hands over.
    if !face.store.is_leader() {
        return Err(error::status(NOT_LEADER));
    }
    if !face.store.members().iter().any(|member| member.id == request.target_id && member.votes) {
        return Err(error::status(BAD_LEADER_TRANSFEREE));
    }
    face.store.move_leader(request.target_id).await.map_err(of_member)?;
    Ok(MoveLeaderResponse { header: face.header_now() })
}
