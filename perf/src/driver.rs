//! Protocols of the load generator. A driver turns requests into bytes, and bytes, cut anywhere, into
//! answers whose bodies are checked as they come. It has no socket and no clock: a
//! [`Connection`](crate::connection::Connection) has those.

mod hedgerow;
mod http;
mod in_order;
mod memcached;
mod resp;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};

use crate::pattern::Checker;
use crate::request::{Answer, Request};

/// One connection's side of a protocol.
pub trait Driver: Send {
    /// Takes a request, as the answer that it is to become, and appends to `out` what asks for it.
    fn send(&mut self, answer: Answer, checker: &Checker, out: &mut Vec<u8>);

    /// Takes the next bytes that came. Finished answers go to `done`, and what is to be sent back to
    /// `out`. Fails if the bytes are none of this protocol, or answer nothing that was asked.
    fn receive(
        &mut self,
        input: &[u8],
        checker: &Checker,
        out: &mut Vec<u8>,
        done: &mut Vec<Answer>,
    ) -> Result<()>;

    /// Requests without an answer.
    fn under_way(&self) -> usize;

    /// Their answers, as far as they came: the connection is over.
    fn abandon(self: Box<Self>) -> Vec<Answer>;
}

/// What a server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Protocol {
    /// Hedgerow's frames: answers in any order.
    Hedgerow,
    /// memcached's meta commands.
    Memcached,
    /// RESP2: Redis, Valkey.
    Resp,
    /// HTTP/1.1 GET, PUT and DELETE: nginx, SeaweedFS.
    Http,
}

impl Protocol {
    /// Whether many requests on one connection are answered as they get ready. The others of a server
    /// that works on one request of a connection at a time only wait.
    pub fn pipelines(self) -> bool {
        self != Protocol::Http
    }
}

/// Where requests go and how.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The server.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Path of an object on an HTTP server; `{key}`, `{object}` (its number) and `{len}` are replaced.
    pub http_path: String,
}

/// Where objects lie on an HTTP server unless something else is said.
pub const HTTP_PATH: &str = "/{key}-{len}";

impl Endpoint {
    /// A server at this address.
    pub fn new(address: SocketAddr, protocol: Protocol) -> Endpoint {
        Endpoint { address, protocol, http_path: HTTP_PATH.to_owned() }
    }

    /// A daemon or a bare server.
    pub fn hedgerow(address: SocketAddr) -> Endpoint {
        Endpoint::new(address, Protocol::Hedgerow)
    }

    /// Connects, and says hello where that is done.
    pub fn connect(&self) -> Result<(TcpStream, Box<dyn Driver>)> {
        let address = self.address;
        let mut socket = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        if self.protocol == Protocol::Hedgerow {
            crate::control::say_hello(&mut socket)?;
        }
        Ok((socket, self.driver()))
    }

    /// One connection's side of the protocol.
    pub fn driver(&self) -> Box<dyn Driver> {
        match self.protocol {
            Protocol::Hedgerow => Box::new(hedgerow::Hedgerow::default()),
            Protocol::Memcached => Box::new(in_order::InOrder::new(memcached::Memcached)),
            Protocol::Resp => Box::new(in_order::InOrder::new(resp::Resp)),
            Protocol::Http => {
                Box::new(in_order::InOrder::new(http::Http::new(self.address, &self.http_path)))
            }
        }
    }
}

/// Appends the bytes of the whole object.
fn write_object(request: &Request, checker: &Checker, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + request.object_len as usize, 0);
    checker.pattern.fill(request.seed(), 0, &mut out[start..]);
}
