//! Webhooks: MutatingWebhookConfigurations and ValidatingWebhookConfigurations, asked about what is written.
//!
//! Mutating webhooks run one after the other behind the plugins of this server, validating ones all at once behind
//! its own validation. Writes that are tried anew because somebody else wrote meanwhile ask again, as upstream's do:
//! an answer is about one object and the one that it replaces. Nothing is held while a webhook is asked.
//!
//! The configurations are in memory, fed by watches ([`index`]): where there are none, a write costs a look.

mod ask;
mod asked;
mod conditions;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod hook;
mod index;
mod mutating;
mod review;
mod status;
#[cfg(test)]
mod tests;
mod validating;

use std::sync::{Arc, OnceLock};

use carrack_store::Store;
use tokio::sync::OnceCell;

use crate::authn::Objects;
use crate::authz::feed;
use crate::authz::index::Indexed;
use crate::call::Call;
use crate::outbound::{Outbound, WebhookUsers};
use crate::{AdmissionRequest, ApiError, Operation, StoreObjects};

use super::matching::exempt;
pub(in crate::admission) use asked::Asked;
use hook::Hook;
use index::{Hooks, Which};
pub(crate) use mutating::Mutation;
pub(crate) use status::unexpected;

/// All webhooks, and the way to them.
pub(crate) struct Webhooks {
    store: Store,
    objects: Arc<dyn Objects>,
    outbound: Outbound,
    /// Loaded by the first write.
    hooks: OnceCell<Arc<Indexed<Hooks>>>,
    /// As whom mutating and validating ones are asked.
    users: OnceLock<WebhookCredentials>,
}

/// As whom webhooks are asked: nobody, where there are no users.
#[derive(Clone, Debug, Default)]
pub struct WebhookCredentials {
    /// For mutating webhooks.
    pub mutating: Option<WebhookUsers>,
    /// For validating webhooks.
    pub validating: Option<WebhookUsers>,
}

impl Webhooks {
    pub(crate) fn new(store: Store, outbound: Outbound) -> Self {
        let objects = Arc::new(StoreObjects::new(store.clone()));
        Webhooks { store, objects, outbound, hooks: OnceCell::new(), users: OnceLock::new() }
    }

    /// Sets as whom webhooks are asked; `false` when that was set before.
    pub(crate) fn set_users(&self, users: WebhookCredentials) -> bool {
        self.users.set(users).is_ok()
    }

    fn users(&self, mutating: bool) -> Option<&WebhookUsers> {
        let users = self.users.get()?;
        if mutating { users.mutating.as_ref() } else { users.validating.as_ref() }
    }

    /// The webhooks of one kind, in the order they are asked; `None` when there is nothing to ask.
    async fn list(&self, which: Which) -> Result<Option<Arc<[Arc<Hook>]>>, ApiError> {
        let load = || feed::start::<Hooks>(self.store.clone());
        let hooks = self.hooks.get_or_try_init(load).await.map_err(|why| {
            ApiError::unavailable(format!("not yet ready to handle request: {why}")).retry_after(1)
        })?;
        let list = hooks.read().list(which);
        Ok((!list.is_empty()).then_some(list))
    }
}

/// The mutating webhooks that are to be asked about the request; `None` when there are none.
pub(crate) async fn mutation<'a>(
    call: &'a Call,
    request: &'a AdmissionRequest<'a>,
) -> Result<Option<Mutation<'a>>, ApiError> {
    if !is_asked(call, request) {
        return Ok(None);
    }
    let hooks = call.server.webhooks.list(Which::Mutating).await?;
    Ok(hooks.map(|hooks| Mutation::new(Asked::new(call, request), hooks)))
}

/// Asks all validating webhooks about the request; `object` is the final one, `None` for deletions.
pub(crate) async fn validate(
    call: &Call,
    request: &AdmissionRequest<'_>,
    object: Option<&serde_json::Value>,
) -> Result<(), ApiError> {
    conditions::check(request, object)?;
    if !is_asked(call, request) {
        return Ok(());
    }
    match call.server.webhooks.list(Which::Validating).await? {
        Some(hooks) => validating::ask_all(&Asked::new(call, request), &hooks, object).await,
        None => Ok(()),
    }
}

/// Whether webhooks are about the request at all.
pub(in crate::admission) fn is_asked(call: &Call, request: &AdmissionRequest<'_>) -> bool {
    // A binding and an eviction were asked about; what the server does to carry them out is its own step.
    let own_step = request.attributes.verb == "create"
        && matches!(request.operation, Operation::Update | Operation::Delete);
    // What every cluster has is made before anything that could answer runs.
    let of_server = call.origin == crate::service::Origin::Server;
    !own_step && !of_server && !exempt(&request.attributes.api_group, &request.attributes.resource)
}
