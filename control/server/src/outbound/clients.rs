//! The pools of connections: one for each target, a bounded number of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;

use super::dial::Dialer;
use super::target::{Place, Target};
use super::trust::Trust;
use crate::RequestBody;

/// Targets whose connections are kept; beyond that, those of the one that was not used for longest go.
const TARGETS: usize = 256;
/// Idle connections of a target that speaks HTTP/1.1; HTTP/2 needs one.
const IDLE: usize = 16;
/// How long a connection may be idle; upstream's figure.
const IDLE_TIME: Duration = Duration::from_secs(90);
/// An HTTP/2 connection is asked after so long without a sign of life; upstream's figures.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Sends requests over kept connections.
pub(super) type Pool = Client<HttpsConnector<Dialer>, RequestBody>;

/// The pools.
#[derive(Default)]
pub(super) struct Clients(Mutex<Vec<Entry>>);

struct Entry {
    place: Place,
    trust: Arc<Trust>,
    pool: Pool,
    used: Instant,
}

impl Clients {
    /// The pool of a target, made with `dialer` when there is none.
    pub(super) fn of(&self, target: &Target, dialer: Dialer) -> Result<Pool, rustls::Error> {
        let mut entries = self.0.lock();
        let found =
            entries.iter_mut().find(|e| same_place(&e.place, &target.place) && e.trust.same(&target.trust));
        if let Some(entry) = found {
            entry.used = Instant::now();
            return Ok(entry.pool.clone());
        }
        let pool = pool(&target.trust, dialer)?;
        if entries.len() >= TARGETS
            && let Some(oldest) = (0..entries.len()).min_by_key(|at| entries[*at].used)
        {
            entries.swap_remove(oldest);
        }
        entries.push(Entry {
            place: target.place.clone(),
            trust: Arc::clone(&target.trust),
            pool: pool.clone(),
            used: Instant::now(),
        });
        Ok(pool)
    }
}

/// Paths of one Service's port share connections; a pool tells hosts of URLs apart by itself.
fn same_place(one: &Place, two: &Place) -> bool {
    match (one, two) {
        (Place::Url(_), Place::Url(_)) => true,
        (
            Place::Service { namespace, name, port, .. },
            Place::Service { namespace: namespace2, name: name2, port: port2, .. },
        ) => (namespace, name, port) == (namespace2, name2, port2),
        _ => false,
    }
}

fn pool(trust: &Trust, dialer: Dialer) -> Result<Pool, rustls::Error> {
    // Whether a URL may do without TLS is for who takes it in.
    let builder = HttpsConnectorBuilder::new().with_tls_config(trust.config()?).https_or_http();
    let builder = match trust.name() {
        Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone())),
        None => builder,
    };
    let connector = match trust.is_http1() {
        true => builder.enable_http1().wrap_connector(dialer),
        false => builder.enable_all_versions().wrap_connector(dialer),
    };
    Ok(Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(IDLE)
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector))
}
