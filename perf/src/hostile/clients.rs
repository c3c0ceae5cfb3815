//! Clients that mean no good: many of one kind, held until they are let go.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use hedgerow_wire::Key;
use hedgerow_wire::encoder::write_frame;
use hedgerow_wire::frame::{FrameHeader, Op};
use hedgerow_wire::limits::{BODY_LEN_MAX, FRAME_HEADER_LEN, OBJECT_LEN_MAX, STRIPE_LEN_MAX};

use super::LARGE;
use crate::request::object_key;
use crate::{clock, control};

/// Set of what they put.
const SET: u8 = b'x';
/// A slow reader takes so much in each round.
const SIP_BYTES: usize = 1 << 10;
/// A round of all slow readers begins so long after the last one.
const ROUND: Duration = Duration::from_millis(200);
/// Their requests may take this long, in microseconds.
const DEADLINE_US: u32 = 60_000_000;

/// One kind of client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Connected, greeted, silent.
    Silent,
    /// A body is announced, and one byte of it comes.
    Announced,
    /// The longest body that a frame may have, of the longest object, but for its last byte.
    Bodies,
    /// A large object is asked for and taken a kilobyte at a time.
    Readers,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Silent, Kind::Announced, Kind::Bodies, Kind::Readers];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Silent => "connections that say nothing",
            Kind::Announced => "bodies announced and not sent",
            Kind::Bodies => "longest bodies at once, not ended",
            Kind::Readers => "slow readers of large objects",
        }
    }

    /// What one of them sends after the hello.
    fn bytes(self, number: u64) -> Vec<u8> {
        let header = |op| FrameHeader { deadline_budget_us: DEADLINE_US, ..FrameHeader::request(op, 2) };
        let frame = |header: FrameHeader, key: Key, body: &[u8]| {
            let mut out = Vec::new();
            write_frame(header, Some(&key), body, &mut out);
            out
        };
        let body = || vec![0; STRIPE_LEN_MAX.min(BODY_LEN_MAX)];
        let put = FrameHeader { object_len: OBJECT_LEN_MAX, ..header(Op::Put) };
        let put = FrameHeader { flags: 0, ..put };
        let key = object_key(SET, number);
        let key_len = key.as_bytes().len();
        match self {
            Kind::Silent => Vec::new(),
            Kind::Announced => {
                let mut out = frame(put, key, &body());
                out.truncate(FRAME_HEADER_LEN + key_len + 1);
                out
            }
            Kind::Bodies => {
                let mut out = frame(put, key, &body());
                out.pop();
                out
            }
            Kind::Readers => {
                let get = FrameHeader { length: FrameHeader::TO_END, ..header(Op::Get) };
                let credit = FrameHeader { credit: LARGE.2 as u32, ..FrameHeader::request(Op::Credit, 2) };
                let mut out = frame(get, object_key(LARGE.0, number % LARGE.1), &[]);
                write_frame(credit, None, &[], &mut out);
                out
            }
        }
    }
}

/// Clients that are held.
pub struct Held {
    /// How many there are.
    pub count: usize,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Held {
    /// Connects so many; each has sent what it sends when this returns.
    pub fn hold(kind: Kind, address: SocketAddr, count: usize) -> Result<Held> {
        let mut sockets = Vec::with_capacity(count);
        for number in 0..count {
            let mut socket = TcpStream::connect(address)?;
            control::say_hello(&mut socket)?;
            socket.write_all(&kind.bytes(number as u64))?;
            socket.set_nonblocking(true)?;
            sockets.push(socket);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let over = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut sip = [0; SIP_BYTES];
            while !over.load(Ordering::Relaxed) {
                if kind == Kind::Readers {
                    sockets.retain_mut(|socket| take(socket, &mut sip));
                }
                clock::sleep(ROUND);
            }
        });
        Ok(Held { count, stop, thread: Some(thread) })
    }

    /// Lets all of them go.
    pub fn let_go(mut self) -> Held {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
        self
    }
}

/// Takes a little; whether the daemon still gives something.
fn take(socket: &mut TcpStream, sip: &mut [u8]) -> bool {
    match socket.read(sip) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
