//! What the parts of the control plane share when they talk to the API: a cache per kind kept by a watch
//! ([`Informer`], [`Store`]), partial views of kinds ([`view_of`]), a bounded recorder of Events ([`Recorder`]) and
//! leader election by Lease ([`Elector`]).
//!
//! Nothing here knows a controller or the scheduler; nothing here keeps state beyond the process.

mod backoff;
mod informer;
mod key;
mod leader;
mod nullable;
mod recorder;
mod store;
mod view;

pub use backoff::Backoff;
pub use informer::{Cached, Informer};
pub use key::Key;
pub use leader::{ElectError, Elector, Lost, Timings};
pub use nullable::nullable;
pub use recorder::{Note, NoteKind, Recorder};
pub use store::{Change, Indexer, Progress, Store, Synced, WaitError, revision_of};
