//! Which requests may begin, and what is answered to those that may not.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hedgerow_wire::Priority;
use hedgerow_wire::frame::{FrameHeader, Op, Status};
use hedgerow_wire::request::{Refusal, is_further_put};

use super::connection::{Connection, Request};
use super::incoming::Ended;
use super::limits::{CORE_OUT_BYTES_MAX, CORE_REQUESTS_LOW_MAX, CORE_REQUESTS_MAX, CORE_REQUESTS_NORMAL_MAX};
use super::oneshot::Signal;

impl Connection {
    /// Whether a new request may begin; if not, it is answered.
    pub(super) fn may_begin(&self, header: &FrameHeader) -> Result<bool, Ended> {
        self.check_id(header.request_id)?;
        let admitted = self.admit(header);
        Ok(admitted.map_err(|refusal| self.send_refusal(header, &refusal)).is_ok())
    }

    /// An id that is under way tells two answers apart no more. One that was cancelled gets none, and its
    /// id may be used again.
    pub(super) fn check_id(&self, id: u64) -> Result<(), Ended> {
        let requests = self.requests.borrow();
        match requests.get(&id) {
            Some(request) if !request.cancelled.get() => {
                let message = "the id of a request under way was used again";
                self.send_error(Op::Hello, 0, Status::BadRequest, message);
                Err(Ended::Stream(message))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is room for a new request.
    pub(super) fn admit(&self, header: &FrameHeader) -> Result<(), Refusal> {
        if self.core.stopping() {
            let (status, message) = (Status::ShuttingDown, "the daemon is stopping");
            return Err(Refusal { status, message, field: "", value: 0 });
        }
        let waiting = self.core.connections.out_bytes.get();
        // What was queued a moment ago is nobody's fault; what the socket did not take is.
        if self.blocked_since.get().is_some() && waiting >= CORE_OUT_BYTES_MAX {
            return Err(Refusal {
                status: Status::Overloaded,
                message: "clients do not take their answers, this one neither: try again later",
                field: "",
                value: waiting as u64,
            });
        }
        let most = match header.priority {
            Priority::High => CORE_REQUESTS_MAX,
            Priority::Normal => CORE_REQUESTS_NORMAL_MAX,
            Priority::Low => CORE_REQUESTS_LOW_MAX,
        };
        let under_way = self.core.connections.requests.get();
        if under_way >= most {
            return Err(Refusal {
                status: Status::Overloaded,
                message: "too many requests of this priority are under way: try again later, or slower",
                field: "priority",
                value: under_way as u64,
            });
        }
        Ok(())
    }

    pub(super) fn add_request(&self, header: &FrameHeader) -> Rc<Request> {
        let request = Rc::new(Request {
            id: header.request_id,
            credit: Cell::new(u64::from(hedgerow_wire::limits::STREAM_CREDIT_INITIAL_BYTES)),
            credit_signal: Signal::default(),
            signal: Signal::default(),
            cancelled: Cell::new(false),
            put: RefCell::new(None),
        });
        let before = self.requests.borrow_mut().insert(header.request_id, request.clone());
        let count = &self.core.connections.requests;
        count.set(count.get() + usize::from(before.is_none()));
        request
    }

    /// A frame is not to be believed, or asks for what is not allowed: its request is answered so. What
    /// that means for a put under way is its task's to say; one that was answered is not answered again.
    pub(super) fn refuse(&self, header: &FrameHeader, refusal: &Refusal) {
        let request = self.requests.borrow().get(&header.request_id).cloned();
        let put = request.as_ref().and_then(|request| request.put.borrow().clone());
        match (put, request) {
            (Some(put), _) => return put.refuse(*refusal),
            (None, Some(request)) => {
                request.cancel();
                self.finish(&request);
            }
            (None, None) if is_further_put(header) => return,
            (None, None) => {}
        }
        self.send_refusal(header, refusal);
    }

    pub(super) fn send_refusal(&self, header: &FrameHeader, refusal: &Refusal) {
        self.core.counters.refused(refusal.status);
        let answer = FrameHeader::answer(header.op, header.request_id, refusal.status);
        self.send_bytes(answer, refusal.detail().encode());
    }
}
