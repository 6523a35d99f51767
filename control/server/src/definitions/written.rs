//! A write of a definition is answered once this server serves by it: who wrote it goes on with objects of the kind, and
//! finds the schema, the versions and the names that were written.
//!
//! Not waited for is what servers say of the definition afterwards, such as `Established`: it is about all of them.

use std::time::Duration;

use carrack_store::Revision;

use crate::call::Call;
use crate::service::Origin;

/// How long an answer is held back at most. The write is done by then, so that it is answered all the same; other servers
/// may lag behind at any time anyway.
const PATIENCE: Duration = Duration::from_secs(5);

/// Comes back when what the call wrote in `revision` is served, for a definition; at once for other kinds.
///
/// What the server writes by itself does not wait: the task that serves definitions has a part in it.
pub(crate) async fn served(call: &Call, revision: Revision) {
    if call.resource.kind != "CustomResourceDefinition" || call.origin == Origin::Server {
        return;
    }
    tokio::select! {
        () = call.server.kinds.synced(revision, PATIENCE) => {}
        // Nothing more is served from then on.
        () = call.server.shutdown.cancelled() => {}
    }
}
