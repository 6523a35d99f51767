//! CustomResourceDefinitions at work: which of them are served, and what their status says.
//!
//! One task follows the definitions in the store. After each change it decides about names ([`plan`]), serves the
//! accepted ones, and only then says so in the status, so that who waits for `Established` finds the resource. Every
//! server of a cluster does this by itself; they come to the same end, and a lost race is run again.

mod cleanup;
mod late;
mod plan;
pub(crate) mod rules;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use carrack_api::{Resource, custom, meta};
use carrack_store::{Range, Revision, Store, Watch, Watcher};
use futures::FutureExt;
use http::Method;
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub(crate) use late::find;

use crate::ApiError;
use crate::object::Stored;
use crate::server::{ApiServer, Inner};

/// Wait before what failed is tried again, and between looks at a definition whose objects are still going.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Where definitions are.
const COLLECTION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// What is known of a definition.
struct Known {
    /// The revision that this was made of.
    revision: Revision,
    /// The definition as decided, which the store may yet have to learn.
    definition: Value,
    rows: Vec<Arc<Resource>>,
}

/// Follows the definitions.
pub(crate) struct Definitions {
    server: Weak<Inner>,
    known: BTreeMap<String, Known>,
}

/// Starts to follow the definitions; those that are there are served when this comes back.
pub(crate) async fn start(inner: &Arc<Inner>, store: Store, end: CancellationToken) -> Result<(), ApiError> {
    let prefix = prefix()?;
    let watcher = watch(&store, &prefix)?;
    let mut definitions = Definitions { server: Arc::downgrade(inner), known: BTreeMap::new() };
    let left = definitions.sync(&prefix).await?;
    tokio::spawn(follow(definitions, store, watcher, prefix, left, end));
    Ok(())
}

fn watch(store: &Store, prefix: &str) -> Result<Watcher, ApiError> {
    Ok(store.watch(Watch::prefix(prefix.to_owned()))?)
}

/// The keys of definitions.
fn prefix() -> Result<String, ApiError> {
    let row = carrack_api::find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        .ok_or_else(|| ApiError::internal("the table has no CustomResourceDefinition"))?;
    Ok(row.list_prefix(""))
}

/// Decides anew after each change, and again after a while where something is left to do.
async fn follow(
    mut definitions: Definitions,
    store: Store,
    mut watcher: Watcher,
    prefix: String,
    mut again: bool,
    end: CancellationToken,
) {
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            change = watcher.next() => match change {
                Some(Ok(_)) => while watcher.next().now_or_never().flatten().is_some() {},
                Some(Err(error)) => {
                    // What was missed is in the state that is read next.
                    tracing::warn!(%error, "missed changes of definitions");
                    match watch(&store, &prefix) {
                        Ok(new) => watcher = new,
                        Err(_) => return,
                    }
                }
                None => return,
            },
            () = tokio::time::sleep(AGAIN_AFTER), if again => {}
        }
        again = match definitions.sync(&prefix).await {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!(message = %error.message, "cannot bring custom resources up to date");
                true
            }
        };
    }
}

impl Definitions {
    /// Reads all definitions, serves what is to be served and writes what was decided; true when something is left.
    async fn sync(&mut self, prefix: &str) -> Result<bool, ApiError> {
        let Some(inner) = self.server.upgrade() else { return Ok(false) };
        let revision = self.read(&inner, prefix).await?;
        let now = Timestamp::now();
        let written: Vec<String> = self.decide(now);
        self.serve(&inner);
        inner.kinds.set_synced(revision);
        let server = ApiServer { inner };
        let mut left = false;
        for name in written {
            if let Some(known) = self.known.get_mut(&name) {
                left |= !store_status(&server, &name, &known.definition).await;
                // What is stored now is read back at the next change.
                known.revision = 0;
            }
        }
        for (name, known) in &self.known {
            if meta::is_deleting(&known.definition) {
                left |= !cleanup::step(&server, name, &known.definition, &known.rows).await?;
            }
        }
        Ok(left)
    }

    /// Serves the rows of all definitions.
    fn serve(&self, inner: &Inner) {
        let rows = self.known.values().flat_map(|known| known.rows.iter().cloned()).collect();
        let leaving = self.known.values().filter(|known| meta::is_deleting(&known.definition));
        let leaving = leaving.filter_map(|known| known.rows.first()).map(|row| row.storage_prefix).collect();
        inner.kinds.set_custom(rows, leaving);
    }

    /// Takes the definitions from the store; those that did not change are kept as they are.
    /// Gives the revision of what was read.
    async fn read(&mut self, inner: &Inner, prefix: &str) -> Result<Revision, ApiError> {
        let found = inner.registry.range(Range::prefix(prefix.to_owned())).await?;
        let mut known = BTreeMap::new();
        for kv in found.kvs {
            let name = String::from_utf8_lossy(&kv.key).trim_start_matches(prefix).to_owned();
            let state = match self.known.remove(&name) {
                Some(old) if old.revision == kv.mod_revision => old,
                old => {
                    let definition = match Stored::from(&*kv).object() {
                        Ok(definition) => definition,
                        Err(error) => {
                            tracing::error!(definition = %name, message = %error.message, "cannot be read");
                            continue;
                        }
                    };
                    let rows = rows_of(&definition, old);
                    Known { revision: kv.mod_revision, definition, rows }
                }
            };
            known.insert(name, state);
        }
        self.known = known;
        Ok(found.revision)
    }

    /// Decides about the names of each definition, one after the other; answers whose status changed.
    fn decide(&mut self, now: Timestamp) -> Vec<String> {
        let open = self.known.iter().filter(|(_, known)| !plan::is_settled(&known.definition));
        let names: Vec<String> = open.map(|(name, _)| name.clone()).collect();
        let mut changed = Vec::new();
        for name in names {
            let others = self.known.iter().filter(|(other, _)| **other != name);
            let taken = plan::taken(others.map(|(_, known)| &known.definition));
            let Some(known) = self.known.get_mut(&name) else { continue };
            if let Some(decided) = plan::decide(&known.definition, &taken, now) {
                if !custom::same_rows(&known.definition, &decided) {
                    known.rows = rows_of(&decided, None);
                }
                known.definition = decided;
                changed.push(name);
            }
        }
        changed
    }
}

/// The rows of a definition that is served; none of others. Those of `old` stay where nothing of them changed: watches
/// go on by them.
fn rows_of(definition: &Value, old: Option<Known>) -> Vec<Arc<Resource>> {
    if let Some(old) = old.filter(|old| custom::same_rows(&old.definition, definition)) {
        return old.rows;
    }
    if !custom::is_served(definition) {
        return Vec::new();
    }
    match custom::rows(definition) {
        Ok(rows) => rows.into_iter().map(Arc::new).collect(),
        Err(error) => {
            let name = meta::name(definition);
            tracing::error!(%error, definition = name, "a stored definition cannot be served; correct its schema");
            Vec::new()
        }
    }
}

/// Writes the status that was decided; false when it has to be decided anew.
async fn store_status(server: &ApiServer, name: &str, definition: &Value) -> bool {
    let path = format!("{COLLECTION}/{name}/status");
    let (code, answer) = server.request(Method::PUT, &path, Some(definition)).await;
    if code >= 400 && code != 409 && code != 404 {
        tracing::warn!(definition = name, message = %answer["message"], "cannot write the status of a definition");
    }
    code < 400
}
