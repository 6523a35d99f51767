//! A member that joins a cluster asks the others who it is: it was added before it was started.

use std::time::Duration;

use crate::error::OpenError;
use crate::identity::Identity;
use crate::options::Options;
use crate::peer::Peer;
use crate::peer::message::{Envelope, Request, Response};

/// How often all others are asked before it is given up.
const ROUNDS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Finds this member in the list that the cluster gives, by its addresses.
pub(crate) async fn identify(options: &Options) -> Result<Identity, OpenError> {
    let Some(transport) = &options.transport else {
        return Err(OpenError::Options(
            "a member that joins a cluster needs a transport to peers".to_owned(),
        ));
    };
    let mut wanted = own_urls(options);
    wanted.sort();
    let mut last = "initial_cluster names no other member".to_owned();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        for member in options.initial_cluster.iter().filter(|member| member.name != options.name) {
            let peer = Peer { id: 0, urls: member.peer_urls.clone() };
            let question = Envelope { cluster_id: 0, from: 0, to: 0, request: Request::Members };
            match transport.call(&peer, question, options.request_timeout).await {
                Ok(Response::Members { cluster_id, members }) => {
                    let own = members.iter().find(|member| {
                        let mut urls = member.peer_urls.clone();
                        urls.sort();
                        urls == wanted
                    });
                    if let Some(own) = own {
                        return Ok(Identity::joining(options, cluster_id, own.id));
                    }
                    last = format!(
                        "{} has no member with the peer addresses {wanted:?}: add it first (member add)",
                        member.name
                    );
                }
                Ok(_) => last = format!("{} gave an answer of another kind", member.name),
                Err(error) => last = format!("{}: {error}", member.name),
            }
        }
    }
    Err(OpenError::NotReady(format!("cannot join the cluster: {last}")))
}

fn own_urls(options: &Options) -> Vec<String> {
    let listed = options.initial_cluster.iter().find(|member| member.name == options.name);
    listed.map_or_else(|| options.peer_urls.clone(), |member| member.peer_urls.clone())
}
