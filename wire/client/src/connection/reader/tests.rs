use super::*;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use hedgerow_wire::encoder::write_frame;
use hedgerow_wire::frame::{Op, Status};
use hedgerow_wire::limits::STRIPE_LEN_MAX;
use tokio::io::ReadBuf;

/// A socket that gives its bytes in pieces of the lengths given, over and over.
struct Pieces {
    bytes: VecDeque<u8>,
    lens: Vec<usize>,
    turn: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.lens[self.turn % self.lens.len()].min(out.remaining()).min(self.bytes.len());
        self.turn += 1;
        let piece: Vec<u8> = self.bytes.drain(..len).collect();
        out.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

struct Collector {
    wanted: fn(u64) -> bool,
    got: Vec<(u64, Vec<u8>)>,
    damaged: Vec<u64>,
}

impl Collector {
    fn new(wanted: fn(u64) -> bool) -> Collector {
        Collector { wanted, got: Vec::new(), damaged: Vec::new() }
    }
}

impl Receiver for Collector {
    fn begin(&mut self, header: &FrameHeader) -> Result<Option<BytesMut>, Broken> {
        Ok((self.wanted)(header.request_id).then(BytesMut::new))
    }

    fn end(&mut self, header: FrameHeader, body: BytesMut) -> Result<(), Broken> {
        self.got.push((header.request_id, body.to_vec()));
        Ok(())
    }

    fn damaged(&mut self, header: FrameHeader, _: FrameError) -> Result<(), Broken> {
        self.damaged.push(header.request_id);
        Ok(())
    }
}

fn body(id: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i * 31 + id) as u8).collect()
}

#[tokio::test(flavor = "current_thread")]
async fn frames_come_out_whole_however_they_come_in() {
    let lens = [
        0,
        1,
        160,
        DIRECT_BODY_LEN_MIN - 1,
        DIRECT_BODY_LEN_MIN,
        READ_BUFFER_LEN,
        STRIPE_LEN_MAX,
        3,
        200_000,
    ];
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for (id, &len) in (1..).zip(&lens) {
        let header = FrameHeader::answer(Op::Get, id, Status::Ok);
        write_frame(header, None, &body(id, len), &mut bytes);
        if id % 3 != 0 {
            expected.push((id, body(id, len)));
        }
    }
    for cuts in [vec![1 << 30], vec![1], vec![159, 2], vec![7000, 1, 100_000]] {
        if cuts == [1] && cfg!(debug_assertions) {
            // Byte by byte only what goes through the buffer.
            bytes.truncate(40_000);
        }
        let socket = Pieces { bytes: bytes.clone().into(), lens: cuts.clone(), turn: 0 };
        let mut collector = Collector::new(|id| id % 3 != 0);
        let broken = FrameReader::new(socket).run(&mut collector, &AtomicBool::new(false)).await;
        assert!(matches!(broken, Broken::Socket(_)), "{broken:?}");
        assert!(collector.got.len() >= 3 && expected.starts_with(&collector.got), "cuts {cuts:?}");
        assert!(collector.damaged.is_empty());
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_damaged_body_costs_its_own_frame_only() {
    let mut bytes = Vec::new();
    for id in 1..4 {
        write_frame(FrameHeader::answer(Op::Get, id, Status::Ok), None, &body(id, 20_000), &mut bytes);
    }
    bytes[20_160 + 160 + 15_000] ^= 4;
    let socket = Pieces { bytes: bytes.into(), lens: vec![10_000], turn: 0 };
    let mut collector = Collector::new(|_| true);
    FrameReader::new(socket).run(&mut collector, &AtomicBool::new(false)).await;
    assert_eq!(collector.damaged, [2]);
    assert_eq!(collector.got, [(1, body(1, 20_000)), (3, body(3, 20_000))]);
}

#[tokio::test(flavor = "current_thread")]
async fn one_frame_leaves_the_next_ones_for_later() {
    let mut bytes = Vec::new();
    for id in 1..4 {
        write_frame(FrameHeader::answer(Op::Get, id, Status::Ok), None, &body(id, 10), &mut bytes);
    }
    let socket = Pieces { bytes: bytes.into(), lens: vec![1 << 20], turn: 0 };
    let mut reader = FrameReader::new(socket);
    let mut first = Collector::new(|_| true);
    reader.one(&mut first).await.unwrap();
    assert_eq!(first.got, [(1, body(1, 10))]);
    let mut rest = Collector::new(|_| true);
    reader.run(&mut rest, &AtomicBool::new(false)).await;
    assert_eq!(rest.got, [(2, body(2, 10)), (3, body(3, 10))]);
}

#[tokio::test(flavor = "current_thread")]
async fn lost_framing_is_told() {
    let check = async |change: fn(&mut Vec<u8>), expected: &str| {
        let mut bytes = Vec::new();
        write_frame(FrameHeader::answer(Op::Get, 1, Status::Ok), None, b"body", &mut bytes);
        change(&mut bytes);
        let socket = Pieces { bytes: bytes.into(), lens: vec![1 << 20], turn: 0 };
        let mut collector = Collector::new(|_| true);
        let broken = FrameReader::new(socket).run(&mut collector, &AtomicBool::new(false)).await;
        assert!(format!("{broken:?}").contains(expected), "{broken:?}, expected {expected}");
        assert!(collector.got.is_empty());
    };
    check(|bytes| bytes[0] = b'X', "Protocol").await;
    check(|bytes| bytes[4] = 9, "Version(9)").await;
    check(|bytes| bytes[40] ^= 1, "checksum").await;
    check(|bytes| bytes.truncate(100), "closed").await;
    check(|bytes| bytes.truncate(162), "closed").await;
}
