//! The connections of a client: which one a request takes, and what keeps them up.
//!
//! A key's requests go to the same daemon as long as it is up (rendezvous hashing: Thaler,
//! Ravishankar, Using name-based mappings to increase hit rates, 1998), so that few daemons hold it
//! in memory; to the next in its order while it is not.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hedgerow_wire::KeyHash;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::address::Address;
use crate::backoff::Backoff;
use crate::clock;
use crate::connection::{Connection, Identity, Place, connect};
use crate::error::{Error, Result};
use crate::limits::BACKOFF_MAX;

/// What all connections of a client have in common.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub identity: Identity,
    pub connections_per_daemon: usize,
    pub in_flight_max: usize,
    pub keepalive: Duration,
    pub fail_fast: bool,
}

/// See the module.
pub(crate) struct Pool {
    daemons: Vec<Daemon>,
    /// Changes whenever a connection comes, goes or cannot be made.
    changed: watch::Sender<()>,
    in_flight: AtomicUsize,
    config: Config,
    tasks: Vec<AbortHandle>,
}

struct Daemon {
    address: Address,
    hash: u64,
    links: Vec<Arc<Link>>,
}

/// A connection that comes back.
#[derive(Default)]
struct Link {
    now: Mutex<LinkNow>,
}

#[derive(Clone, Default)]
struct LinkNow {
    connection: Option<Arc<Connection>>,
    /// Of the last attempt, if it failed.
    error: Option<Error>,
}

/// A daemon of the client, as it is now.
#[derive(Clone, Debug)]
pub struct DaemonStatus {
    /// Where it listens.
    pub address: Address,
    /// Connections that are up.
    pub connections: usize,
    /// What it said when it was connected to; nothing while it is not.
    pub hello: Option<hedgerow_wire::messages::HelloAnswer>,
    /// Why the last attempt to connect failed; nothing if it did not.
    pub error: Option<Error>,
}

/// One of the client's requests under way.
pub(crate) struct Permit(Arc<Pool>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Pool {
    /// Starts to connect. Must be called within a tokio runtime, which then runs the connections.
    pub(crate) fn start(mut addresses: Vec<Address>, config: Config) -> Arc<Pool> {
        addresses.sort();
        addresses.dedup();
        let changed = watch::Sender::new(());
        let mut tasks = Vec::new();
        let mut daemons = Vec::new();
        for address in addresses {
            let links: Vec<_> =
                (0..config.connections_per_daemon).map(|_| Arc::new(Link::default())).collect();
            for link in &links {
                let task = keep_up(link.clone(), address.clone(), config.clone(), changed.clone());
                tasks.push(tokio::spawn(task).abort_handle());
            }
            daemons.push(Daemon { hash: hash_of(&address), address, links });
        }
        Arc::new(Pool { daemons, changed, in_flight: AtomicUsize::new(0), config, tasks })
    }

    /// Waits for the first connection; an error once every attempt has failed.
    pub(crate) async fn first_connection(&self) -> Result<()> {
        let mut changed = self.changed.subscribe();
        loop {
            if self.pick(None).is_some() {
                return Ok(());
            }
            if let Some(error) = self.all_failed() {
                return Err(error);
            }
            self.wait(&mut changed).await;
        }
    }

    /// A place on a connection for a request. Waits while there is none.
    pub(crate) async fn place(&self, hash: Option<KeyHash>) -> Result<Place> {
        let mut changed = None;
        loop {
            if let Some(connection) = self.pick(hash)
                && let Some(place) = connection.place().await
            {
                return Ok(place);
            }
            let Some(changed) = &mut changed else {
                // Looks again: what changed before is not told.
                changed = Some(self.changed.subscribe());
                continue;
            };
            if self.config.fail_fast
                && let Some(error) = self.all_failed()
            {
                return Err(error);
            }
            self.wait(changed).await;
        }
    }

    /// Counts a request in, if there is room.
    pub(crate) fn permit(self: &Arc<Self>) -> Result<Permit> {
        let limit = self.config.in_flight_max;
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(self.clone());
        if before >= limit { Err(Error::Overloaded { client_limit: Some(limit) }) } else { Ok(permit) }
    }

    /// The error of an attempt to connect, if there is one.
    pub(crate) fn connect_error(&self) -> Option<Error> {
        self.links().find_map(|link| link.now().error)
    }

    pub(crate) fn status(&self) -> Vec<DaemonStatus> {
        let status = |daemon: &Daemon| {
            let now: Vec<_> = daemon.links.iter().map(|link| link.now()).collect();
            let up: Vec<_> = now.iter().filter_map(|now| now.connection.as_ref()).collect();
            DaemonStatus {
                address: daemon.address.clone(),
                connections: up.len(),
                hello: up.first().map(|connection| connection.hello.clone()),
                error: now.iter().find_map(|now| now.error.clone()),
            }
        };
        self.daemons.iter().map(status).collect()
    }

    /// The best connection for `hash` among those that are up.
    fn pick(&self, hash: Option<KeyHash>) -> Option<Arc<Connection>> {
        let score =
            |daemon: &Daemon| hash.map_or(0, |hash| mix(daemon.hash ^ hash.0 as u64 ^ (hash.0 >> 64) as u64));
        self.daemons
            .iter()
            .filter_map(|daemon| Some((daemon.least_loaded()?, daemon)))
            .max_by_key(|(connection, daemon)| (!connection.is_draining(), score(daemon)))
            .map(|(connection, _)| connection)
    }

    /// An error if no connection is up and the last attempt of each has failed.
    fn all_failed(&self) -> Option<Error> {
        let mut error = None;
        for link in self.links() {
            error = Some(link.now().error?);
        }
        error
    }

    fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.daemons.iter().flat_map(|daemon| &daemon.links)
    }

    async fn wait(&self, changed: &mut watch::Receiver<()>) {
        // The sender lives in `self`, so there is no error to see.
        drop(changed.changed().await);
    }
}

impl Daemon {
    fn least_loaded(&self) -> Option<Arc<Connection>> {
        let loaded = |link: &Arc<Link>| {
            let connection = link.now().connection?;
            connection.load().map(|load| (load, connection))
        };
        self.links.iter().filter_map(loaded).min_by_key(|(load, _)| *load).map(|(_, connection)| connection)
    }
}

impl Link {
    fn now(&self) -> LinkNow {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, connection: Option<Arc<Connection>>, error: Option<Error>) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = LinkNow { connection, error };
    }
}

/// Connects, serves the connection to its end, and again, for ever.
async fn keep_up(link: Arc<Link>, address: Address, config: Config, changed: watch::Sender<()>) {
    let mut backoff = Backoff::new();
    loop {
        match connect(&address, &config.identity).await {
            Ok(connected) => {
                link.set(Some(connected.connection.clone()), None);
                changed.send_replace(());
                let since = clock::now();
                connected.run(config.keepalive).await;
                link.set(None, None);
                // One that held is tried again at once; a daemon that lets every connection fall is
                // left alone for longer and longer.
                if clock::now() - since > BACKOFF_MAX {
                    backoff.reset();
                    continue;
                }
            }
            Err(error) => {
                link.set(None, Some(error));
                changed.send_replace(());
            }
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

fn hash_of(address: &Address) -> u64 {
    // The same in every process, so that all clients of a fleet agree on the order.
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    address.to_string().hash(&mut hasher);
    mix(hasher.0)
}

/// FNV-1a, 64 bits.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The finaliser of MurmurHash3.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}
