use super::*;
use std::time::Duration;

struct Rig {
    state: State,
    now: Instant,
}

impl Rig {
    fn new() -> Rig {
        Rig { state: State::new(60_000_000), now: crate::clock::now() }
    }

    fn frame(op: Op, body_len: usize, last: bool) -> OutFrame {
        crate::connection::out_frame(
            &FrameHeader::request(op, 0),
            Key::new(b"key").ok(),
            Bytes::from(vec![0; body_len]),
            0,
            last,
        )
    }

    /// A request of one frame.
    fn ask(&mut self, op: Op, body_len: usize) -> (u64, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        let sink = Sink::Whole { reply, body: BytesMut::new() };
        let deadline = self.now + Duration::from_secs(1);
        let pending = Pending::new(Rig::frame(op, body_len, true), deadline, sink);
        (self.state.register(pending).unwrap(), answer)
    }

    /// A put whose further frames are pushed.
    fn begin_put(&mut self) -> (u64, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        let sink = Sink::Put { reply, credit: Arc::new(Semaphore::new(0)) };
        let deadline = self.now + Duration::from_secs(1);
        let pending = Pending::new(Rig::frame(Op::Put, BULK_BODY_LEN_MIN, false), deadline, sink);
        (self.state.register(pending).unwrap(), answer)
    }

    fn batch(&mut self) -> Vec<Taken> {
        let mut out = Vec::new();
        self.state.next_batch(self.now, &mut out);
        out
    }

    /// Ops and request ids of the next batch.
    fn written(&mut self) -> Vec<(Op, u64)> {
        self.batch().iter().map(|taken| (taken.frame.header.op, taken.frame.header.request_id)).collect()
    }

    fn close(&mut self) {
        self.state.close(Broken::Socket("gone".to_owned()));
    }
}

fn lost(answer: &mut oneshot::Receiver<Reply>) -> (bool, bool) {
    match answer.try_recv().unwrap().unwrap_err() {
        Failure::Lost(lost) => (lost.sent, lost.effect),
        Failure::Failed(error) => panic!("{error}"),
    }
}

#[test]
fn small_frames_pass_large_ones_and_frames_of_a_request_stay_in_order() {
    let mut rig = Rig::new();
    let (put, _put) = rig.begin_put();
    let (large, _large) = rig.ask(Op::Put, BATCH_BODY_BYTES);
    assert_eq!(rig.state.push(put, Rig::frame(Op::Put, 10, true)), Pushed::Unsent);
    let (get, _get) = rig.ask(Op::Get, 0);
    assert_eq!(rig.written(), [(Op::Get, get), (Op::Put, put), (Op::Put, large)]);
    let (stat, _stat) = rig.ask(Op::Stat, 0);
    assert_eq!(rig.state.push(put, Rig::frame(Op::Put, 10, true)), Pushed::Sent);
    assert_eq!(rig.written(), [(Op::Stat, stat), (Op::Put, put), (Op::Put, put)]);
    assert_eq!(rig.written(), []);
}

#[test]
fn a_batch_is_bounded() {
    let mut rig = Rig::new();
    let answers: Vec<_> = (0..BATCH_FRAMES_MAX + 5).map(|_| rig.ask(Op::Get, 0)).collect();
    assert_eq!(rig.written().len(), BATCH_FRAMES_MAX);
    assert_eq!(rig.written().len(), 5);
    let bodies: Vec<_> = (0..4).map(|_| rig.ask(Op::Put, BATCH_BODY_BYTES / 2)).collect();
    assert_eq!(rig.written().len(), 2);
    assert_eq!(rig.written().len(), 2);
    drop((answers, bodies));
}

#[test]
fn budgets_are_what_is_left_and_nothing_is_begun_too_late() {
    let mut rig = Rig::new();
    let (_, _first) = rig.ask(Op::Get, 0);
    rig.now += Duration::from_millis(400);
    assert_eq!(rig.batch()[0].frame.header.deadline_budget_us, 600_000);
    let (late, mut answer) = rig.ask(Op::Put, 0);
    rig.now += Duration::from_secs(1);
    assert!(rig.batch().is_empty());
    assert_eq!(rig.state.cancel(late), Cancelled::NoEffect);
    assert!(answer.try_recv().is_err());
    rig.state = State::new(1_000);
    let (_, _capped) = rig.ask(Op::Get, 0);
    assert_eq!(rig.batch()[0].frame.header.deadline_budget_us, 1_000);
}

#[test]
fn a_cancel_is_sent_only_for_what_was_sent() {
    let mut rig = Rig::new();
    let cases =
        [(Op::Get, Cancelled::NoEffect), (Op::Put, Cancelled::Doubtful), (Op::Delete, Cancelled::Doubtful)];
    for (op, expected) in cases {
        let (unsent, _answer) = rig.ask(op, 0);
        assert_eq!(rig.state.cancel(unsent), Cancelled::NoEffect);
        assert_eq!(rig.written(), []);
        let (sent, _answer) = rig.ask(op, 0);
        assert_eq!(rig.written(), [(op, sent)]);
        assert_eq!(rig.state.cancel(sent), expected);
        assert_eq!(rig.written(), [(Op::Cancel, sent)]);
        assert_eq!(rig.state.cancel(sent), Cancelled::Answered);
        assert_eq!(rig.written(), []);
    }
}

#[test]
fn a_put_without_its_last_frame_has_no_effect() {
    let mut rig = Rig::new();
    let (put, mut answer) = rig.begin_put();
    rig.written();
    rig.state.push(put, Rig::frame(Op::Put, 1, false));
    rig.written();
    assert_eq!(rig.state.cancel(put), Cancelled::NoEffect);
    assert_eq!(rig.state.push(put, Rig::frame(Op::Put, 1, true)), Pushed::Answered);
    let (put, mut other) = rig.begin_put();
    rig.state.push(put, Rig::frame(Op::Put, 1, true));
    rig.close();
    assert_eq!(lost(&mut other), (false, false));
    assert!(answer.try_recv().is_err());
}

#[test]
fn what_is_lost_says_what_is_known() {
    let mut rig = Rig::new();
    let (_, mut sent_get) = rig.ask(Op::Get, 0);
    let (_, mut sent_put) = rig.ask(Op::Put, 0);
    let (_, mut handed_back) = rig.ask(Op::Put, 0);
    let taken = rig.batch();
    rig.state.untake(&taken[2..]);
    let (_, mut unsent) = rig.ask(Op::Put, 0);
    rig.close();
    assert_eq!(lost(&mut sent_get), (true, false));
    assert_eq!(lost(&mut sent_put), (true, true));
    assert_eq!(lost(&mut handed_back), (false, false));
    assert_eq!(lost(&mut unsent), (false, false));
    let (reply, _answer) = oneshot::channel();
    let sink = Sink::Whole { reply, body: BytesMut::new() };
    let late = rig.state.register(Pending::new(Rig::frame(Op::Put, 0, true), rig.now, sink)).unwrap_err();
    assert_eq!((late.sent, late.effect, late.broken.text().as_str()), (false, false, "gone"));
}

#[test]
fn entries_of_cancelled_requests_do_not_pile_up() {
    let mut rig = Rig::new();
    let (kept, _kept) = rig.ask(Op::Get, 0);
    for _ in 0..10 * STALE_ENTRIES_MAX {
        let (id, _answer) = rig.ask(Op::Get, 0);
        rig.state.cancel(id);
        assert!(rig.state.quick.len() <= STALE_ENTRIES_MAX + 2);
    }
    assert_eq!(rig.written(), [(Op::Get, kept)]);
}

#[test]
fn credit_and_signs_of_life_are_control_frames() {
    let mut rig = Rig::new();
    let (frames, _receiver) = mpsc::unbounded_channel();
    let sink = Sink::Stream { frames, allowance: 10 };
    let pending = Pending::new(Rig::frame(Op::Get, 0, true), rig.now + Duration::from_secs(1), sink);
    let id = rig.state.register(pending).unwrap();
    rig.state.grant(id, 77);
    rig.state.ping();
    rig.state.grant(id + 1, 5);
    assert!(matches!(rig.state.get_mut(id).unwrap().sink, Sink::Stream { allowance: 87, .. }));
    let batch = rig.batch();
    assert_eq!(batch[1].frame.header.credit, 77);
    for taken in &batch[1..] {
        hedgerow_wire::request::check_request(&taken.frame.header, None).unwrap();
    }
    assert_eq!(batch.len(), 3);
}
