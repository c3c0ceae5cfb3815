//! What a request may say, and what the frames of a put have to do with each other.

use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::frame::{FrameHeader, Op, flags};
use hedgerow_wire::limits::{
    BODY_LEN_MAX, CREDIT_BYTES_MAX, DEADLINE_US_MAX, OBJECT_LEN_MAX, STREAM_CREDIT_INITIAL_BYTES,
    STRIPE_LEN_MAX,
};
use hedgerow_wire::messages::ErrorDetail;
use hedgerow_wire::messages::Message;
use hedgerow_wire::request::{Refusal, check_request, is_further_put};
use hedgerow_wire::stream::{Progress, PutStream};

use crate::reseal;

/// The frames of a stream as requests: what is accepted keeps to every bound that the daemon rests on, what is refused
/// says so in words that arrive. All puts of the stream are taken for one.
pub fn requests(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    reseal::stream(&mut sealed);
    let mut decoder = Decoder::new();
    let mut input = &sealed[..];
    let mut put = None;
    loop {
        match decoder.step(&mut input) {
            Ok(Step::Header { header, key }) => match check_request(&header, key.as_ref()) {
                Ok(()) => {
                    check_accepted(&header, key.is_some());
                    follow(&header, &mut put);
                }
                Err(refusal) => check_refusal(&refusal),
            },
            Ok(Step::Body(_) | Step::End | Step::Refused { .. }) => {}
            Ok(Step::NeedMore) | Err(_) => return,
        }
    }
}

fn check_accepted(header: &FrameHeader, has_key: bool) {
    assert!(!header.has(flags::ANSWER), "an answer is no request: {header:?}");
    assert!(header.deadline_budget_us <= DEADLINE_US_MAX, "too far away: {header:?}");
    assert!(header.request_id != 0 || header.op == Op::Ping, "nobody waits: {header:?}");
    let body_len_max = if header.op == Op::PartWrite { BODY_LEN_MAX } else { STRIPE_LEN_MAX };
    assert!(header.body_len as usize <= body_len_max, "too long: {header:?}");
    let of_object = matches!(header.op, Op::Get | Op::Delete | Op::Stat | Op::PartRead)
        || header.op == Op::Put && !is_further_put(header);
    assert_eq!(has_key, of_object, "a key, or none: {header:?}");
    match header.op {
        Op::Get => {
            let end = header.offset.checked_add(header.length);
            assert!(header.length == FrameHeader::TO_END || end.is_some(), "overflows: {header:?}");
        }
        Op::Put => {
            assert!(header.object_len <= OBJECT_LEN_MAX, "too large: {header:?}");
            assert!(header.offset + u64::from(header.body_len) <= OBJECT_LEN_MAX, "too large: {header:?}");
        }
        _ => {}
    }
}

fn check_refusal(refusal: &Refusal) {
    let detail = refusal.detail();
    assert!(!detail.message.is_empty(), "a refusal without a word");
    assert_eq!(<ErrorDetail as Message>::decode(&detail.encode()).as_ref(), Ok(&detail));
}

/// Follows the put that is under way.
fn follow(header: &FrameHeader, put: &mut Option<PutStream>) {
    let progress = match (header.op, put.as_mut()) {
        (Op::Put, _) if !is_further_put(header) => {
            let begun = PutStream::begin(header, STREAM_CREDIT_INITIAL_BYTES);
            begun.map(|(stream, progress)| {
                *put = Some(stream);
                progress
            })
        }
        (Op::Put, Some(stream)) => stream.frame(header),
        (Op::Credit, Some(stream)) => stream.grant(header.credit).map(|()| Progress::More),
        _ => return,
    };
    let Some(stream) = put else { return };
    assert!(stream.received_bytes() <= OBJECT_LEN_MAX.min(CREDIT_BYTES_MAX), "{stream:?}");
    match progress {
        Ok(Progress::More) => {}
        Ok(Progress::End { object_len }) => {
            assert_eq!(object_len, stream.received_bytes());
            assert!(stream.frame(header).is_err(), "a put ends twice");
        }
        Ok(Progress::Aborted) => assert!(stream.frame(header).is_err(), "a put ends twice"),
        Err(refusal) => check_refusal(&refusal),
    }
}
