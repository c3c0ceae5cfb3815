//! One value of every message, with no field at its default.

use hedgerow_wire::frame::Status;
use hedgerow_wire::messages::*;
use hedgerow_wire::part::PartKind;
use hedgerow_wire::*;

pub fn version() -> Version {
    Version { hlc: 0x1122_3344_5566_7788, coordinator: 0x99aa }
}

pub fn key() -> Key {
    Key::new(b"photos/1.jpg").unwrap()
}

pub fn topology() -> Topology {
    let place = |shard| ShardPlace { shard, domain: 7 + u32::from(shard), weight: 100 };
    Topology {
        epoch: 5,
        members: vec![MemberInfo {
            member: Member(1),
            state: MemberState::Joining,
            name: "alder".into(),
            address: "127.0.0.1:7070".into(),
            shards: vec![place(0), place(1)],
        }],
    }
}

pub fn hello_request() -> HelloRequest {
    HelloRequest { credentials: vec![1, 2, 3], ..HelloRequest::new("thrush") }
}

pub fn hello_answer() -> HelloAnswer {
    HelloAnswer {
        daemon_id: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
        version: 1,
        features: features::STREAMS | features::PARTS,
        build: "0.1.0".into(),
        code: Code::new(4, 2).unwrap(),
        limits: Limits::of_protocol(16 << 10, 1024),
        topology: topology(),
    }
}

pub fn stat_answer() -> StatAnswer {
    let part = |number: u8, state| StatPart {
        target: Target { member: Member(1), shard: u16::from(number) },
        state,
        part: number,
        version: version(),
        slab: 3,
        slab_generation: 9,
        offset: 4096,
        len: 25_000,
    };
    StatAnswer {
        namespace: Namespace(2),
        key: key(),
        version: version(),
        kind: PartKind::Sole,
        object_len: 100_000,
        stripe_size: 1 << 20,
        code: Code::new(4, 2).unwrap(),
        created_ms: 1_700_000_000_000,
        expires_ms: 1_800_000_000_000,
        checksum: ObjectChecksum::crc32c(0xdead_beef),
        pinned: true,
        confirmed: true,
        from_memory: true,
        tags: vec![3, b'r', b'e', b'd'],
        records: vec![StatRecord {
            record: Record::stripe(0),
            stripe_len: 100_000,
            code: Code::new(4, 2).unwrap(),
            parts: PartState::ALL.iter().enumerate().map(|(i, &state)| part(i as u8 + 1, state)).collect(),
        }],
    }
}

pub fn stats_answer() -> StatsAnswer {
    let labels = vec![Label { name: "op".into(), value: "get".into() }];
    StatsAnswer {
        uptime_ms: 1234,
        build: "0.1.0".into(),
        counters: vec![
            Counter { labels: labels.clone(), ..Counter::new("requests", 17) },
            Counter::new("hedges", 3),
        ],
        histograms: vec![HistogramSummary {
            name: "latency".into(),
            labels,
            count: 17,
            p50_ns: 80_000,
            p99_ns: 400_000,
            p999_ns: 900_000,
            max_ns: 1_000_000,
        }],
        shards: vec![ShardStats {
            shard: 1,
            state: ShardState::SetAside,
            path: "/data/slab-1".into(),
            domain: 7,
            capacity_bytes: 1 << 30,
            used_bytes: 1 << 29,
            parts: 1000,
            reads: 11,
            writes: 12,
            read_bytes: 13,
            written_bytes: 14,
            evicted_parts: 15,
            damaged_parts: 16,
            io_errors: 17,
            in_flight: 18,
            reason: "the superblock cannot be read".into(),
        }],
    }
}

pub fn error_detail() -> ErrorDetail {
    ErrorDetail {
        status: Status::BadRequest,
        message: "a get has no body".into(),
        field: "body_len".into(),
        value: 17,
    }
}

pub fn faults() -> Vec<Fault> {
    let shard = FaultPlace::Shard(2);
    let kinds = [
        (shard, FaultKind::Delay { delay_us: 20_000 }),
        (shard, FaultKind::Stall { stall_ms: 500 }),
        (shard, FaultKind::Error),
        (shard, FaultKind::Damage),
        (shard, FaultKind::Full),
        (shard, FaultKind::Vanish),
        (shard, FaultKind::DelayExponential { mean_us: 20_000 }),
        (shard, FaultKind::DelayUniform { min_us: 0, max_us: 40_000 }),
        (shard, FaultKind::Torn),
        (FaultPlace::Connections, FaultKind::Delay { delay_us: 1 }),
        (FaultPlace::Peer("127.0.0.1:4711".parse().unwrap()), FaultKind::Vanish),
        (FaultPlace::Peer("[::1]:0".parse().unwrap()), FaultKind::Cut { after_bytes: 0 }),
    ];
    kinds.map(|(place, kind)| Fault { place, kind, share_ppm: 250_000, duration_ms: 60_000 }).to_vec()
}

pub fn fault_answer() -> FaultAnswer {
    let active = |(i, fault)| ActiveFault { id: i as u64 + 1, fault, remaining_ms: 59_000, hits: 4 };
    FaultAnswer { id: 8, faults: faults().into_iter().enumerate().map(active).collect() }
}

pub fn verify_request() -> VerifyRequest {
    VerifyRequest { shard: 2, cursor: 0x0102_0304, parts_max: 256 }
}

pub fn verify_answer() -> VerifyAnswer {
    let damaged = |key| DamagedPart {
        namespace: Namespace(2),
        key,
        record: Record(1),
        part: 3,
        version: version(),
        slab: 4,
        offset: 8192,
        why: "payload checksum".into(),
    };
    VerifyAnswer {
        next_cursor: 0x0102_0404,
        parts_checked: 256,
        bytes_checked: 1 << 22,
        damaged: vec![damaged(Some(key())), damaged(None)],
        finished: true,
        parts_done: 512,
        parts_total: 1000,
    }
}
