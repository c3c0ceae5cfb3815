//! A connection of the load generator: a socket, never waited for, and the driver of its protocol.
//! Bodies are checked from where they lie in the receive buffer.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};

use crate::clock;
use crate::driver::{Driver, Endpoint};
use crate::pattern::Checker;
use crate::request::{Answer, Request};

/// Bytes taken from a socket in one call.
pub const RECEIVE_BYTES: usize = 256 << 10;

/// One connection.
pub struct Connection {
    socket: TcpStream,
    driver: Box<dyn Driver>,
    out: Vec<u8>,
    out_at: usize,
}

impl Connection {
    /// Connects.
    pub fn open(endpoint: &Endpoint) -> Result<Connection> {
        let (socket, driver) = endpoint.connect()?;
        Connection::over(socket, driver)
    }

    /// Over a socket on which everything has been said that is said first.
    pub fn over(socket: TcpStream, driver: Box<dyn Driver>) -> Result<Connection> {
        socket.set_nonblocking(true)?;
        Ok(Connection { socket, driver, out: Vec::new(), out_at: 0 })
    }

    /// Closes it. What its requests have come to, none of which is answered.
    pub fn abandon(self) -> Vec<Answer> {
        self.driver.abandon()
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Requests that are not answered.
    pub fn under_way(&self) -> usize {
        self.driver.under_way()
    }

    /// Bytes wait for the socket to take them.
    pub fn wants_to_write(&self) -> bool {
        self.out_at < self.out.len()
    }

    /// Queues a request. `start_ns`: when it was to be sent. Nothing leaves before [`Connection::flush`].
    pub fn send(&mut self, request: Request, start_ns: u64, checker: &Checker) {
        let answer = Answer::pending(request, start_ns, clock::now_ns());
        self.driver.send(answer, checker, &mut self.out);
    }

    /// Hands what waits to the socket.
    pub fn flush(&mut self) -> Result<()> {
        while self.wants_to_write() {
            match self.socket.write(&self.out[self.out_at..]) {
                Ok(count) => self.out_at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending"),
            }
        }
        self.out.clear();
        self.out_at = 0;
        Ok(())
    }

    /// Takes what the socket has and hands finished answers to `done`. Whether there may be more.
    pub fn receive(&mut self, buffer: &mut [u8], checker: &Checker, done: &mut Vec<Answer>) -> Result<bool> {
        let count = match self.socket.read(buffer) {
            Ok(0) => bail!("the server closed the connection with {} requests under way", self.under_way()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error).context("receiving"),
        };
        let before = done.len();
        let received = self.driver.receive(&buffer[..count], checker, &mut self.out, done);
        // What came before a frame that is broken has come.
        let now = clock::now_ns();
        done[before..].iter_mut().for_each(|answer| answer.end_ns = now);
        received?;
        Ok(count == buffer.len())
    }
}
