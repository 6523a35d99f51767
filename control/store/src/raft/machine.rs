//! The state machine as openraft wants it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::time::Instant;

use super::convert;
use super::{LogId, Members, StoredMembership, Types};
use crate::checkpoint;
use crate::command::{Command, Outcome};
use crate::install;
use crate::mvcc::Mvcc;
use crate::shared::Shared;
use crate::snapshot::Export;

/// Applies entries to the shared state.
pub(crate) struct Machine {
    shared: Arc<Shared>,
}

/// The data of a snapshot, of which openraft knows only that it is there.
#[derive(Clone)]
pub(crate) enum Image {
    /// The last checkpoint, which is in the backend: nothing is to be made.
    Mark,
    /// The same, opened for reading.
    Export(Arc<Export>),
    /// Received from the leader, in the file beside the history.
    Received,
}

type Snapshot = SnapshotOf<Types, Image>;

impl Machine {
    pub(super) fn new(shared: Arc<Shared>) -> Machine {
        Machine { shared }
    }

    fn apply_one(&self, state: &mut Mvcc, entry: &super::Entry) -> Outcome {
        let at = convert::position(&entry.log_id);
        let outcome = match &entry.payload {
            EntryPayload::Blank => Outcome::Nothing,
            EntryPayload::Normal(proposal) => state.apply(proposal.command()),
            EntryPayload::Membership(members) => {
                self.notice_removed(state, members);
                match serde_json::to_vec(members) {
                    Ok(encoded) => state.set_membership(at, encoded),
                    // It was encoded for the log before, so this cannot be; but then nothing more may be applied.
                    Err(error) => self.shared.fail(format_args!("cannot encode the membership: {error}")),
                }
                let newest = at.index >= self.shared.membership_index.load(Ordering::Acquire);
                let alone = newest && convert::is_alone(members, self.shared.identity.member_id);
                self.shared.alone.store(alone, Ordering::Release);
                Outcome::Nothing
            }
        };
        state.applied(at);
        outcome
    }

    /// Remembers who is a member no more.
    fn notice_removed(&self, state: &mut Mvcc, members: &Members) {
        let Ok(Some(old)) = convert::members(state.marks().membership.as_ref()) else { return };
        let gone: Vec<u64> =
            old.nodes().map(|(id, _)| *id).filter(|id| members.get_node(id).is_none()).collect();
        if !gone.is_empty() {
            state.set_removed(gone);
            self.shared.removed.send_replace(state.marks().removed.clone());
        }
    }

    /// Tells the keeper of deadlines about leases that came or went.
    fn tell_lessor(&self, entry: &super::Entry, outcome: &Outcome) {
        let (EntryPayload::Normal(proposal), Outcome::Done(_)) = (&entry.payload, outcome) else {
            return;
        };
        match proposal.command() {
            Command::LeaseGrant { id, ttl } => self.shared.lessor.granted(*id, *ttl, Instant::now()),
            Command::LeaseRevoke { id } => self.shared.lessor.revoked(*id),
            Command::Txn(_) | Command::Compact(_) => {}
        }
    }

    /// What the last checkpoint contains.
    fn snapshot(&self) -> io::Result<Option<Snapshot>> {
        let marks = self.shared.checkpointed.lock().clone();
        let Some(applied) = marks.applied else {
            return Ok(None);
        };
        let meta = SnapshotMetaOf::<Types> {
            last_log_id: Some(convert::log_id(applied)),
            last_membership: convert::stored_membership(marks.membership.as_ref())?,
        };
        Ok(Some(Snapshot { meta, snapshot: Image::Mark }))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Image;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let state = self.shared.state.read();
        let marks = state.marks();
        Ok((marks.applied.map(convert::log_id), convert::stored_membership(marks.membership.as_ref())?))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut group = Vec::new();
        while let Some(next) = entries.next().await {
            group.push(next?);
        }
        let mut answers = Vec::with_capacity(group.len());
        let revision = {
            let mut state = self.shared.state.write();
            let first = state.pending().commands == 0;
            for (entry, _) in &group {
                answers.push(self.apply_one(&mut state, entry));
            }
            let enough = checkpoint::enough(&self.shared, &state);
            self.shared.trigger.waiting(state.unflushed_bytes(), first, enough);
            state.revision()
        };
        if let Some((last, _)) = group.last() {
            self.shared.applied_next.store(last.log_id.index() + 1, Ordering::Release);
            self.shared.applied.send_replace(last.log_id.index() + 1);
        }
        for ((entry, responder), outcome) in group.into_iter().zip(answers) {
            self.tell_lessor(&entry, &outcome);
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        self.shared.announce(revision);
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { ready: self.snapshot() }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let ready = self.snapshot();
        // Before the first checkpoint there is nothing to give.
        if matches!(ready, Ok(None)) && !force { None } else { Some(Builder { ready }) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Types>, image: Image) -> io::Result<()> {
        if !matches!(image, Image::Received) {
            return Err(io::Error::other("only a received snapshot can be installed"));
        }
        let wanted = meta.last_log_id.as_ref().map(convert::position);
        let shared = Arc::clone(&self.shared);
        let done = self.shared.options.blocking.run(move || install::install(&shared, wanted)).await;
        done.map_err(io::Error::other)??;
        let members = meta.last_membership.membership();
        let me = self.shared.identity.member_id;
        *self.shared.addresses.write() = convert::addresses(members);
        self.shared.alone.store(convert::is_alone(members, me), Ordering::Release);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let shared = Arc::clone(&self.shared);
        let export = self.shared.options.blocking.run(move || Export::of(&shared.backend)).await;
        let export = export.map_err(io::Error::other)?.map_err(io::Error::other)?;
        let Some(export) = export else { return Ok(None) };
        let meta = SnapshotMetaOf::<Types> {
            last_log_id: export.marks().applied.map(convert::log_id),
            last_membership: convert::stored_membership(export.marks().membership.as_ref())?,
        };
        Ok(Some(Snapshot { meta, snapshot: Image::Export(Arc::new(export)) }))
    }
}

/// Gives the snapshot that the last checkpoint is: building one costs nothing.
pub(crate) struct Builder {
    ready: io::Result<Option<Snapshot>>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Image;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let ready = std::mem::replace(&mut self.ready, Ok(None))?;
        ready.ok_or_else(|| io::Error::other("no checkpoint was written yet"))
    }
}
