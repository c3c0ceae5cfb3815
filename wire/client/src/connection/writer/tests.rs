use super::*;
use std::pin::Pin;
use std::task::{Context, Poll};

use hedgerow_wire::frame::{FrameHeader, Op};

/// A socket that takes `per_write` bytes at once and fails after `until`.
struct Narrow {
    got: Vec<u8>,
    writes: usize,
    per_write: usize,
    until: usize,
}

impl AsyncWrite for Narrow {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.writes += 1;
        let room = self.per_write.min(self.until - self.got.len());
        if room == 0 {
            return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(room).collect();
        self.got.extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn frames() -> Vec<OutFrame> {
    [0, 1, INLINE_BODY_LEN_MAX, INLINE_BODY_LEN_MAX + 1, 5, 100_000, 0]
        .into_iter()
        .enumerate()
        .map(|(index, len)| OutFrame {
            header: FrameHeader::request(Op::Put, index as u64),
            key: (index % 2 == 0).then(|| Key::new(b"a key").unwrap()),
            body: Bytes::from(vec![index as u8; len]),
        })
        .collect()
}

fn expected() -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames() {
        out.extend_from_slice(&frame.header.encode());
        out.extend_from_slice(frame.key.as_ref().map_or(&[][..], Key::as_bytes));
        out.extend_from_slice(&frame.body);
    }
    out
}

#[tokio::test(flavor = "current_thread")]
async fn frames_reach_the_socket_in_order_and_together() {
    for per_write in [usize::MAX, 1000, 161, 7] {
        let mut socket = Narrow { got: Vec::new(), writes: 0, per_write, until: usize::MAX };
        let mut batch = Batch::default();
        frames().iter().for_each(|frame| batch.push(frame));
        write_batch(&mut socket, &mut batch).await.unwrap();
        assert!(socket.got == expected(), "{per_write} bytes per write");
        assert_eq!(batch.written, expected().len());
        assert_eq!(socket.writes, expected().len().div_ceil(per_write));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn frames_of_which_nothing_was_written_are_known() {
    let ends: Vec<usize> = frames()
        .iter()
        .scan(0, |sum, frame| {
            *sum += wire_len(frame);
            Some(*sum)
        })
        .collect();
    for until in [0, 1, ends[0] - 1, ends[0], ends[0] + 1, ends[3], ends[4], ends[6] - 1] {
        let mut state = super::super::state::State::new(60_000_000);
        let mut taken = Vec::new();
        for frame in frames() {
            let (reply, _) = tokio::sync::oneshot::channel();
            let sink = super::super::state::Sink::Whole { reply, body: BytesMut::new() };
            let deadline = clock::now() + std::time::Duration::from_secs(9);
            let small = OutFrame { body: Bytes::new(), ..frame };
            state.register(super::super::state::Pending::new(small, deadline, sink)).unwrap();
        }
        state.next_batch(clock::now(), &mut taken);
        for (taken, frame) in taken.iter_mut().zip(frames()) {
            taken.frame.body = frame.body;
        }
        let mut socket = Narrow { got: Vec::new(), writes: 0, per_write: usize::MAX, until };
        let mut batch = Batch::default();
        taken.iter().for_each(|taken| batch.push(&taken.frame));
        write_batch(&mut socket, &mut batch).await.unwrap_err();
        // A frame is touched if it begins before what was written ends.
        let touched = if until == 0 { 0 } else { 1 + ends.iter().filter(|&&end| end < until).count() };
        assert_eq!(untouched(&taken, batch.written).len(), taken.len() - touched, "{until} bytes written");
    }
}
