//! CustomResourceDefinitions at work: which of them are served, and what their status says.
//!
//! One task follows the definitions in the store. After each change it decides about names ([`plan`]), serves the
//! accepted ones, and only then says so in the status, so that who waits for `Established` finds the resource. Every
//! server of a cluster does this by itself; they come to the same end, and a lost race is run again.
//!
//! What is written for definitions ([`todo`]) goes on beside that, so that the deletion of a large collection keeps no
//! change from being served: who wrote it waits for that ([`written`]).

mod cleanup;
mod late;
mod plan;
pub(crate) mod rules;
mod todo;
mod written;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use carrack_api::{Resource, custom, meta};
use carrack_store::{Range, Revision, Store, Watch, Watcher};
use futures::FutureExt;
use futures::future::{BoxFuture, Fuse, FusedFuture};
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub(crate) use late::find;
use todo::{Done, Todo};
pub(crate) use written::served;

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
    /// The store has yet to learn what was decided.
    unsaved: bool,
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
    definitions.sync(&prefix).await?;
    tokio::spawn(follow(definitions, store, watcher, prefix, end));
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

/// Decides and serves anew after each change, and has written what that comes to, one lot after the other.
async fn follow(
    mut definitions: Definitions,
    store: Store,
    mut watcher: Watcher,
    prefix: String,
    end: CancellationToken,
) {
    let mut writing: Fuse<BoxFuture<'static, Done>> = Fuse::terminated();
    // Something may have to be written; something has to be looked at again after a while.
    let (mut due, mut again) = (true, false);
    loop {
        if due && writing.is_terminated() {
            due = false;
            writing = definitions.work().map_or_else(Fuse::terminated, FutureExt::fuse);
        }
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
            done = &mut writing => {
                again |= definitions.note(done);
                continue;
            }
            () = tokio::time::sleep(AGAIN_AFTER), if again && writing.is_terminated() => again = false,
        }
        due = true;
        if let Err(error) = definitions.sync(&prefix).await {
            tracing::warn!(message = %error.message, "cannot bring custom resources up to date");
            again = true;
        }
    }
}

impl Definitions {
    /// Reads all definitions, decides about them and serves what is to be served.
    async fn sync(&mut self, prefix: &str) -> Result<(), ApiError> {
        let Some(inner) = self.server.upgrade() else { return Ok(()) };
        let revision = self.read(&inner, prefix).await?;
        self.decide(Timestamp::now());
        self.serve(&inner);
        inner.kinds.set_synced(revision);
        Ok(())
    }

    /// What is to be written now; `None` when nothing is.
    fn work(&mut self) -> Option<BoxFuture<'static, Done>> {
        let server = self.server.upgrade()?;
        let mut todo = Todo::default();
        for (name, known) in &mut self.known {
            if std::mem::take(&mut known.unsaved) {
                todo.statuses.push((name.clone(), known.definition.clone()));
            }
            if meta::is_deleting(&known.definition) {
                todo.ends.push((name.clone(), known.definition.clone(), known.rows.clone()));
            }
        }
        (!todo.is_empty()).then(|| todo.write(ApiServer { inner: server }).boxed())
    }

    /// Takes note of what was written; true when something is left for later.
    fn note(&mut self, done: Done) -> bool {
        for name in done.statuses {
            if let Some(known) = self.known.get_mut(&name) {
                // What is stored now is read back at the next change.
                known.revision = 0;
            }
        }
        done.left
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
                    Known { revision: kv.mod_revision, definition, rows, unsaved: false }
                }
            };
            known.insert(name, state);
        }
        self.known = known;
        Ok(found.revision)
    }

    /// Decides about the names of each definition, one after the other.
    fn decide(&mut self, now: Timestamp) {
        let open = self.known.iter().filter(|(_, known)| !plan::is_settled(&known.definition));
        let names: Vec<String> = open.map(|(name, _)| name.clone()).collect();
        for name in names {
            let others = self.known.iter().filter(|(other, _)| **other != name);
            let taken = plan::taken(others.map(|(_, known)| &known.definition));
            let Some(known) = self.known.get_mut(&name) else { continue };
            if let Some(decided) = plan::decide(&known.definition, &taken, now) {
                if !custom::same_rows(&known.definition, &decided) {
                    known.rows = rows_of(&decided, None);
                }
                known.definition = decided;
                known.unsaved = true;
            }
        }
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
