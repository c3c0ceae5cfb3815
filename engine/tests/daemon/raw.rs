//! A connection without the client library: frames, and bytes that are none.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use hedgerow_client::messages::{ErrorDetail, HelloAnswer, HelloRequest, Message};
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::encoder::write_frame;
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::limits::FRAME_HEADER_LEN;
use hedgerow_wire::{Key, ObjectChecksum};

use crate::harness::BOUND;

/// An answer.
#[derive(Debug)]
pub struct Frame {
    pub header: FrameHeader,
    pub body: Vec<u8>,
}

impl Frame {
    /// The sentence of an answer that is not `Ok`.
    #[track_caller]
    pub fn detail(&self) -> ErrorDetail {
        let detail = ErrorDetail::decode(&self.body).unwrap();
        assert_eq!(detail.status, self.header.status);
        detail
    }
}

/// A connection.
pub struct Raw(TcpStream);

impl Raw {
    /// Without a hello.
    pub fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(BOUND)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw(stream)
    }

    /// With a hello.
    #[track_caller]
    pub fn greeted(address: SocketAddr) -> Raw {
        let mut raw = Raw::connect(address);
        raw.hello();
        raw
    }

    #[track_caller]
    pub fn hello(&mut self) -> HelloAnswer {
        self.send(&request(Op::Hello, 1), None, &HelloRequest::new("test").encode().unwrap());
        let answer = self.expect(Op::Hello, 1, Status::Ok);
        HelloAnswer::decode(&answer.body).unwrap()
    }

    #[track_caller]
    pub fn send(&mut self, header: &FrameHeader, key: Option<&Key>, body: &[u8]) {
        self.send_bytes(&frame(header, key, body));
    }

    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Sends what the peer may refuse to take.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Its own address, as the daemon sees it.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next bytes.
    #[track_caller]
    pub fn receive_exactly(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// All that comes until the peer has closed.
    #[track_caller]
    pub fn receive_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
            Err(error) => panic!("the peer does not close: {error}"),
        }
    }

    /// Nothing more is sent; what comes is still read.
    pub fn end_sending(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// The next frame, its checksums verified; nothing once the peer has closed.
    #[track_caller]
    pub fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; FRAME_HEADER_LEN];
        match self.0.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(error) => panic!("no frame came: {error}"),
        }
        let header = FrameHeader::decode(&head).unwrap();
        assert!(header.has(flags::ANSWER), "{header:?}");
        assert_eq!(header.key_len, 0);
        let mut body = vec![0; header.body_len as usize];
        self.0.read_exact(&mut body).unwrap();
        assert_eq!(crc32c(&body), header.body_checksum, "{header:?}");
        Some(Frame { header, body })
    }

    /// The next frame, which must be this one.
    #[track_caller]
    pub fn expect(&mut self, op: Op, id: u64, status: Status) -> Frame {
        let frame = self.receive().expect("an answer, but the daemon has closed");
        let found = (frame.header.op, frame.header.request_id, frame.header.status);
        let why = ErrorDetail::decode(&frame.body).map(|detail| detail.message).unwrap_or_default();
        assert_eq!(found, (op, id, status), "{why}");
        frame
    }

    /// The next frame, which must be one with bytes of an object.
    #[track_caller]
    pub fn expect_get(&mut self) -> Frame {
        let frame = self.receive().expect("an answer, but the daemon has closed");
        assert_eq!((frame.header.op, frame.header.status), (Op::Get, Status::Ok), "{:?}", frame.header);
        frame
    }

    /// The peer closes, without another frame.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        if let Some(frame) = self.receive() {
            panic!("a frame instead of the end: {:?}", frame.header);
        }
    }

    /// The connection works: a ping is the next thing that is answered.
    #[track_caller]
    pub fn expect_open(&mut self) {
        self.send(&FrameHeader::request(Op::Ping, 0x7069_6e67), None, &[]);
        self.expect(Op::Ping, 0x7069_6e67, Status::Ok);
    }
}

/// A request with a deadline of half a minute.
pub fn request(op: Op, id: u64) -> FrameHeader {
    FrameHeader { deadline_budget_us: 30_000_000, ..FrameHeader::request(op, id) }
}

/// A put of one frame.
pub fn put(id: u64, body: &[u8]) -> FrameHeader {
    FrameHeader {
        object_len: body.len() as u64,
        object_checksum: ObjectChecksum::crc32c(crc32c(body)),
        ..request(Op::Put, id)
    }
}

/// A get of everything.
pub fn get(id: u64) -> FrameHeader {
    FrameHeader { length: FrameHeader::TO_END, ..request(Op::Get, id) }
}

pub fn key(text: &str) -> Key {
    Key::new(text.as_bytes()).unwrap()
}

/// A whole frame's bytes.
pub fn frame(header: &FrameHeader, key: Option<&Key>, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(header.clone(), key, body, &mut bytes);
    bytes
}

/// Sets the checksum of a frame's header anew, after its bytes were changed.
pub fn reseal(bytes: &mut [u8]) {
    bytes[8..12].fill(0);
    let checksum = crc32c(&bytes[..FRAME_HEADER_LEN]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
}
