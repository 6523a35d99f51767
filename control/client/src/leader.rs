//! Leader election by a Lease (coordination.k8s.io/v1), as client-go does it: who holds it renews it; who wants it
//! waits until the record has not changed for its whole duration, by the local clock alone, so that hosts' clocks
//! need not agree.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use thiserror::Error;
use tokio::time::Instant;

use crate::Backoff;

/// The three times of an election.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// How long a record holds without being renewed.
    pub lease: Duration,
    /// How long the holder tries to renew before it gives up; shorter than `lease`.
    pub renew: Duration,
    /// The pause between two tries.
    pub retry: Duration,
}

impl Default for Timings {
    /// 15 s, 10 s and 2 s, as Kubernetes' own components.
    fn default() -> Self {
        Self { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// Why one try to read or write the Lease did not work.
#[derive(Debug, Error)]
#[error("could not {action} Lease {namespace}/{name}: {source}")]
pub struct ElectError {
    action: &'static str,
    namespace: String,
    name: String,
    source: kube::Error,
}

/// Leadership ended: somebody else holds the Lease, or it could not be renewed in time.
#[derive(Debug, Error)]
pub enum Lost {
    /// Another holder wrote its name into the Lease.
    #[error("Lease {lease} is now held by {holder}")]
    Taken {
        /// Namespace and name of the Lease.
        lease: String,
        /// Who holds it.
        holder: String,
    },
    /// No renewal succeeded within the renew time.
    #[error("Lease {lease} could not be renewed within {limit:?}")]
    Late {
        /// Namespace and name of the Lease.
        lease: String,
        /// The renew time.
        limit: Duration,
    },
}

/// A candidate for one Lease.
pub struct Elector {
    api: Api<Lease>,
    namespace: String,
    name: String,
    identity: String,
    timings: Timings,
}

/// What a candidate remembers of the record that it saw last.
struct Observed {
    /// Holder and renew time as written; any change counts as a sign of life.
    record: (Option<String>, Option<MicroTime>),
    since: Instant,
}

enum Turn {
    Held(Box<Lease>),
    HeldByOther(String),
}

impl Elector {
    /// A candidate called `identity` for the Lease `namespace`/`name`.
    ///
    /// A candidate that finds its own identity in the Lease takes it at once. So an identity must name one process
    /// at a time; where it outlives the process (one control plane per data directory, say) a restart after a
    /// crash does not wait for the old lease to run out.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, timings: Timings) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            timings,
        }
    }

    /// Waits until this candidate holds the Lease: one write when nobody else does.
    pub async fn acquire(&self) -> Lease {
        let mut observed = None;
        let mut backoff = Backoff::new(Duration::from_millis(5), self.timings.retry);
        let mut told = false;
        loop {
            match self.turn(&mut observed).await {
                Ok(Turn::Held(lease)) => return *lease,
                Ok(Turn::HeldByOther(holder)) => {
                    if !told {
                        tracing::info!(lease = %self.name, %holder, "waiting for leadership");
                        told = true;
                    }
                    tokio::time::sleep(self.timings.retry).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "election not possible yet");
                    tokio::time::sleep(backoff.delay()).await;
                }
            }
        }
    }

    /// Renews `lease` until leadership is lost, and says how that came.
    pub async fn hold(&self, mut lease: Lease) -> Lost {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.timings.retry).await;
            let limit = renewed + self.timings.renew;
            match tokio::time::timeout_at(limit, self.renew(lease.clone())).await {
                Ok(Ok(newer)) => {
                    lease = newer;
                    renewed = Instant::now();
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "lease not renewed, trying again");
                    if let Ok(current) = self.api.get(&self.name).await {
                        if let Some(holder) = holder(&current).filter(|h| *h != self.identity) {
                            return Lost::Taken { lease: self.label(), holder: holder.to_owned() };
                        }
                        lease = current;
                    }
                }
                Err(_) => {}
            }
            if Instant::now() >= renewed + self.timings.renew {
                return Lost::Late { lease: self.label(), limit: self.timings.renew };
            }
        }
    }

    /// Gives the Lease back, so that the next candidate need not wait. Best effort: it would run out anyway.
    pub async fn release(&self) {
        let Ok(mut lease) = self.api.get(&self.name).await else { return };
        if holder(&lease) != Some(&self.identity) {
            return;
        }
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::debug!(%error, lease = %self.name, "lease not released");
        }
    }

    async fn turn(&self, observed: &mut Option<Observed>) -> Result<Turn, ElectError> {
        let found = self.api.get_opt(&self.name).await.map_err(|e| self.error("read", e))?;
        let Some(current) = found else {
            let created = self.api.create(&PostParams::default(), &self.fresh()).await;
            return created.map(|l| Turn::Held(Box::new(l))).map_err(|e| self.error("create", e));
        };
        if let Some(holder) = holder(&current).filter(|h| *h != self.identity) {
            let holder = holder.to_owned();
            if !self.expired(&current, observed) {
                return Ok(Turn::HeldByOther(holder));
            }
            tracing::info!(lease = %self.name, %holder, "the previous leader has gone silent");
        }
        let taken = self.api.replace(&self.name, &PostParams::default(), &self.taken(current)).await;
        taken.map(|l| Turn::Held(Box::new(l))).map_err(|e| self.error("take", e))
    }

    /// Whether the record has stayed the same for as long as it promises to hold.
    fn expired(&self, current: &Lease, observed: &mut Option<Observed>) -> bool {
        let spec = current.spec.as_ref();
        let record = (spec.and_then(|s| s.holder_identity.clone()), spec.and_then(|s| s.renew_time.clone()));
        let promised = spec.and_then(|s| s.lease_duration_seconds).and_then(|s| u64::try_from(s).ok());
        let duration = promised.map_or(self.timings.lease, Duration::from_secs);
        match observed {
            Some(seen) if seen.record == record => seen.since.elapsed() >= duration,
            _ => {
                *observed = Some(Observed { record, since: Instant::now() });
                false
            }
        }
    }

    async fn renew(&self, mut lease: Lease) -> Result<Lease, ElectError> {
        lease.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
        let renewed = self.api.replace(&self.name, &PostParams::default(), &lease).await;
        renewed.map_err(|e| self.error("renew", e))
    }

    fn fresh(&self) -> Lease {
        let now = MicroTime(Timestamp::now());
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(self.seconds()),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }

    fn taken(&self, mut lease: Lease) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = Some(self.seconds());
        spec.renew_time = Some(now);
        lease
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.timings.lease.as_secs()).unwrap_or(i32::MAX).max(1)
    }

    fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn error(&self, action: &'static str, source: kube::Error) -> ElectError {
        ElectError { action, namespace: self.namespace.clone(), name: self.name.clone(), source }
    }
}

/// The holder's identity, `None` when the Lease is free.
fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|h| !h.is_empty())
}

#[cfg(test)]
#[path = "leader_tests.rs"]
mod tests;
