//! Backups of the store: when they are made, how long they are kept, and where they go.
//!
//! A [`Keeper`] writes a snapshot to each of its [`Target`]s when one is due by its [`Tier`]s, then deletes those that no
//! tier needs any more. What a snapshot contains is the store's business: the keeper is given a function that writes one
//! to a file, whole and checked, and says its revision.

mod keeper;
mod name;
mod retention;
mod s3;
mod target;

pub use keeper::{Keeper, Made, Taken};
pub use name::Backup;
pub use retention::{DEFAULT_TIERS, Tier, due_in, expired};
pub use s3::{S3, S3Error, credentials_from_env};
pub use target::{Directory, Target, TargetError};
