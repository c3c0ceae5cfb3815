//! Gets that the memory tier answers: without a task of their own, all that came together at once.
//!
//! Where an object lies in memory is a chain of addresses, each of which has to come before the next can be
//! asked for, and hardly any is in a cache. So all chains are walked first, one short step after the other: the
//! processor waits for those of many gets at the same time. The answers then find everything at hand.

use std::rc::Rc;
use std::sync::Arc;

use hedgerow_wire::frame::{FrameHeader, Op};
use hedgerow_wire::part::PartKind;
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Key, Record};
use smallvec::SmallVec;

use super::clock;
use super::connection::Connection;
use super::core::Core;
use super::home::{self, ReadCall, StripeInMemory};
use super::incoming::Ended;
use super::request::{read_call, send_from_memory};
use super::stages::{self, Stage};

/// A get whose home is this core.
pub struct MemoryGet {
    header: FrameHeader,
    call: ReadCall,
    received: Timestamp,
    in_memory: bool,
}

impl MemoryGet {
    /// If the get's home is this core. Else its header and key are given back.
    pub fn new(
        core: &Core,
        header: FrameHeader,
        key: Key,
        received: Timestamp,
    ) -> Result<MemoryGet, (FrameHeader, Key)> {
        let call = read_call(&header, key, received);
        if core.shared.home(call.name.hash) != core.id {
            return Err((header, call.name.key));
        }
        Ok(MemoryGet { header, call, received, in_memory: false })
    }
}

/// Finds out which of `gets` ask for an object of which all is held, and looks at what their answers will look at.
/// What is not found here is looked up again by the get's own task, and counted there.
fn walk(core: &Core, gets: &mut [MemoryGet]) {
    let memory = core.memory.borrow();
    let peek = |get: &MemoryGet| memory.peek(get.call.name.hash, Record::OBJECT);
    let held: SmallVec<[Option<&StripeInMemory>; 32]> = gets.iter().map(peek).collect();
    for (get, held) in gets.iter_mut().zip(&held) {
        get.in_memory = held.is_some_and(|StripeInMemory { meta, .. }| {
            // The count is that of all who hold it; what matters is where it lies.
            Arc::strong_count(meta) > 0
                && meta.kind != PartKind::Head
                && meta.namespace == get.call.name.namespace
                && meta.key == get.call.name.key
        });
    }
    for held in held.into_iter().flatten() {
        std::hint::black_box(held.bytes.as_ref().first().copied());
    }
}

/// Answers those of `gets` that can be at once, in their order; for the others tasks are started.
pub fn answer(connection: &Rc<Connection>, gets: &mut [MemoryGet]) -> Result<(), Ended> {
    let core = &connection.core;
    let _stage = stages::enter(Stage::Memory);
    walk(core, gets);
    let now = clock::now();
    let mut answered = SmallVec::<[Timestamp; 64]>::new();
    for MemoryGet { header, call, received, in_memory } in gets {
        if !connection.may_begin(header)? {
            continue;
        }
        let at_once = *in_memory && connection.has_room();
        match at_once.then(|| home::find_in_memory(core, call, now)).flatten() {
            Some(Ok(found)) => {
                send_from_memory(connection, header, found);
                answered.push(*received);
            }
            _ => connection.start_get(header.clone(), call.name.key.clone(), *received),
        }
    }
    let done = clock::timestamp();
    answered.iter().for_each(|&received| core.counters.latency(Op::Get, done.since(received)));
    Ok(())
}
