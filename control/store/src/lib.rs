//! The replicated store: Raft, revisions, watch and leases.
//!
//! A [`Store`] keeps keys and values the way etcd does: one global [`Revision`] that grows by one with each
//! transaction that changes anything, older revisions readable until they are compacted away, watches that resume
//! from any kept revision, and leases that take their keys along when they run out.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use carrack_store::{Options, Op, Range, Store, Txn};
//! let store = Store::open(Options::new("/var/lib/carrack/store")).await?;
//! let done = store.txn(Txn::put("/registry/pods/default/web", "{}")).await?;
//! let page = store.range(Range::prefix("/registry/pods/")).await?;
//! assert_eq!(page.kvs[0].mod_revision, done.revision);
//! # Ok(()) }
//! ```
//!
//! What is durable where:
//!
//! * [`log`]: the Raft log. An entry is acknowledged only after the `fdatasync` of its group.
//! * [`backend`]: the history of all keys in redb, brought up to date by checkpoints. It may lag behind the log,
//!   which replays; the log is purged only up to what a checkpoint made durable.
//! * [`mvcc`]: everything a read or a watch usually needs, in memory, rebuilt from the two at start.
//!
//! Raft itself is in [`raft`] and nothing outside of it names an openraft type.

mod alarm;
mod arrange;
mod backend;
mod blocking;
mod check;
mod checkpoint;
mod cluster;
mod codec;
mod command;
mod corrupt;
mod defragment;
pub mod disk;
mod error;
pub mod etcd;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod identity;
mod image;
mod install;
mod join;
mod kv;
mod lease;
mod log;
mod members;
mod metrics;
mod mvcc;
mod open;
mod options;
pub mod peer;
mod raft;
mod random;
mod seal;
mod shared;
pub mod snapshot;
mod space;
mod store;
mod txn;
mod upkeep;
mod verify;
mod view;
mod watch;

pub use alarm::{Alarm, AlarmKind};
pub use arrange::{Limits, Sort, SortBy};
pub use blocking::{Blocking, RaftRuntime};
pub use cluster::{InitialClusterState, InitialMember, Member, MemberChange, MemberError};
pub use error::{OpenError, ReadError, Shortage, Unreadable, WatchError, WriteError};
pub use kv::{KeyRange, KeyValue, Lease, LeaseId, Revision};
pub use metrics::{Latency, Status};
pub use mvcc::Tally;
pub use options::{MAX_LEASE_TTL_SECONDS, Options};
pub use peer::grpc::PeerTls;
pub use random::Random;
pub use seal::Seal;
pub use store::Store;
pub use txn::{
    Compare, CompareOp, CompareTarget, Op, OpResponse, Put, Range, RangeResponse, Txn, TxnResponse,
};
pub use upkeep::{Hash, UpkeepError};
pub use watch::{Event, EventKind, Watch, WatchBatch, Watcher};
