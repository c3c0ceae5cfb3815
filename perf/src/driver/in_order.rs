//! What protocols have in common that answer in the order of the requests with lines of text and bodies
//! of announced length: [`InOrder`] keeps the order, the lines and the bodies, a [`Grammar`] the words.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};
use hedgerow_wire::frame::Status;

use super::Driver;
use crate::pattern::Checker;
use crate::request::{Answer, Kind, Request};

/// Longest line that is understood, in bytes.
const LINE_LEN_MAX: usize = 16 << 10;
/// What is kept of a body that is not an object's (a message of an error), in bytes.
const MESSAGE_LEN_MAX: usize = 256;

/// What follows a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// Another line.
    Line,
    /// A body, and so many bytes after it that say nothing; then the answer is complete.
    Body { len: u64, trailer: u64 },
    /// Nothing: the answer is complete.
    End,
}

/// The words of a protocol.
pub trait Grammar: Send {
    /// Appends what asks for it.
    fn encode(&self, request: &Request, checker: &Checker, out: &mut Vec<u8>);
    /// Takes one line of an answer, without its end. Sets the answer's status.
    fn line(&mut self, line: &[u8], answer: &mut Answer) -> Result<Then>;
    /// What is answered to a request for `length` bytes from `offset`: an offset and a length.
    fn served(&self, request: &Request) -> (u64, u64) {
        match request.kind {
            Kind::Get { offset, length } => (offset, length),
            _ => (0, 0),
        }
    }
}

enum State {
    Line,
    Body { at: u64, left: u64, trailer: u64 },
    Trailer { left: u64 },
}

/// A driver of such a protocol.
pub struct InOrder<G> {
    grammar: G,
    waiting: VecDeque<Answer>,
    state: State,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
}

impl<G: Grammar> InOrder<G> {
    /// Nothing is under way.
    pub fn new(grammar: G) -> InOrder<G> {
        InOrder { grammar, waiting: VecDeque::new(), state: State::Line, line: Vec::new() }
    }

    /// Takes what `input` has of a line. What it leads to, if its end was there.
    fn take_line(&mut self, input: &mut &[u8]) -> Result<Option<Then>> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let (bytes, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
        *input = rest;
        ensure!(self.line.len() + bytes.len() <= LINE_LEN_MAX, "a line of more than {LINE_LEN_MAX} bytes");
        self.line.extend_from_slice(bytes);
        if end.is_none() {
            return Ok(None);
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let answer = self.waiting.front_mut();
        let answer = answer.with_context(|| format!("'{}' answers nothing", line.escape_ascii()))?;
        let then = self.grammar.line(line, answer)?;
        self.line.clear();
        Ok(Some(then))
    }

    /// Takes what `input` has of a body.
    fn take_body(&mut self, at: u64, left: u64, input: &mut &[u8], checker: &Checker) {
        let (bytes, rest) = input.split_at(left.min(input.len() as u64) as usize);
        *input = rest;
        let Some(answer) = self.waiting.front_mut() else { return };
        match answer.request.kind {
            Kind::Get { .. } if answer.status == Status::Ok => {
                answer.wrong |= !checker.is_right(answer.request.seed(), at, bytes);
                answer.bytes += bytes.len() as u64;
            }
            _ => {
                let room = MESSAGE_LEN_MAX.saturating_sub(answer.body.len()).min(bytes.len());
                answer.body.extend_from_slice(&bytes[..room]);
            }
        }
    }

    fn complete(&mut self, done: &mut Vec<Answer>) {
        let Some(mut answer) = self.waiting.pop_front() else { return };
        match answer.request.kind {
            Kind::Get { length, .. } if answer.status == Status::Ok => {
                answer.wrong |= answer.bytes != self.grammar.served(&answer.request).1;
                // A protocol without ranges answers with more than was asked for.
                answer.bytes = answer.bytes.min(length);
            }
            Kind::Put if answer.status == Status::Ok => answer.bytes = answer.request.object_len,
            _ => {}
        }
        done.push(answer);
    }
}

impl<G: Grammar> Driver for InOrder<G> {
    fn send(&mut self, answer: Answer, checker: &Checker, out: &mut Vec<u8>) {
        self.grammar.encode(&answer.request, checker, out);
        self.waiting.push_back(answer);
    }

    fn receive(
        &mut self,
        mut input: &[u8],
        checker: &Checker,
        _: &mut Vec<u8>,
        done: &mut Vec<Answer>,
    ) -> Result<()> {
        while !input.is_empty() {
            match self.state {
                State::Line => match self.take_line(&mut input)? {
                    None | Some(Then::Line) => {}
                    Some(Then::End | Then::Body { len: 0, trailer: 0 }) => self.complete(done),
                    Some(Then::Body { len, trailer }) => {
                        let first = self.waiting.front();
                        let at = first.map_or(0, |answer| self.grammar.served(&answer.request).0);
                        self.state = State::Body { at, left: len, trailer };
                    }
                },
                State::Body { left: 0, trailer: 0, .. } | State::Trailer { left: 0 } => {
                    unreachable!("completed when its last byte came")
                }
                State::Body { left: 0, trailer, .. } => self.state = State::Trailer { left: trailer },
                State::Body { at, left, trailer } => {
                    let before = input.len();
                    self.take_body(at, left, &mut input, checker);
                    let taken = (before - input.len()) as u64;
                    if taken == left && trailer == 0 {
                        self.state = State::Line;
                        self.complete(done);
                    } else {
                        self.state = State::Body { at: at + taken, left: left - taken, trailer };
                    }
                }
                State::Trailer { left } => {
                    let taken = left.min(input.len() as u64);
                    input = &input[taken as usize..];
                    self.state = State::Trailer { left: left - taken };
                    if taken == left {
                        self.state = State::Line;
                        self.complete(done);
                    }
                }
            }
        }
        Ok(())
    }

    fn under_way(&self) -> usize {
        self.waiting.len()
    }

    fn abandon(self: Box<Self>) -> Vec<Answer> {
        self.waiting.into()
    }
}

/// A decimal number, all of it.
pub fn number(text: &[u8]) -> Result<u64> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.with_context(|| format!("'{}' is no number", text.escape_ascii()))
}
