//! Which kinds the API serves, for the controllers that treat all kinds alike.

use kube::Client;
use kube::discovery::{Discovery, Scope, verbs};

use crate::driver::LookError;
use crate::resource::Resource;

/// A kind, and what may be done with all its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The kind.
    pub resource: Resource,
    /// Whether its objects can be deleted in one request.
    pub delete_collection: bool,
    /// Whether its objects can be watched.
    pub watch: bool,
}

/// Every kind whose objects can be listed and deleted, each once, in the version that the server prefers.
///
/// # Errors
/// When discovery fails for any group: acting on a part of the kinds could delete too little or too much.
pub(crate) async fn deletable(client: &Client) -> Result<Vec<Kind>, LookError> {
    let found = Discovery::new(client.clone()).run().await;
    let found = found.map_err(|source| LookError::Read {
        what: "the kinds that the API serves".into(),
        source: Box::new(source),
    })?;
    let mut kinds: Vec<Kind> = found
        .groups()
        .flat_map(|group| group.recommended_resources())
        .filter(|(_, can)| can.supports_operation(verbs::LIST) && can.supports_operation(verbs::DELETE))
        .map(|(resource, can)| Kind {
            resource: Resource::discovered(&resource, can.scope == Scope::Namespaced),
            delete_collection: can.supports_operation(verbs::DELETE_COLLECTION),
            watch: can.supports_operation(verbs::WATCH),
        })
        .collect();
    kinds.sort_by_key(|a| a.resource.full_name());
    kinds.dedup();
    Ok(kinds)
}
