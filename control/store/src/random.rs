//! The seam to randomness: member and lease names, the log's salts and Raft's election timeouts all come from one
//! [`Random`], so that a simulation that gives a seed gets the same run again.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// A source of random numbers; clones draw from the same one.
#[derive(Clone)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// One that nobody can predict.
    pub fn from_system() -> Random {
        Random(Arc::new(Mutex::new(StdRng::from_rng(&mut rand::rng()))))
    }

    /// One that gives the same numbers for the same seed.
    pub fn seeded(seed: u64) -> Random {
        Random(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Any number.
    pub(crate) fn number(&self) -> u64 {
        self.0.lock().next_u64()
    }

    /// A name for a cluster or a member: never 0.
    pub(crate) fn id(&self) -> u64 {
        self.0.lock().random_range(1..=u64::MAX)
    }

    /// A name for a lease: positive.
    pub(crate) fn lease_id(&self) -> i64 {
        self.0.lock().random_range(1..=i64::MAX)
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

/// As openraft draws numbers.
impl rand_core::TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.lock().next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.lock().next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.lock().fill_bytes(bytes);
        Ok(())
    }
}
