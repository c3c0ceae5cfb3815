//! Requests of administration: hello, stat, stats, verification. Off the data path; they may
//! allocate and visit every core.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use hedgerow_wire::frame::{FrameHeader, Op, PROTOCOL_VERSION, Status};
use hedgerow_wire::messages::{
    Counter, HelloAnswer, HelloRequest, HistogramSummary, Label, Limits, MemberInfo, MemberState, Message,
    ShardPlace, ShardState, ShardStats, StatAnswer, StatPart, StatRecord, StatsAnswer, Topology,
    VerifyRequest, choose_version, features,
};
use hedgerow_wire::part::PartKind;
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Member, Version};

use super::buffers::PartBytes;
use super::clock;
use super::connection::Connection;
use super::core::{Core, Shared};
use super::faults;
use super::home::{Call, PartPosition, ReadCall, RecordPosition, RecordReply, Reply};
use super::limits::CONNECTION_REQUESTS_MAX;
use super::oneshot;
use super::outgoing::Body;
use super::rings;
use super::shard::Shard;
use super::stages;
use super::stats::{TIMED, coordinator_counters, store_counters};

/// The build, for people.
pub const BUILD: &str = concat!("hedgerowd ", env!("CARGO_PKG_VERSION"));

/// Runs `job` on `core` and waits for what it gives.
pub async fn on_core<T: Send + 'static>(
    here: &Rc<Core>,
    core: usize,
    job: impl FnOnce(&Rc<Core>) -> T + Send + 'static,
) -> Option<T> {
    if core == here.id {
        return Some(job(here));
    }
    on_core_async(here, core, move |there| async move { job(&there) }).await
}

/// Runs what `job` gives on `core` and waits for its result.
pub async fn on_core_async<T, F>(
    here: &Rc<Core>,
    core: usize,
    job: impl FnOnce(Rc<Core>) -> F + Send + 'static,
) -> Option<T>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let number = here.waiting.insert(sender);
    let back = here.id;
    here.run_on(core, move |there| {
        let there = there.clone();
        there.clone().spawn(async move {
            let result = job(there.clone()).await;
            there.run_on(back, move |here| here.waiting.give(number, result));
        });
    });
    receiver.await
}

/// Values on their way back from other cores, by number.
#[derive(Default)]
pub struct Waiting {
    next: std::cell::Cell<u64>,
    senders: RefCell<std::collections::HashMap<u64, Box<dyn std::any::Any>>>,
}

impl Waiting {
    fn insert<T: 'static>(&self, sender: oneshot::Sender<T>) -> u64 {
        let number = self.next.replace(self.next.get() + 1);
        self.senders.borrow_mut().insert(number, Box::new(sender));
        number
    }

    fn give<T: 'static>(&self, number: u64, value: T) {
        let sender = self.senders.borrow_mut().remove(&number);
        if let Some(sender) = sender.and_then(|sender| sender.downcast::<oneshot::Sender<T>>().ok()) {
            sender.send(value);
        }
    }
}

/// Answers with a message.
pub fn send_message(connection: &Connection, header: &FrameHeader, message: &impl Message) {
    match message.encode() {
        Ok(body) => {
            connection.send_bytes(FrameHeader::answer(header.op, header.request_id, Status::Ok), body);
        }
        Err(error) => {
            connection.send_error(header.op, header.request_id, Status::Internal, &error.to_string());
        }
    }
}

/// Reads the body of a request of administration; answers if it is wrong.
pub fn body_of<M: Message>(connection: &Connection, header: &FrameHeader, body: &[u8]) -> Option<M> {
    M::decode(body)
        .inspect_err(|error| {
            let message = error.to_string();
            connection.send_error(header.op, header.request_id, Status::BadRequest, &message);
        })
        .ok()
}

/// Answers a hello; whether both sides can speak.
pub fn hello(connection: &Connection, header: &FrameHeader, body: &[u8]) -> bool {
    let Some(request) = body_of::<HelloRequest>(connection, header, body) else { return false };
    if choose_version(request.version_min, request.version_max).is_none() {
        let message = format!(
            "the client speaks protocol versions {} to {}, this daemon {PROTOCOL_VERSION}",
            request.version_min, request.version_max
        );
        connection.send_error(Op::Hello, header.request_id, Status::Unsupported, &message);
        return false;
    }
    let shared = &connection.core.shared;
    let settings = &shared.settings;
    let mut offered = features::STREAMS | features::PARTS;
    if settings.allow_faults {
        offered |= features::FAULTS;
    }
    let shards = (0..settings.shards.len())
        .map(|shard| ShardPlace { shard: shard as u16, domain: shared.domains[shard], weight: 1 })
        .collect();
    let member = MemberInfo {
        member: Member(0),
        state: MemberState::ALL[0],
        name: "local".to_owned(),
        address: shared.address.to_string(),
        shards,
    };
    let answer = HelloAnswer {
        daemon_id: shared.daemon_id,
        version: PROTOCOL_VERSION,
        features: request.features & offered,
        build: BUILD.to_owned(),
        code: settings.code,
        limits: Limits::of_protocol(settings.min_part as u32, CONNECTION_REQUESTS_MAX as u32),
        topology: Topology { epoch: super::connection::TOPOLOGY_EPOCH, members: vec![member] },
    };
    send_message(connection, header, &answer);
    true
}

/// Answers a stat.
pub async fn stat(connection: &Rc<Connection>, header: &FrameHeader, read: ReadCall) {
    let home = connection.core.shared.home(read.name.hash);
    match connection.core.call(home, Call::Stat { read }).await {
        Reply::Stat { record, records } => {
            send_message(connection, header, &stat_answer(&record, &records));
        }
        Reply::Status(Status::NotFound) => {
            let answer = FrameHeader::answer(Op::Stat, header.request_id, Status::NotFound);
            connection.send(answer, Body::Empty, 0);
        }
        Reply::Status(status) => connection.send_error(Op::Stat, header.request_id, status, "no stat"),
        _ => connection.send_error(Op::Stat, header.request_id, Status::Internal, "no stat"),
    }
}

fn stat_answer(record: &RecordReply<PartBytes>, positions: &[RecordPosition]) -> StatAnswer {
    let meta = &record.meta;
    let records: Vec<StatRecord> = positions.iter().map(stat_record).collect();
    StatAnswer {
        namespace: meta.namespace,
        key: meta.key.clone(),
        version: meta.version,
        kind: meta.kind,
        object_len: meta.object_len,
        stripe_size: meta.stripe_size,
        code: records.get(usize::from(meta.kind == PartKind::Head)).map_or(meta.code, |r| r.code),
        created_ms: meta.created_ms,
        expires_ms: meta.expires_ms,
        checksum: meta.object_checksum,
        pinned: meta.pinned,
        confirmed: record.confirmed,
        from_memory: record.from_memory,
        tags: meta.tags.to_vec(),
        records,
    }
}

fn stat_record(position: &RecordPosition) -> StatRecord {
    let RecordPosition { record, stripe_len, code, .. } = *position;
    StatRecord { record, stripe_len, code, parts: position.parts.iter().map(stat_part).collect() }
}

fn stat_part(position: &PartPosition) -> StatPart {
    let PartPosition { target, meta, located, state } = position;
    StatPart {
        target: *target,
        state: *state,
        part: meta.as_ref().map_or(0, |meta| meta.part),
        version: meta.as_ref().map_or(Version::ZERO, |meta| meta.version),
        slab: located.map_or(0, |located| located.slab()),
        slab_generation: located.map_or(0, |located| located.slab_generation),
        offset: located.map_or(0, |located| located.slab_offset()),
        len: meta.as_ref().map_or(0, |meta| meta.part_len() as u32),
    }
}

/// What one core says of itself.
struct CoreStats {
    counters: Vec<(String, u64)>,
    latencies: [hdrhistogram::Histogram<u64>; TIMED.len()],
    shards: Vec<ShardStats>,
}

fn core_stats(core: &Rc<Core>) -> CoreStats {
    let mut counters = core.counters.list();
    counters.push(("connections".to_owned(), core.connections.count() as u64));
    counters.push(("connections_shed".to_owned(), core.connections.shed.get()));
    counters.push(("requests_under_way".to_owned(), core.connections.requests.get() as u64));
    counters.push(("request_body_bytes".to_owned(), core.bodies.held_bytes() as u64));
    counters.push(("request_bodies_let_go".to_owned(), core.bodies.let_go()));
    let memory = core.memory.borrow().stats();
    for (name, value) in [
        ("memory_hits", memory.hits),
        ("memory_misses", memory.misses),
        ("memory_fills", memory.fills),
        ("memory_fills_overtaken", memory.fills_overtaken),
        ("memory_replaced", memory.replaced),
        ("memory_refused", memory.refused),
        ("memory_invalidated", memory.invalidated),
        ("memory_evicted", memory.evicted),
        ("memory_items", memory.items),
        ("memory_bytes", memory.bytes),
        ("memory_capacity_bytes", memory.capacity_bytes),
    ] {
        counters.push((name.to_owned(), value));
    }
    counters.extend(stages::counters());
    counters.extend(coordinator_counters(&core.coordinator.borrow().stats()));
    let shards: Vec<ShardStats> =
        core.shards.borrow().values().map(|shard| shard_stats(core, shard)).collect();
    for shard in core.shards.borrow().values() {
        let stats = shard.store.borrow().stats();
        counters.extend(store_counters(&stats));
        counters.push(("shards_set_aside".to_owned(), u64::from(stats.set_aside)));
        counters.push(("shards_stuck".to_owned(), u64::from(stats.stuck)));
    }
    counters.extend(faults::requests::counters(core));
    CoreStats { counters, latencies: core.counters.latencies(), shards }
}

fn shard_stats(core: &Core, shard: &Shard) -> ShardStats {
    let stats = shard.store.borrow().stats();
    ShardStats {
        shard: shard.target.shard,
        state: if stats.set_aside { ShardState::SetAside } else { ShardState::Serving },
        path: shard.device.path().display().to_string(),
        domain: core.shared.domains[usize::from(shard.target.shard)],
        capacity_bytes: shard.device_len,
        used_bytes: (stats.slabs - stats.slabs_free) * (shard.device_len / stats.slabs.max(1)),
        parts: stats.parts,
        reads: stats.read_hits + stats.read_misses,
        writes: stats.parts_admitted,
        read_bytes: shard.read_bytes.get(),
        written_bytes: stats.bytes_written,
        evicted_parts: stats.parts_evicted,
        damaged_parts: stats.parts_damaged,
        io_errors: stats.read_errors + stats.write_errors,
        in_flight: shard.in_flight() as u32,
        reason: shard.set_aside_for(),
    }
}

/// Answers stats.
pub async fn stats(connection: &Rc<Connection>, header: &FrameHeader) {
    let core = &connection.core;
    let mut counters: Vec<(String, u64)> = Vec::new();
    let mut latencies: Option<[hdrhistogram::Histogram<u64>; TIMED.len()]> = None;
    let mut shards = Vec::new();
    for id in 0..core.shared.settings.cores.len() {
        let Some(stats) = on_core(core, id, core_stats).await else { continue };
        for (name, value) in stats.counters {
            match counters.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => counters.push((name, value)),
            }
        }
        shards.extend(stats.shards);
        match &mut latencies {
            None => latencies = Some(stats.latencies),
            Some(sums) => {
                for (sum, more) in sums.iter_mut().zip(&stats.latencies) {
                    // The bounds of all are the same constants.
                    let _ = sum.add(more);
                }
            }
        }
    }
    counters.extend(rings::counters());
    shards.extend(set_aside(&core.shared, &shards));
    shards.sort_by_key(|shard| shard.shard);
    let answer = StatsAnswer {
        uptime_ms: clock::timestamp().since(core.shared.started).as_millis() as u64,
        build: BUILD.to_owned(),
        counters: counters.iter().map(|(name, value)| Counter::new(name, *value)).collect(),
        histograms: latencies.iter().flatten().zip(TIMED).map(|(h, (_, name))| summary(name, h)).collect(),
        shards,
    };
    send_message(connection, header, &answer);
}

fn summary(name: &str, histogram: &hdrhistogram::Histogram<u64>) -> HistogramSummary {
    HistogramSummary {
        name: "request_latency".to_owned(),
        labels: vec![Label { name: "op".to_owned(), value: name.to_owned() }],
        count: histogram.len(),
        p50_ns: histogram.value_at_quantile(0.5),
        p99_ns: histogram.value_at_quantile(0.99),
        p999_ns: histogram.value_at_quantile(0.999),
        max_ns: histogram.max(),
    }
}

/// Shards that could not be opened: no core has them, but they are not to be forgotten.
fn set_aside(shared: &Shared, serving: &[ShardStats]) -> Vec<ShardStats> {
    let missing = shared
        .settings
        .shards
        .iter()
        .enumerate()
        .filter(|(number, _)| serving.iter().all(|shard| usize::from(shard.shard) != *number));
    missing
        .map(|(number, (path, size))| ShardStats {
            shard: number as u16,
            state: ShardState::SetAside,
            path: path.display().to_string(),
            domain: shared.domains[number],
            capacity_bytes: *size,
            used_bytes: 0,
            parts: 0,
            reads: 0,
            writes: 0,
            read_bytes: 0,
            written_bytes: 0,
            evicted_parts: 0,
            damaged_parts: 0,
            io_errors: 0,
            in_flight: 0,
            reason: shared.reasons.get().map_or_else(String::new, |reasons| reasons[number].clone()),
        })
        .collect()
}

/// Checks a run of a shard's parts.
pub async fn verify(connection: &Rc<Connection>, header: &FrameHeader, body: &[u8], deadline: Timestamp) {
    let Some(request) = body_of::<VerifyRequest>(connection, header, body) else { return };
    match super::verify::run(&connection.core, request, deadline).await {
        Ok(answer) => send_message(connection, header, &answer),
        Err(message) => {
            connection.send_error(Op::Verify, header.request_id, Status::BadRequest, &message);
        }
    }
}
