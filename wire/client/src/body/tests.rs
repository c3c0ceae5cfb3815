use super::*;
use std::task::{Context, Poll};

/// A stream of ready pieces.
struct Pieces(Vec<io::Result<Bytes>>);

impl Stream for Pieces {
    type Item = io::Result<Bytes>;
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(if self.0.is_empty() { None } else { Some(self.0.remove(0)) })
    }
}

fn data(len: usize) -> Bytes {
    (0..len).map(|i| i as u8).collect::<Vec<_>>().into()
}

fn stream(lens: &[usize]) -> Body<'static> {
    let mut rest = data(lens.iter().sum());
    Body::stream(Pieces(lens.iter().map(|&len| Ok(rest.split_to(len))).collect()))
}

/// Lengths of the chunks, which are checked to be `data(len)` together.
async fn cut(body: Body<'_>, frame_len: usize, len: usize) -> Result<Vec<usize>> {
    let mut chunks = Chunks::new(body);
    let mut all = Vec::new();
    let mut lens = Vec::new();
    loop {
        let chunk = chunks.next(frame_len).await?;
        assert_eq!(chunk.offset, all.len() as u64);
        all.extend_from_slice(&chunk.bytes);
        lens.push(chunk.bytes.len());
        if chunk.last {
            assert_eq!(all, data(len));
            return Ok(lens);
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn bodies_of_known_length_are_cut_into_full_frames() {
    let cases: [(usize, &[usize]); 5] = [(0, &[0]), (3, &[3]), (4, &[4]), (9, &[4, 4, 1]), (12, &[4, 4, 4])];
    for (len, expected) in cases {
        assert_eq!(cut(Body::from(data(len)), 4, len).await.unwrap(), expected);
        let bytes = data(len);
        assert_eq!(cut(Body::reader(&bytes[..]).with_len(len as u64), 4, len).await.unwrap(), expected);
        let pieces = [len / 2, 0, len - len / 2];
        assert_eq!(cut(stream(&pieces).with_len(len as u64), 4, len).await.unwrap(), expected);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn bodies_of_unknown_length_end_with_a_short_frame() {
    let cases: [(usize, &[usize]); 5] =
        [(0, &[0]), (3, &[3]), (4, &[4, 0]), (9, &[4, 4, 1]), (12, &[4, 4, 4, 0])];
    for (len, expected) in cases {
        let bytes = data(len);
        assert_eq!(cut(Body::reader(&bytes[..]), 4, len).await.unwrap(), expected);
        let ones = vec![1; len];
        for pieces in [&[len][..], &ones, &[len / 3, len - len / 3]] {
            assert_eq!(cut(stream(pieces), 4, len).await.unwrap(), expected, "pieces {pieces:?}");
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_wrong_length_and_a_failing_source_are_errors() {
    let check = async |body: Body<'_>, expected: &str| {
        let error = cut(body, 4, 0).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}, expected {expected}");
    };
    check(Body::reader(&data(5)[..]).with_len(6), "ended after 5 bytes, 6").await;
    check(stream(&[3, 2]).with_len(6), "ended after 5 bytes, 6").await;
    check(stream(&[3, 4]).with_len(6), "more than the 6 bytes").await;
    check(Body::stream(Pieces(vec![Ok(data(6)), Err(io::Error::other("burnt"))])), "burnt").await;
    // A reader is not read beyond what was announced.
    let mut long = &data(10)[..];
    let reader: &mut &[u8] = &mut long;
    assert_eq!(cut(Body::reader(reader).with_len(6), 4, 6).await.unwrap(), [4, 2]);
    assert_eq!(long.len(), 4);
}

#[tokio::test(flavor = "current_thread")]
async fn pieces_that_fit_are_not_copied() {
    let bytes = data(12);
    let mut chunks = Chunks::new(Body::stream(Pieces(vec![Ok(bytes.clone())])));
    for offset in [0, 4, 8] {
        let chunk = chunks.next(4).await.unwrap();
        assert_eq!(chunk.bytes.as_ptr(), bytes[offset..].as_ptr());
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_not_forgotten_comes_again() {
    let bytes = data(12);
    let mut chunks = Chunks::new(Body::reader(&bytes[..]));
    let first = [chunks.next(4).await.unwrap(), chunks.next(4).await.unwrap()];
    assert!(chunks.rewind());
    assert_eq!([chunks.next(4).await.unwrap(), chunks.next(4).await.unwrap()], first);
    assert!(chunks.rewind());
    assert_eq!(chunks.next(4).await.unwrap(), first[0]);
    assert!(chunks.rewind());
    for expected in [&first[0], &first[1]] {
        assert_eq!(&chunks.next(4).await.unwrap(), expected);
    }
    chunks.forget();
    assert_eq!(chunks.next(4).await.unwrap().offset, 8);
    assert!(!chunks.rewind());
}
