//! A kind that this server does not know yet: another one has made its definition, and told a client that it is served.

use std::time::Duration;

use carrack_api::ResourceRef;

use super::prefix;
use crate::ApiError;
use crate::router::RequestInfo;
use crate::server::Inner;

/// How long a request waits until a definition that is stored is served here too.
const PATIENCE: Duration = Duration::from_secs(2);

/// The row that a request is about. Before one is refused, this server catches up with the definitions in the store.
pub(crate) async fn find(server: &Inner, info: &RequestInfo) -> Result<ResourceRef, ApiError> {
    let look = || server.kinds.now().find(&info.group, &info.version, &info.resource);
    if let Some(row) = look() {
        return Ok(row);
    }
    // A definition is called `<plural>.<group>`.
    if info.group.contains('.') && carrack_api::resources().iter().all(|row| row.group != info.group) {
        let key = format!("{}{}.{}", prefix()?, info.resource, info.group);
        if let Some(definition) = server.registry.get_key(key).await? {
            server.kinds.synced(definition.mod_revision, PATIENCE).await;
        }
    }
    look().ok_or_else(ApiError::no_such_path)
}
