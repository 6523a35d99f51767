//! What is written beside an object in the same transaction: the addresses and ports that a Service holds, and the
//! lease that an Event goes away with.

use carrack_store::KeyValue;
use serde_json::Value;

use crate::ApiError;
use crate::call::Call;
use crate::registry::Beside;
use crate::services;

/// Whether [`prepare`] may complete new objects of the call's kind.
pub(crate) fn completes(call: &Call) -> bool {
    call.resource.storage.kind == "Service"
}

/// What goes with changing `old` to `new` (a creation without `old`, a removal without `new`). May complete `new`
/// with what the server chooses. With `dry_run` nothing lasting is made.
pub(crate) async fn prepare(
    call: &Call,
    old: Option<&Value>,
    new: Option<&mut Value>,
    dry_run: bool,
) -> Result<Beside, ApiError> {
    match call.resource.storage.kind {
        "Service" => services::beside(call, old, new).await,
        "Event" if new.is_some() && !dry_run => {
            let lease = call.server.event_leases.current(call.registry().store()).await?;
            Ok(Beside { lease, ..Beside::default() })
        }
        _ => Ok(Beside::default()),
    }
}

/// What goes with a change that touches nothing of this: the object keeps its lease.
pub(crate) fn keep(kv: &KeyValue) -> Beside {
    Beside { lease: kv.lease, ..Beside::default() }
}
