//! What every part of the agent uses.

use std::sync::Arc;

use carrack_cgroups::Cgroups;
use carrack_images::ImageStore;
use carrack_network::{Network, Service};
use carrack_volumes::Volumes;
use kube::Client;
use tokio::sync::watch;

use crate::events::Events;
use crate::image_gc::Uses;
use crate::ledger::Ledger;
use crate::node::Machine;
use crate::objects::Objects;
use crate::options::Options;
use crate::rates::Rates;

/// What every part of the agent uses.
pub(crate) struct Shared {
    /// What the agent was told at start.
    pub options: Options,
    /// The API server, as `system:node:<name>`.
    pub client: Client,
    /// The agent's control groups.
    pub cgroups: Cgroups,
    /// The node's images.
    pub images: ImageStore,
    /// When each image was last used.
    pub image_uses: Uses,
    /// The pods' volumes.
    pub volumes: Volumes,
    /// The ConfigMaps and Secrets that pods name.
    pub objects: Objects,
    /// Tells what happens.
    pub events: Events,
    /// What of it the pods have been given.
    pub ledger: Ledger,
    /// What the machine has.
    pub machine: Machine,
    /// How fast CPU time is used.
    pub rates: Rates,
    /// The node's network, once its address range is known.
    pub network: watch::Receiver<Option<Arc<Network>>>,
    /// All services, once they have been listed.
    pub services: watch::Receiver<Option<Arc<Vec<Service>>>>,
}

impl Shared {
    /// The node's network; waits for it.
    pub(crate) async fn network(&self) -> Option<Arc<Network>> {
        let mut network = self.network.clone();
        network.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// All services; waits for the first list of them.
    pub(crate) async fn services(&self) -> Option<Arc<Vec<Service>>> {
        let mut services = self.services.clone();
        services.wait_for(Option::is_some).await.ok()?.clone()
    }
}
