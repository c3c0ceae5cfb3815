//! The client itself, and how it is made.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hedgerow_wire::limits::{CLIENT_NAME_LEN_MAX, CREDENTIALS_LEN_MAX};
use hedgerow_wire::messages::{
    FaultAnswer, FaultRequest, StatAnswer, StatsAnswer, VerifyAnswer, VerifyRequest,
};
use hedgerow_wire::{Namespace, Version};

use crate::address::Addresses;
use crate::body::Body;
use crate::connection::Identity;
use crate::error::{Error, Result};
use crate::limits::{
    CONNECTIONS_DEFAULT, CONNECTIONS_MAX, DEADLINE_DEFAULT, IN_FLIGHT_MAX_DEFAULT, KEEPALIVE_DEFAULT,
};
use crate::object::{Object, ObjectStream};
use crate::pool::{Config, DaemonStatus, Pool};
use crate::request::{Request, Stored};

/// A client of one or several daemons. Cheap to clone; clones share connections. All requests may be
/// made at once from any number of tasks.
///
/// Its verbs use the client's defaults; [`Client::request`] begins one with options of its own.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    defaults: Request,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("defaults", &self.defaults).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to one or several daemons with everything else at its default. Returns as soon as one
    /// connection is up; the others follow, and all are kept up until the last clone is dropped.
    ///
    /// # Errors
    /// No daemon can be reached, or none takes this client.
    pub async fn connect(addresses: impl Into<Addresses>) -> Result<Client> {
        Client::builder().connect(addresses).await
    }

    /// Begins a client with settings of its own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Begins a request, or a kind of request, with options of its own.
    pub fn request(&self) -> Request {
        self.defaults.clone()
    }

    /// The daemons, and how the connections to them stand.
    pub fn daemons(&self) -> Vec<DaemonStatus> {
        self.pool.status()
    }

    /// See [`Request::put`].
    pub async fn put(&self, key: impl AsRef<[u8]>, bytes: impl Into<Bytes>) -> Result<Stored> {
        self.defaults.put(key, bytes).await
    }

    /// See [`Request::put_stream`].
    pub async fn put_stream(&self, key: impl AsRef<[u8]>, body: Body<'_>) -> Result<Stored> {
        self.defaults.put_stream(key, body).await
    }

    /// See [`Request::get`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Object>> {
        self.defaults.get(key).await
    }

    /// See [`Request::get_range`].
    pub async fn get_range(
        &self,
        key: impl AsRef<[u8]>,
        range: impl RangeBounds<u64>,
    ) -> Result<Option<Object>> {
        self.defaults.get_range(key, range).await
    }

    /// See [`Request::get_stream`].
    pub async fn get_stream(&self, key: impl AsRef<[u8]>) -> Result<Option<ObjectStream>> {
        self.defaults.get_stream(key).await
    }

    /// See [`Request::delete`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Version> {
        self.defaults.delete(key).await
    }

    /// See [`Request::stat`].
    pub async fn stat(&self, key: impl AsRef<[u8]>) -> Result<Option<StatAnswer>> {
        self.defaults.stat(key).await
    }

    /// See [`Request::ping`].
    pub async fn ping(&self) -> Result<Duration> {
        self.defaults.ping().await
    }

    /// See [`Request::stats`].
    pub async fn stats(&self) -> Result<StatsAnswer> {
        self.defaults.stats().await
    }

    /// See [`Request::fault`].
    pub async fn fault(&self, request: &FaultRequest) -> Result<FaultAnswer> {
        self.defaults.fault(request).await
    }

    /// See [`Request::verify`].
    pub async fn verify(&self, request: &VerifyRequest) -> Result<VerifyAnswer> {
        self.defaults.verify(request).await
    }
}

/// Settings of a client that is about to be made.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    name: String,
    credentials: Vec<u8>,
    namespace: Namespace,
    deadline: Duration,
    connections_per_daemon: usize,
    in_flight_max: usize,
    keepalive: Duration,
    fail_fast: bool,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            name: concat!("hedgerow-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            credentials: Vec::new(),
            namespace: Namespace(0),
            deadline: DEADLINE_DEFAULT,
            connections_per_daemon: CONNECTIONS_DEFAULT,
            in_flight_max: IN_FLIGHT_MAX_DEFAULT,
            keepalive: KEEPALIVE_DEFAULT,
            fail_fast: false,
        }
    }
}

impl Builder {
    /// What the daemon's logs and statistics call this client (at most [`CLIENT_NAME_LEN_MAX`] bytes).
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = name.into();
        self
    }

    /// What the daemon is shown to take this client in (at most [`CREDENTIALS_LEN_MAX`] bytes).
    pub fn credentials(mut self, credentials: impl Into<Vec<u8>>) -> Builder {
        self.credentials = credentials.into();
        self
    }

    /// The namespace of requests that name none. Default: 0.
    pub fn namespace(mut self, namespace: Namespace) -> Builder {
        self.namespace = namespace;
        self
    }

    /// The deadline of requests that name none. Default: [`DEADLINE_DEFAULT`].
    pub fn deadline(mut self, deadline: Duration) -> Builder {
        self.deadline = deadline;
        self
    }

    /// Connections to each daemon, 1 to [`CONNECTIONS_MAX`]. One serves many requests at once; more
    /// of them use more cores on both sides. Default: [`CONNECTIONS_DEFAULT`].
    pub fn connections_per_daemon(mut self, connections: usize) -> Builder {
        self.connections_per_daemon = connections;
        self
    }

    /// Requests that may be under way at once; one more is [`Error::Overloaded`] at once. Default:
    /// [`IN_FLIGHT_MAX_DEFAULT`].
    pub fn max_in_flight(mut self, requests: usize) -> Builder {
        self.in_flight_max = requests;
        self
    }

    /// Silence after which a connection is probed; after as much again it is given up for a new one.
    /// Default: [`KEEPALIVE_DEFAULT`].
    pub fn keepalive(mut self, interval: Duration) -> Builder {
        self.keepalive = interval;
        self
    }

    /// Whether requests fail at once with [`Error::Connect`] while no daemon can be reached. Else
    /// they wait for a connection until their deadline. Default: they wait.
    pub fn fail_fast(mut self, fail_fast: bool) -> Builder {
        self.fail_fast = fail_fast;
        self
    }

    /// Makes the client, and waits for its first connection. See [`Client::connect`].
    ///
    /// # Errors
    /// A setting is wrong; no daemon can be reached, or none takes this client.
    pub async fn connect(self, addresses: impl Into<Addresses>) -> Result<Client> {
        let client = self.connect_lazily(addresses)?;
        client.pool.first_connection().await?;
        Ok(client)
    }

    /// Makes the client without waiting for a connection: for services that start while their cache
    /// is away.
    ///
    /// # Errors
    /// A setting is wrong.
    ///
    /// # Panics
    /// Outside of a tokio runtime: the connections live on the one that it is called on.
    pub fn connect_lazily(self, addresses: impl Into<Addresses>) -> Result<Client> {
        let addresses = addresses.into().0;
        self.check(addresses.len())?;
        let config = Config {
            identity: Identity { name: self.name, credentials: self.credentials },
            connections_per_daemon: self.connections_per_daemon,
            in_flight_max: self.in_flight_max,
            keepalive: self.keepalive,
            fail_fast: self.fail_fast,
        };
        let pool = Pool::start(addresses, config);
        let defaults = Request::new(pool.clone(), self.namespace, self.deadline);
        Ok(Client { pool, defaults })
    }

    fn check(&self, addresses: usize) -> Result<()> {
        let within = |what: &str, value: usize, min: usize, max: usize| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(Error::BadRequest { message: format!("{what}: {value}, must be {min} to {max}") })
        };
        within("addresses", addresses, 1, usize::MAX)?;
        within("connections_per_daemon", self.connections_per_daemon, 1, CONNECTIONS_MAX)?;
        within("max_in_flight", self.in_flight_max, 1, usize::MAX)?;
        within("keepalive in milliseconds", self.keepalive.as_millis() as usize, 1, usize::MAX)?;
        within("bytes of the name", self.name.len(), 0, CLIENT_NAME_LEN_MAX)?;
        within("bytes of the credentials", self.credentials.len(), 0, CREDENTIALS_LEN_MAX)
    }
}
