//! The structured bodies: what is encoded is decoded again; hostile bytes do no harm.

#![allow(clippy::unwrap_used)]

use std::fmt::Debug;

use hedgerow_wire::frame::Status;
use hedgerow_wire::limits::{CREDENTIALS_LEN_MAX, ERROR_MESSAGE_LEN_MAX, VERIFY_PARTS_MAX};
use hedgerow_wire::messages::*;

mod samples;

/// Round trip; then every cut and every flipped bit gives an error or a value, never a panic.
fn check<M: Message + PartialEq + Debug>(sample: M) {
    let bytes = sample.encode().unwrap();
    assert_eq!(M::decode(&bytes).unwrap(), sample);
    for len in 0..bytes.len() {
        let _ = M::decode(&bytes[..len]);
    }
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let _ = M::decode(&damaged);
    }
}

#[test]
fn every_message_survives_the_round_trip_and_damage() {
    check(samples::hello_request());
    check(samples::hello_answer());
    check(samples::topology());
    check(samples::stat_answer());
    check(samples::stats_answer());
    check(samples::error_detail());
    for fault in samples::faults() {
        check(FaultRequest::Inject(fault));
    }
    check(FaultRequest::List);
    check(FaultRequest::Clear { id: 8 });
    check(FaultRequest::ClearAll);
    check(samples::fault_answer());
    check(samples::verify_request());
    check(samples::verify_answer());
}

#[test]
fn values_that_are_not_allowed_are_refused() {
    let check = |error: MessageError, expected: &str| {
        assert!(error.to_string().contains(expected), "'{error}' does not name {expected}");
    };
    let long = HelloRequest { credentials: vec![0; CREDENTIALS_LEN_MAX + 1], ..samples::hello_request() };
    check(long.encode().unwrap_err(), "credentials");
    let versions = HelloRequest { version_min: 2, version_max: 1, ..samples::hello_request() };
    check(versions.encode().unwrap_err(), "version_min");
    let run = VerifyRequest { parts_max: VERIFY_PARTS_MAX + 1, ..samples::verify_request() };
    check(VerifyRequest::decode(&run.encode().unwrap()).unwrap_err(), "parts_max");
    let fault = samples::faults()[0];
    for (fault, expected) in [
        (Fault { share_ppm: 0, ..fault }, "share_ppm"),
        (Fault { share_ppm: Fault::SHARE_ALL_PPM + 1, ..fault }, "share_ppm"),
        (Fault { duration_ms: 0, ..fault }, "duration_ms"),
        (Fault { kind: FaultKind::Delay { delay_us: 0 }, ..fault }, "amount"),
        (Fault { kind: FaultKind::Delay { delay_us: u32::MAX }, ..fault }, "amount"),
        (Fault { kind: FaultKind::DelayUniform { min_us: 2, max_us: 1 }, ..fault }, "amount"),
        (Fault { place: FaultPlace::Connections, kind: FaultKind::Full, ..fault }, "kind"),
        (Fault { place: FaultPlace::Connections, kind: FaultKind::Torn, ..fault }, "kind"),
        (Fault { kind: FaultKind::Cut { after_bytes: 1 }, ..fault }, "kind"),
    ] {
        let bytes = FaultRequest::Inject(fault).encode().unwrap();
        check(FaultRequest::decode(&bytes).unwrap_err(), expected);
    }
    check(HelloRequest::decode(&[]).unwrap_err(), "structure");
}

#[test]
fn a_version_is_chosen_that_both_speak() {
    for (min, max, expected) in [(1, 1, Some(1)), (1, 9, Some(1)), (2, 9, None), (0, 0, None)] {
        assert_eq!(choose_version(min, max), expected, "{min}..={max}");
    }
}

#[test]
fn an_error_that_is_too_long_is_cut() {
    let detail = ErrorDetail {
        status: Status::Internal,
        message: "ä".repeat(ERROR_MESSAGE_LEN_MAX),
        field: String::new(),
        value: 0,
    };
    assert!(Message::encode(&detail).is_err());
    let decoded = ErrorDetail::decode(&detail.encode()).unwrap();
    assert_eq!(decoded.message.len(), ERROR_MESSAGE_LEN_MAX);
    assert!(detail.message.starts_with(&decoded.message));
}

#[test]
fn a_body_is_bounded() {
    let with = |count| StatsAnswer {
        counters: (0..count).map(|i| Counter::new("a_counter_of_a_usual_name", i)).collect(),
        ..samples::stats_answer()
    };
    let fits = with(10_000);
    assert_eq!(StatsAnswer::decode(&fits.encode().unwrap()).unwrap(), fits);
    assert!(matches!(with(40_000).encode(), Err(MessageError::TooLong { field: "body", .. })));
}
