//! The store as those see it who look after its members.

use crate::cluster::{Member, MemberChange, MemberError};
use crate::error::ReadError;
use crate::peer::PeerHandler;
use crate::store::Store;

impl Store {
    /// Answers other members: whoever carries messages to this member hands them over here.
    pub fn peer_handler(&self) -> PeerHandler {
        self.inner.peers.clone()
    }

    /// Waits until a leader is known, and everything is applied here that anybody was told before.
    pub async fn ready(&self) -> Result<(), ReadError> {
        self.inner.node.read_barrier().await
    }

    /// This member's id.
    pub fn member_id(&self) -> u64 {
        self.inner.shared.identity.member_id
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        self.inner.shared.identity.cluster_id
    }

    /// Who leads, as far as this member knows.
    pub fn leader(&self) -> Option<u64> {
        self.inner.node.leader()
    }

    /// Whether this member leads, and a majority has confirmed it lately.
    pub fn is_leader(&self) -> bool {
        self.inner.node.leads()
    }

    /// All members by id, as this member knows them. After [`Store::ready`] that is nothing older than the call.
    pub fn members(&self) -> Vec<Member> {
        self.inner.node.members()
    }

    /// Adds a member that peers will reach at `peer_urls`; gives its id. It is to be started with
    /// [`crate::InitialClusterState::Existing`] after this. If it is not to stay a learner, it gets its vote on its
    /// own as soon as it has caught up.
    pub async fn member_add(&self, as_learner: bool, peer_urls: Vec<String>) -> Result<u64, MemberError> {
        self.change(MemberChange::Add { as_learner, peer_urls }).await
    }

    /// Removes a member for good: its id never comes back. Refused if too few others could be reached.
    pub async fn member_remove(&self, id: u64) -> Result<(), MemberError> {
        self.change(MemberChange::Remove(id)).await.map(drop)
    }

    /// Gives a learner its vote. Refused while it lags.
    pub async fn member_promote(&self, id: u64) -> Result<(), MemberError> {
        self.change(MemberChange::Promote(id)).await.map(drop)
    }

    /// Says where peers reach a member from now on.
    pub async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<(), MemberError> {
        self.change(MemberChange::Update { id, peer_urls }).await.map(drop)
    }

    /// Has a voter take over leadership; returns once it leads.
    pub async fn move_leader(&self, id: u64) -> Result<(), MemberError> {
        self.change(MemberChange::MoveLeader(id)).await.map(drop)
    }

    async fn change(&self, change: MemberChange) -> Result<u64, MemberError> {
        if self.inner.shared.stopping.load(std::sync::atomic::Ordering::Acquire) {
            return Err(MemberError::Stopped);
        }
        self.inner.node.change(change).await
    }
}
