//! Connections that are made beside the generator's loop, which waits for nothing, and the echo that goes through it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::clock;
use crate::connection::Connection;
use crate::control;
use crate::driver::Endpoint;
use crate::load::histogram;

/// How long a connector rests after a failure.
const REST: Duration = Duration::from_millis(20);
/// An echo is sent so often.
const ECHO_NS: u64 = 2_000_000;
/// Echoes that are remembered: some seconds of them.
const ECHOES_KEPT: usize = 8192;

/// Where a daemon listens; nothing while it is down.
pub type Place = Arc<Mutex<Option<SocketAddr>>>;

/// Makes connections to one daemon, wherever it listens.
pub struct Connector {
    place: Place,
    wanted: Sender<SocketAddr>,
    made: Receiver<Option<(SocketAddr, TcpStream)>>,
    under_way: usize,
}

impl Connector {
    /// A connector with a thread of its own, which ends when this is dropped.
    pub fn start(place: Place) -> Connector {
        let (wanted, asked) = channel::<SocketAddr>();
        let (sender, made) = channel();
        std::thread::spawn(move || {
            for address in asked {
                let made = greet(address).ok().map(|socket| (address, socket));
                if made.is_none() {
                    clock::sleep(REST);
                }
                if sender.send(made).is_err() {
                    return;
                }
            }
        });
        Connector { place, wanted, made, under_way: 0 }
    }

    fn address(&self) -> Option<SocketAddr> {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that so many connections are on their way.
    pub fn want(&mut self, count: usize) {
        let Some(address) = self.address() else { return };
        while self.under_way < count && self.wanted.send(address).is_ok() {
            self.under_way += 1;
        }
    }

    /// A connection that has been made.
    pub fn take(&mut self) -> Result<Option<Connection>> {
        while let Ok(made) = self.made.try_recv() {
            self.under_way -= 1;
            if let Some((address, socket)) = made
                && self.address() == Some(address)
            {
                let endpoint = Endpoint::hedgerow(address);
                return Ok(Some(Connection::over(socket, endpoint.driver())?));
            }
        }
        Ok(None)
    }
}

fn greet(address: SocketAddr) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    control::say_hello(&mut socket)?;
    Ok(socket)
}

/// A byte over loopback to a thread and back, again and again, taken by the generator's own loop.
pub struct Echo {
    socket: TcpStream,
    sent_ns: Option<u64>,
    next_ns: u64,
    /// When each was sent and was back.
    kept: VecDeque<(u64, u64)>,
    all: Histogram<u64>,
}

impl Echo {
    /// Starts the thread; it ends when this is dropped.
    pub fn start() -> Result<Echo> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let socket = TcpStream::connect(listener.local_addr()?)?;
        let (mut other, _) = listener.accept()?;
        for end in [&socket, &other] {
            end.set_nodelay(true)?;
        }
        socket.set_nonblocking(true)?;
        std::thread::spawn(move || {
            let mut byte = [0];
            while other.read_exact(&mut byte).and_then(|()| other.write_all(&byte)).is_ok() {}
        });
        Ok(Echo { socket, sent_ns: None, next_ns: 0, kept: VecDeque::new(), all: histogram() })
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Sends the next one if it is due.
    pub fn send(&mut self, now_ns: u64) -> Result<()> {
        if self.sent_ns.is_none() && now_ns >= self.next_ns {
            self.socket.write_all(&[0])?;
            self.sent_ns = Some(now_ns);
            self.next_ns = now_ns + ECHO_NS;
        }
        Ok(())
    }

    /// Takes one that is back.
    pub fn receive(&mut self) -> Result<()> {
        match self.socket.read(&mut [0]) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(sent_ns) = self.sent_ns.take() {
            let now = clock::now_ns();
            self.kept.push_back((sent_ns, now));
            self.all.saturating_record(now - sent_ns);
            if self.kept.len() > ECHOES_KEPT {
                self.kept.pop_front();
            }
        }
        Ok(())
    }

    /// The longest of those that were under way within this time.
    pub fn longest_ns(&self, from_ns: u64, to_ns: u64) -> u64 {
        let under_way = self.sent_ns.map_or(0, |sent_ns| to_ns.saturating_sub(sent_ns));
        let recent = self.kept.iter().rev().take_while(|(_, back_ns)| *back_ns >= from_ns);
        let within =
            recent.filter(|(sent_ns, _)| *sent_ns <= to_ns).map(|(sent_ns, back_ns)| back_ns - sent_ns);
        within.max().unwrap_or(0).max(under_way)
    }

    /// All of them, in nanoseconds.
    pub fn histogram(&self) -> Histogram<u64> {
        self.all.clone()
    }
}
