//! The receiving side: what comes from other members goes in here, whatever carried it.

use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::Semaphore;

use super::message::{Append, Envelope, Refused, Request, Response};
use crate::raft::Node;
use crate::shared::Shared;

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
        self.node.serve(message.request).await
    }

    /// Answers a leader's messages with entries, in their order. Ends after the first one that does not fit.
    pub fn handle_appends(
        &self,
        messages: BoxStream<'static, Envelope>,
    ) -> BoxStream<'static, Result<Response, Refused>> {
        let me = self.clone();
        let (node, refused) = (self.node.clone(), Arc::new(parking_lot::Mutex::new(None)));
        let told = Arc::clone(&refused);
        let appends = messages.map(move |message| match me.check(&message) {
            Err(refused) => Err(refused),
            Ok(()) => match message.request {
                Request::Append(append) => Ok(append),
                _ => Err(Refused::Bad("only entries are expected here".to_owned())),
            },
        });
        let appends = appends.filter_map(move |append: Result<Append, Refused>| {
            let taken = append.map_err(|why| *told.lock() = Some(why)).ok();
            futures::future::ready(taken)
        });
        let answers = node.serve_appends(Box::pin(appends));
        // What was refused on the way in is said at the end of the answers.
        let last = async move { refused.lock().take().map(Err) };
        let last = last.into_stream().filter_map(futures::future::ready);
        Box::pin(answers.chain(last))
    }

    /// Takes only what is meant for this member, by members of its cluster.
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
        Ok(())
    }
}
