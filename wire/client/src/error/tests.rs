use super::*;
use hedgerow_wire::frame::Op;

#[test]
fn every_status_has_its_error() {
    let detail = ErrorDetail::new(Status::Ok, "why").encode();
    let error = |status| {
        let mut header = FrameHeader::answer(Op::Get, 1, status);
        header.object_len = 77;
        header.version = Version { hlc: 9 << 16, coordinator: 2 };
        of_status(&header, &detail, Duration::from_secs(3), 1000)
    };
    let cases = [
        (Status::Superseded, "a newer version (9.00000@2) exists"),
        (
            Status::VersionMismatch,
            "the object's version is 9.00000@2, not the one that the write was meant for",
        ),
        (Status::DeadlineExceeded, "not done within its deadline of 3s"),
        (Status::Overloaded, "the daemon is overloaded"),
        (Status::Unavailable, "the object cannot be put together from what is left of it"),
        (Status::BadRequest, "bad request: why"),
        (Status::Corrupt, "damaged on the way: the request, as the daemon received it"),
        (Status::RangeNotSatisfiable, "the range lies outside of the object, which has 77 bytes"),
        (Status::TooLarge, "larger than the limit of 1000 bytes"),
        (Status::Refused, "refused: why"),
        (Status::ShuttingDown, "the daemon is shutting down"),
        (Status::Internal, "the daemon failed: why"),
    ];
    for (status, text) in cases {
        assert_eq!(error(status).to_string(), text);
    }
    assert!(matches!(error(Status::Indeterminate), Error::Indeterminate { .. }));
    assert!(matches!(error(Status::Unsupported), Error::Unsupported { version: 1, .. }));
    for status in [Status::Ok, Status::NotFound, Status::Cancelled] {
        assert!(matches!(error(status), Error::Internal { .. }));
    }
}

#[test]
fn a_reason_names_its_field() {
    let detail = ErrorDetail {
        status: Status::BadRequest,
        message: "too long".to_owned(),
        field: "key_len".to_owned(),
        value: 2000,
    };
    let header = FrameHeader::answer(Op::Put, 1, Status::BadRequest);
    let error = of_status(&header, &detail.encode(), Duration::ZERO, 0);
    assert_eq!(error.to_string(), "bad request: too long (field 'key_len', value 2000)");
    let error = of_status(&header, b"", Duration::ZERO, 0);
    assert_eq!(error.to_string(), "bad request: no reason given");
}

#[test]
fn errors_can_cross_threads() {
    fn check<T: Send + Sync + Clone + std::error::Error + 'static>() {}
    check::<Error>();
}
