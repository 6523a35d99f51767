//! The receiving side: what comes from other members goes in here, whatever carried it.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::message::{Append, Envelope, PeerEntry, Refused, Request, Response};
use crate::log::{RecordKind, space_for};
use crate::raft::Node;
use crate::shared::Shared;
use crate::space::Room;

/// Requests of peers under way, apart from Raft's own messages, of which there are few at a time.
const MAX_UNDER_WAY: usize = 4096;

/// Answers other members. Clones are the same. It does not keep the store open.
#[derive(Clone)]
pub struct PeerHandler {
    shared: Arc<Shared>,
    node: Node,
    under_way: Arc<Semaphore>,
}

impl PeerHandler {
    pub(crate) fn new(shared: Arc<Shared>, node: Node) -> PeerHandler {
        PeerHandler { shared, node, under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)) }
    }

    /// This member and its cluster.
    pub fn member_id(&self) -> u64 {
        self.shared.identity.member_id
    }

    /// Answers one message. The future can be dropped at any time; what was asked for may then happen or not.
    pub async fn handle(&self, message: Envelope) -> Result<Response, Refused> {
        self.check(&message)?;
        let raft = matches!(
            message.request,
            Request::Append(_) | Request::Vote(_) | Request::PreVote(_) | Request::TransferLeader(_)
        );
        let _place = match raft {
            true => None,
            false => Some(self.under_way.try_acquire().map_err(|_| Refused::Busy)?),
        };
        let _room = match &message.request {
            Request::Append(append) => self.room(append).await?,
            _ => None,
        };
        self.node.serve(message.request).await
    }

    /// Answers a leader's messages with entries, in their order. Ends after the first one that does not fit.
    pub fn handle_appends(
        &self,
        messages: BoxStream<'static, Envelope>,
    ) -> BoxStream<'static, Result<Response, Refused>> {
        let me = self.clone();
        let (refused, rooms) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(VecDeque::new())));
        let (told, taken) = (Arc::clone(&refused), Arc::clone(&rooms));
        let appends = messages.then(move |message| {
            let me = me.clone();
            async move { me.admit(message).await }
        });
        // Ends with the first one that is refused: those behind it have nothing to follow.
        let appends = appends.scan((), move |(), admitted| {
            let append = match admitted {
                Ok((append, room)) => {
                    taken.lock().push_back(room);
                    Some(append)
                }
                Err(why) => {
                    *told.lock() = Some(why);
                    None
                }
            };
            futures::future::ready(append)
        });
        let appends = appends.boxed();
        let answers = self.node.serve_appends(appends).inspect(move |_| drop(rooms.lock().pop_front()));
        // What was refused on the way in is said at the end of the answers.
        let last = async move { refused.lock().take().map(Err) };
        let last = last.into_stream().filter_map(futures::future::ready);
        Box::pin(answers.chain(last))
    }

    async fn admit(&self, message: Envelope) -> Result<(Append, Option<Room>), Refused> {
        self.check(&message)?;
        match message.request {
            Request::Append(append) => {
                let room = self.room(&append).await?;
                Ok((append, room))
            }
            _ => Err(Refused::Bad("only entries are expected here".to_owned())),
        }
    }

    /// Room for a leader's entries. Raft's own, which are small, and signs of life go into what is kept for them.
    async fn room(&self, append: &Append) -> Result<Option<Room>, Refused> {
        let normal = |entry: &&PeerEntry| entry.kind == RecordKind::Normal.code();
        let bytes = append.entries.iter().filter(normal).map(|entry| space_for(entry.body.len())).sum();
        if bytes == 0 {
            return Ok(None);
        }
        Room::take(&self.shared, bytes).await.map(Some).ok_or(Refused::NoSpace)
    }

    /// Takes only what is meant for this member, by members of its cluster, and can be.
    fn check(&self, message: &Envelope) -> Result<(), Refused> {
        let identity = &self.shared.identity;
        let asks_who = matches!(message.request, Request::Members);
        if asks_who && message.cluster_id == 0 {
            return Ok(());
        }
        if message.cluster_id != identity.cluster_id {
            return Err(Refused::WrongCluster { theirs: identity.cluster_id, ours: message.cluster_id });
        }
        if self.shared.is_removed(message.from) {
            return Err(Refused::Removed(message.from));
        }
        if message.to != identity.member_id && !(asks_who && message.to == 0) {
            return Err(Refused::WrongMember { to: message.to, is: identity.member_id });
        }
        // Leaders and candidates speak for themselves. Raft would take its own name for its own decision.
        if message.request.vote().is_some_and(|vote| vote.node != message.from) {
            return Err(Refused::Bad("the message is in the name of another member".to_owned()));
        }
        self.node.check_plausible(&message.request).inspect_err(|why| {
            tracing::warn!(member = %format_args!("{:x}", message.from), %why, "a member sends what cannot be");
        })
    }
}
