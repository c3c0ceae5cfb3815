//! Peers of other versions of the protocol, and shards of other versions of the format: spoken to, or refused with what
//! a person needs; never taken for what they are not.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use hedgerow_client::messages::{HelloAnswer, HelloRequest, Message, ShardState, features};
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::frame::{Op, PROTOCOL_VERSION, Status, layout};

use crate::content::content;
use crate::harness::{Setup, shard_stats};
use crate::raw::{Raw, frame, get, key, put, request, reseal};

const BLOCK: usize = 4096;
/// Offsets in a superblock, a slab header and a trailer alike.
const FORMAT: usize = 8;
const CHECKSUM: usize = 12;

#[tokio::test]
async fn a_hello_settles_the_highest_version_that_both_speak_or_says_that_there_is_none() {
    let setup = Setup::new("2+1");
    let mut daemon = setup.start();
    let hello = |min, max| HelloRequest { version_min: min, version_max: max, ..HelloRequest::new("test") };
    for (min, max) in [(1, 1), (1, 2), (1, 255)] {
        let mut raw = Raw::connect(daemon.address);
        // Feature bits that nobody knows yet.
        let request_body = HelloRequest { features: u64::MAX, ..hello(min, max) }.encode().unwrap();
        raw.send(&request(Op::Hello, 1), None, &request_body);
        let answer = HelloAnswer::decode(&raw.expect(Op::Hello, 1, Status::Ok).body).unwrap();
        assert_eq!(answer.version, PROTOCOL_VERSION, "{min} to {max}");
        assert_eq!(answer.features & !features::KNOWN, 0, "{min} to {max}");
        raw.send(&put(2, &content(1, 1000)), Some(&key("object")), &content(1, 1000));
        raw.expect(Op::Put, 2, Status::Ok);
        raw.send(&get(3), Some(&key("object")), &[]);
        assert_eq!(raw.expect(Op::Get, 3, Status::Ok).body, content(1, 1000), "{min} to {max}");
    }
    for (min, max) in [(2, 2), (2, 255), (255, 255)] {
        let mut raw = Raw::connect(daemon.address);
        raw.send(&request(Op::Hello, 1), None, &hello(min, max).encode().unwrap());
        let message = raw.expect(Op::Hello, 1, Status::Unsupported).detail().message;
        let expected = format!("the client speaks protocol versions {min} to {max}, this daemon 1");
        assert_eq!(message, expected);
        // Whoever goes on all the same is not served.
        raw.send(&get(2), Some(&key("object")), &[]);
        raw.expect(Op::Get, 2, Status::BadRequest);
        raw.expect_closed();
    }
    assert!(daemon.alive());
}

#[tokio::test]
async fn a_frame_of_another_version_is_refused_before_the_rest_of_it_has_come() {
    let setup = Setup::new("2+1");
    let mut daemon = setup.start();
    for version in [0, 2, 255] {
        let mut bytes = frame(&request(Op::Hello, 1), None, &HelloRequest::new("test").encode().unwrap());
        bytes[layout::VERSION] = version;
        reseal(&mut bytes);
        for len in [layout::VERSION + 1, bytes.len()] {
            let mut raw = Raw::connect(daemon.address);
            raw.send_bytes(&bytes[..len]);
            let message = raw.expect(Op::Hello, 0, Status::Unsupported).detail().message;
            assert_eq!(message, format!("protocol version {version}, this side speaks 1"));
            raw.expect_closed();
        }
    }
    assert!(daemon.alive());
}

/// Gives a block of a file another format, its checksum right.
fn reformat(path: &Path, offset: u64, format: u32) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut block = vec![0; BLOCK];
    file.read_exact_at(&mut block, offset).unwrap();
    block[FORMAT..CHECKSUM].copy_from_slice(&format.to_le_bytes());
    block[CHECKSUM..CHECKSUM + 4].fill(0);
    let checksum = crc32c(&block);
    block[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
    file.write_all_at(&block, offset).unwrap();
}

fn first_blocks(path: &Path) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    File::open(path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[tokio::test]
async fn a_shard_of_another_format_is_set_aside_by_name_and_left_as_it_is() {
    let setup = Setup::new("2+1");
    let mut daemon = setup.start();
    daemon.client().await.put("object", content(1, 100_000)).await.unwrap();
    for format in [0, 2, u32::MAX] {
        daemon.stop();
        let shard = setup.shard(1);
        let good = first_blocks(&shard);
        // One copy is enough: an older daemon may have written the others, and a newer one this.
        reformat(&shard, BLOCK as u64, format);
        let changed = first_blocks(&shard);
        daemon = setup.start();
        let client = daemon.client().await;
        let stats = shard_stats(&client, 1).await;
        assert_eq!(stats.state, ShardState::SetAside, "format {format}");
        let expected = format!("the device has format {format}, this daemon reads 1");
        assert!(stats.reason.contains(&expected), "'{}' does not say '{expected}'", stats.reason);
        assert_eq!(client.get("object").await.unwrap().unwrap().bytes, content(1, 100_000));
        daemon.stop();
        assert!(first_blocks(&shard) == changed, "a shard of format {format} was written to");
        OpenOptions::new().write(true).open(&shard).unwrap().write_all_at(&good, 0).unwrap();
        daemon = setup.start();
    }
    assert!(daemon.alive());
}
