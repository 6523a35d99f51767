//! `v3lockpb.Lock` and `v3electionpb.Election`: queues of keys, as etcd's `concurrency` package makes them on the
//! client's side. Whoever has the oldest key below a name holds the lock, or leads.

use bytes::Bytes;
use futures::Stream;
use tonic::Status;

use super::error::{self, ELECTION_NO_LEADER, ELECTION_NOT_LEADER, of_read, of_watch, of_write};
use super::proto::concurrency::*;
use super::{Face, Shared, convert};
use crate::arrange::{Limits, Sort, SortBy};
use crate::kv::{KeyRange, KeyValue, LeaseId, Revision};
use crate::store::Store;
use crate::txn::{Compare, CompareOp, CompareTarget, Op, OpResponse, Put, Range, Txn};
use crate::watch::{EventKind, Watch};

/// Seconds that a lock lives whose client brought no lease; etcd's default.
const DEFAULT_TTL: i64 = 60;

/// A place in a queue. Given up when dropped, unless it is kept.
struct Place {
    store: Store,
    key: Bytes,
    created: Revision,
    lease: LeaseId,
    kept: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (store, key) = (self.store.clone(), self.key.clone());
        tokio::spawn(async move {
            if let Err(error) = store.txn(Txn::delete(key)).await {
                tracing::debug!(%error, "a place in a queue stays until its lease ends");
            }
        });
    }
}

/// The keys of a queue.
fn below(name: &Bytes) -> Bytes {
    [name.as_ref(), b"/"].concat().into()
}

/// It is still the key that was made in this revision.
fn made_in(key: &Bytes, revision: Revision) -> Compare {
    let target = CompareTarget::CreateRevision(revision);
    Compare { keys: KeyRange::key(key.clone()), op: CompareOp::Equal, target }
}

/// Takes a place at the end of the queue, or finds the one that this lease has already.
async fn line_up(face: &Face, name: &Bytes, lease: LeaseId, value: Bytes) -> Result<Place, Status> {
    let lease = match lease {
        0 => face.store.lease_grant(DEFAULT_TTL).await.map_err(of_write)?.id,
        lease => lease,
    };
    let key: Bytes = [below(name).as_ref(), format!("{lease:x}").as_bytes()].concat().into();
    let put = Op::Put(Put { key: key.clone(), value: value.clone(), lease, ..Put::default() });
    let txn = Txn::of(vec![put.clone()]).when(made_in(&key, 0)).or_else(Op::get(key.clone()));
    let done = face.store.txn(txn).await.map_err(of_write)?;
    let had = done.responses.first().and_then(|response| match response {
        OpResponse::Range(range) => range.kvs.first(),
        _ => None,
    });
    let created = had.map_or(done.revision, |kv| kv.create_revision);
    if had.is_some_and(|kv| kv.value != value) {
        let txn = Txn::of(vec![put]).when(made_in(&key, created));
        face.store.txn(txn).await.map_err(of_write)?;
    }
    Ok(Place { store: face.store.clone(), key, created, lease, kept: false })
}

/// Waits until no older key is in the queue.
async fn wait(face: &Face, name: &Bytes, place: &Place) -> Result<(), Status> {
    let older = Range {
        sort: Some(Sort { by: SortBy::CreateRevision, descending: true }),
        limits: Limits { max_create_revision: place.created - 1, ..Limits::default() },
        limit: 1,
        ..Range::prefix(below(name))
    };
    loop {
        let found = face.store.range(older.clone()).await.map_err(of_read)?;
        let Some(before) = found.kvs.first() else { return Ok(()) };
        // Each waits for the one before it alone, so that one release wakes one.
        deleted(face, &before.key, found.revision + 1).await?;
    }
}

/// Waits until a key is deleted.
async fn deleted(face: &Face, key: &Bytes, from: Revision) -> Result<(), Status> {
    let watch = Watch { prev_kv: false, ..Watch::of(KeyRange::key(key.clone())) };
    let mut watcher = face.store.watch(watch.since(from)).map_err(of_watch)?;
    loop {
        let batch = tokio::select! {
            biased;
            () = face.stopped() => None,
            batch = watcher.next() => batch,
        };
        let batch = batch.ok_or_else(|| error::status(error::STOPPED))?.map_err(of_watch)?;
        if batch.events.iter().any(|event| event.kind == EventKind::Delete) {
            return Ok(());
        }
    }
}

/// Waits for its turn, then keeps its place.
async fn take_turn(face: &Face, name: &Bytes, lease: LeaseId, value: Bytes) -> Result<Place, Status> {
    let mut place = line_up(face, name, lease, value).await?;
    wait(face, name, &place).await?;
    // The lease may have ended meanwhile, and the place with it.
    let held = face.store.range(Range::key(place.key.clone())).await.map_err(of_read)?;
    place.kept = true;
    match held.kvs.first().filter(|kv| kv.create_revision == place.created) {
        Some(_) => Ok(place),
        None => Err(error::status(error::SESSION_EXPIRED)),
    }
}

pub(super) async fn lock(face: Shared, request: LockRequest) -> Result<LockResponse, Status> {
    let place = take_turn(&face, &request.name, request.lease, Bytes::new()).await?;
    Ok(LockResponse { header: face.header_now(), key: place.key.clone() })
}

pub(super) async fn unlock(face: Shared, request: UnlockRequest) -> Result<UnlockResponse, Status> {
    if request.key.is_empty() {
        return Err(error::status(error::EMPTY_KEY));
    }
    let done = face.store.txn(Txn::delete(request.key)).await.map_err(of_write)?;
    Ok(UnlockResponse { header: face.header(done.revision) })
}

pub(super) async fn campaign(face: Shared, request: CampaignRequest) -> Result<CampaignResponse, Status> {
    let CampaignRequest { name, lease, value } = request;
    let place = take_turn(&face, &name, lease, value).await?;
    let leader = LeaderKey { name, key: place.key.clone(), rev: place.created, lease: place.lease };
    Ok(CampaignResponse { header: face.header_now(), leader: Some(leader) })
}

pub(super) async fn proclaim(face: Shared, request: ProclaimRequest) -> Result<ProclaimResponse, Status> {
    let LeaderKey { key, rev, lease, .. } = leader_of(request.leader)?;
    let put = Op::Put(Put { key: key.clone(), value: request.value, lease, ..Put::default() });
    let txn = Txn::of(vec![put]).when(made_in(&key, rev));
    let done = face.store.txn(txn).await.map_err(of_write)?;
    if !done.succeeded {
        return Err(error::status(ELECTION_NOT_LEADER));
    }
    Ok(ProclaimResponse { header: face.header(done.revision) })
}

pub(super) async fn resign(face: Shared, request: ResignRequest) -> Result<ResignResponse, Status> {
    let LeaderKey { key, rev, .. } = leader_of(request.leader)?;
    let txn = Txn::delete(key.clone()).when(made_in(&key, rev));
    let done = face.store.txn(txn).await.map_err(of_write)?;
    Ok(ResignResponse { header: face.header(done.revision) })
}

fn leader_of(leader: Option<LeaderKey>) -> Result<LeaderKey, Status> {
    let leader = leader.filter(|leader| !leader.key.is_empty());
    leader.ok_or_else(|| Status::invalid_argument("\"leader\" field must be provided"))
}

/// The oldest key of an election, and the revision that it was read at.
async fn oldest(face: &Face, name: &Bytes) -> Result<(Option<std::sync::Arc<KeyValue>>, Revision), Status> {
    let first = Range {
        sort: Some(Sort { by: SortBy::CreateRevision, descending: false }),
        limit: 1,
        ..Range::prefix(below(name))
    };
    let found = face.store.range(first).await.map_err(of_read)?;
    Ok((found.kvs.into_iter().next(), found.revision))
}

pub(super) async fn leader(face: Shared, request: LeaderRequest) -> Result<LeaderResponse, Status> {
    let (kv, revision) = oldest(&face, &request.name).await?;
    let kv = kv.ok_or_else(|| error::status(ELECTION_NO_LEADER))?;
    Ok(LeaderResponse { header: face.header(revision), kv: Some(convert::key_value(&kv)) })
}

/// The leader, and each new one, or new value of it.
pub(super) async fn observe(
    face: Shared,
    request: LeaderRequest,
) -> Result<impl Stream<Item = Result<LeaderResponse, Status>> + Send + 'static, Status> {
    Ok(futures::stream::unfold((face, request.name, Some(0)), |(face, name, said)| async move {
        let said = said?;
        match next_leader(&face, &name, said).await {
            Ok((kv, revision)) => {
                let at = kv.mod_revision;
                let response =
                    LeaderResponse { header: face.header(revision), kv: Some(convert::key_value(&kv)) };
                Some((Ok(response), (face, name, Some(at))))
            }
            Err(status) => Some((Err(status), (face, name, None))),
        }
    }))
}

/// Waits for a leader whose key was not last changed in `said`.
async fn next_leader(
    face: &Face,
    name: &Bytes,
    said: Revision,
) -> Result<(std::sync::Arc<KeyValue>, Revision), Status> {
    loop {
        let (kv, revision) = oldest(face, name).await?;
        if let Some(kv) = kv.filter(|kv| kv.mod_revision != said) {
            return Ok((kv, revision));
        }
        let watch = Watch { prev_kv: false, ..Watch::prefix(below(name)) };
        let mut watcher = face.store.watch(watch.since(revision + 1)).map_err(of_watch)?;
        let change = tokio::select! {
            biased;
            () = face.stopped() => None,
            change = watcher.next() => change,
        };
        change.ok_or_else(|| error::status(error::STOPPED))?.map_err(of_watch)?;
    }
}
