//! The structured bodies.

use std::fmt::Debug;

use hedgerow_wire::messages::{
    ErrorDetail, FaultAnswer, FaultRequest, HelloAnswer, HelloRequest, Message, MessageError, StatAnswer,
    StatsAnswer, Topology, VerifyAnswer, VerifyRequest,
};

/// The first byte says of which message the others are the body. What is decoded is encoded to a body of the same
/// meaning, and that to the same bytes.
pub fn bodies(bytes: &[u8]) {
    let Some((&message, body)) = bytes.split_first() else { return };
    let check = CHECKS[usize::from(message) % CHECKS.len()];
    check(body);
}

/// By the number of the message, which the corpus has too.
const CHECKS: [fn(&[u8]); 10] = [
    check::<HelloRequest>,
    check::<HelloAnswer>,
    check::<StatAnswer>,
    check::<StatsAnswer>,
    check::<ErrorDetail>,
    check::<FaultRequest>,
    check::<FaultAnswer>,
    check::<VerifyRequest>,
    check::<VerifyAnswer>,
    check::<Topology>,
];

fn check<M: Message + PartialEq + Debug>(body: &[u8]) {
    let Ok(value) = M::decode(body) else { return };
    match value.encode() {
        Ok(again) => {
            let decoded = M::decode(&again);
            assert_eq!(decoded.as_ref(), Ok(&value));
            assert!(value.encode() == Ok(again), "one value, two bodies: {value:?}");
        }
        // A body may refer to one table several times; written out, it may be too long.
        Err(MessageError::TooLong { field: "body", .. }) => {}
        Err(error) => panic!("{value:?} was decoded, and is not encoded: {error}"),
    }
}
