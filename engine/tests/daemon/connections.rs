//! Connections that send nothing, or too little, or do not take what they asked for: bounded memory, and
//! nobody else notices.

use std::net::TcpStream;

use hedgerow_client::Client;
use hedgerow_wire::frame::{FrameHeader, Op};

use crate::content::content;
use crate::harness::{Setup, counter, eventually};
use crate::raw::{Raw, frame, get, key, put, request};

/// Descriptors that the test process leaves for everything else.
const DESCRIPTORS_SPARE: u64 = 1000;

/// As many descriptors as are allowed.
fn raise_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    limit.current.unwrap_or(u64::MAX)
}

async fn served(client: &Client) {
    let object = client.get("bystander").await.unwrap().unwrap();
    assert!(object.bytes == content(1, 100_000));
}

#[tokio::test]
async fn ten_thousand_connections_that_send_nothing_and_slow_ones() {
    let allowed = raise_limit().saturating_sub(DESCRIPTORS_SPARE);
    let count = allowed.min(10_000) as usize;
    println!("{count} connections (10000 wanted, {allowed} allowed)");
    let setup = Setup::new("2+1").two_cores();
    let mut daemon = setup.start();
    let client = daemon.client().await;
    client.put("bystander", content(1, 100_000)).await.unwrap();
    let before = daemon.resident_bytes();
    let silent: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(daemon.address).unwrap()).collect();
    // A header that never ends, and a body that never comes.
    let mut slow = Raw::greeted(daemon.address);
    let unfinished = frame(&get(5), Some(&key("bystander")), &[]);
    slow.send_bytes(&unfinished[..50]);
    let mut announced = Raw::greeted(daemon.address);
    announced.send_bytes(
        &frame(&put(5, &content(2, 1 << 20)), Some(&key("announced")), &content(2, 1 << 20))[..300],
    );
    let most = std::cell::Cell::new(0);
    eventually("all are taken", || async {
        let taken = counter(&client, "connections").await;
        if most.replace(taken.max(most.get())) < taken {
            println!("{taken} are taken");
        }
        (taken >= count as u64 + 3).then_some(())
    })
    .await;
    let per_connection = daemon.resident_bytes().saturating_sub(before) / count as u64;
    println!("{per_connection} bytes of resident memory for each");
    assert!(per_connection < 32 << 10, "{per_connection} bytes for a connection that sends nothing");
    served(&client).await;
    // A slow client sends a byte now and then; that does not keep its frame alive.
    let mut next = 50;
    eventually("the silent and the slow are let go", || {
        if next < 100 {
            let _ = slow.try_send_bytes(&unfinished[next..next + 1]);
            next += 1;
        }
        let client = &client;
        async move {
            served(client).await;
            (counter(client, "connections").await == 1).then_some(())
        }
    })
    .await;
    slow.expect_closed();
    assert!(client.get("announced").await.unwrap().is_none());
    assert_eq!(counter(&client, "request_body_bytes").await, 0);
    assert!(daemon.alive());
    drop(silent);
}

#[tokio::test]
async fn bodies_that_are_announced_and_never_sent_hold_no_memory() {
    let setup = Setup::new("2+1").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("bystander", content(1, 100_000)).await.unwrap();
    let before = daemon.resident_bytes();
    let body = content(2, 1 << 20);
    let mut held = Vec::new();
    for number in 0..2000u64 {
        let mut raw = Raw::greeted(daemon.address);
        // In turn: a stripe, the beginning of a large stream, another member's part.
        let bytes = match number % 3 {
            0 => frame(&put(5, &body), Some(&key("announced")), &body),
            1 => {
                let first = FrameHeader { flags: 0, object_len: 64 << 20, ..request(Op::Put, 5) };
                frame(&first, Some(&key("announced")), &body)
            }
            _ => frame(&request(Op::PartWrite, 5), None, &body),
        };
        raw.send_bytes(&bytes[..200]);
        held.push(raw);
    }
    let grown = daemon.resident_bytes().saturating_sub(before);
    println!("{} bytes of resident memory for each", grown / held.len() as u64);
    assert!(grown < 256 << 20, "{} MiB for bodies that never came", grown >> 20);
    served(&client).await;
    // The bodies on their way are bounded; what is beyond is refused, and others can still write.
    drop(held);
    eventually("all are gone", || async {
        (counter(&client, "request_body_bytes").await == 0).then_some(())
    })
    .await;
    client.put("after", "it").await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answers_is_held_back() {
    let setup = Setup::new("2+1").memory("64M").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("bystander", content(1, 100_000)).await.unwrap();
    client.put("stripe", content(2, 1 << 20)).await.unwrap();
    let before = daemon.resident_bytes();
    let mut greedy = Vec::new();
    for _ in 0..10 {
        let mut raw = Raw::greeted(daemon.address);
        let mut bytes = Vec::new();
        for id in 1..=1000 {
            bytes.extend(frame(&get(id), Some(&key("stripe")), &[]));
        }
        raw.send_bytes(&bytes);
        greedy.push(raw);
    }
    eventually("they are held back", || async {
        served(&client).await;
        (counter(&client, "gets_from_memory").await > 50).then_some(())
    })
    .await;
    let grown = daemon.resident_peak_bytes().saturating_sub(before);
    println!("{} MiB more for 10 GiB that nobody takes", grown >> 20);
    assert!(grown < 1 << 30, "{} MiB", grown >> 20);
    // One of them takes everything after all.
    let mut raw = greedy.pop().unwrap();
    let mut ids = std::collections::BTreeSet::new();
    while ids.len() < 1000 {
        let frame = raw.receive().unwrap();
        assert_eq!(frame.header.op, Op::Get);
        assert_eq!(frame.body.len(), 1 << 20, "{:?}", frame.header.status);
        ids.insert(frame.header.request_id);
    }
    drop(greedy);
    eventually("the others are gone", || async {
        (counter(&client, "connections").await == 2).then_some(())
    })
    .await;
}

/// Far more of them than the core may hold answers for: memory stays bounded, and others are served all the time.
#[tokio::test]
async fn slow_readers_are_in_nobodys_way() {
    const READERS: usize = 800;
    let allowed = raise_limit().saturating_sub(DESCRIPTORS_SPARE) as usize;
    let setup = Setup::new("2+1").memory("64M");
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("bystander", content(1, 100_000)).await.unwrap();
    client.put("large", content(2, 8 << 20)).await.unwrap();
    let before = daemon.resident_bytes();
    let mut readers = Vec::new();
    for _ in 0..READERS.min(allowed) {
        let mut raw = Raw::greeted(daemon.address);
        raw.send(&FrameHeader { deadline_budget_us: 60_000_000, ..get(7) }, Some(&key("large")), &[]);
        raw.send(&FrameHeader { credit: 8 << 20, ..FrameHeader::request(Op::Credit, 7) }, None, &[]);
        readers.push(raw);
        if readers.len().is_multiple_of(50) {
            served(&client).await;
        }
    }
    for _ in 0..200 {
        served(&client).await;
    }
    let grown = daemon.resident_peak_bytes().saturating_sub(before);
    println!(
        "{} MiB more for {} slow readers, {} let go",
        grown >> 20,
        readers.len(),
        counter(&client, "connections_shed").await
    );
    assert!(grown < 900 << 20, "{} MiB", grown >> 20);
    drop(readers);
    served(&client).await;
}

/// Streams that wait for credit hold nothing: others of the same connection pass.
#[tokio::test]
async fn streams_without_credit_are_in_nobodys_way() {
    const STREAMS: u64 = 40;
    let setup = Setup::new("2+1").two_cores();
    let daemon = setup.start();
    let client = daemon.client().await;
    client.put("bystander", content(1, 9)).await.unwrap();
    let large = content(2, 8 << 20);
    client.put("large", large.clone()).await.unwrap();
    let credit = hedgerow_wire::limits::STREAM_CREDIT_INITIAL_BYTES as usize;
    let mut raw = Raw::greeted(daemon.address);
    for id in 10..10 + STREAMS {
        raw.send(&FrameHeader { deadline_budget_us: 60_000_000, ..get(id) }, Some(&key("large")), &[]);
    }
    let mut came = 0;
    while came < STREAMS as usize * credit {
        let frame = raw.expect_get();
        let at = frame.header.offset as usize;
        assert!(frame.body == large[at..at + frame.body.len()]);
        came += frame.body.len();
    }
    // All of them have spent their credit.
    raw.send(&get(5), Some(&key("bystander")), &[]);
    let small = raw.expect_get();
    assert_eq!((small.header.request_id, &small.body[..]), (5, &content(1, 9)[..]));
    // One that gets more goes on to its end.
    let grant = FrameHeader { credit: 4 << 20, ..FrameHeader::request(Op::Credit, 17) };
    raw.send(&grant, None, &[]);
    let mut rest = Vec::new();
    while credit + rest.len() < large.len() {
        let frame = raw.expect_get();
        assert_eq!((frame.header.request_id, frame.header.offset as usize), (17, credit + rest.len()));
        rest.extend(frame.body);
    }
    assert!(rest == large[credit..]);
}

/// The linker has wrapped the functions through which the runtime sets up its rings; the kernel has taken the flag
/// (Linux 5.19 and later), and the advice if it knows large pages.
#[tokio::test]
async fn the_rings_of_the_runtime_are_set_up_as_they_should() {
    let setup = Setup::new("1+1");
    let daemon = setup.start();
    let client = daemon.client().await;
    let rings = counter(&client, "runtime_rings").await;
    assert!(rings > 0, "not wrapped");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> =
        release.split(['.', '-']).map_while(|number| number.trim().parse().ok()).collect();
    if numbers >= vec![5, 19] {
        assert_eq!(counter(&client, "runtime_rings_cooperative").await, rings);
    }
    if std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        assert!(counter(&client, "runtime_large_page_bytes").await > 0);
    }
}
