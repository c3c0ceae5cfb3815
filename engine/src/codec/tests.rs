use hedgerow_wire::checksum::crc32c;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;

fn code(k: usize, m: usize) -> Code {
    Code::new(k as u8, m as u8).unwrap()
}

/// `k` parts of `len` bytes that have no pattern.
fn data_parts(code: Code, len: usize) -> Vec<Vec<u8>> {
    let mut rng = SmallRng::seed_from_u64((code.k() * 1000 + len) as u64);
    (0..code.k()).map(|_| (0..len).map(|_| rng.random()).collect()).collect()
}

/// All parts of a stripe, as `codec` encodes it.
fn encoded(codec: &mut Codec, code: Code, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut parity = vec![vec![0xAA; data[0].len()]; code.m()];
    let mut buffers: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    codec.encode(code, &data.concat(), &mut buffers).unwrap();
    data.iter().cloned().chain(parity).collect()
}

/// Asserts that `codec` rebuilds the parts `want` of `parts` from the parts `have`.
fn check_rebuild(codec: &mut Codec, code: Code, parts: &[Vec<u8>], have: &[u8], want: &[u8]) {
    let given: Vec<(u8, &[u8])> = have.iter().map(|&part| (part, &parts[usize::from(part)][..])).collect();
    let mut buffers = vec![vec![0x55; parts[0].len()]; want.len()];
    let mut asked: Vec<(u8, &mut [u8])> =
        want.iter().copied().zip(buffers.iter_mut().map(|b| &mut b[..])).collect();
    codec.reconstruct(code, &given, &mut asked).unwrap();
    for (&part, bytes) in want.iter().zip(&buffers) {
        assert!(*bytes == parts[usize::from(part)], "{code}: part {part} from {have:?} is wrong");
    }
    let rebuilt = codec.rebuild(code, parts[0].len(), &given, want).unwrap();
    assert!(rebuilt[..] == buffers[..], "{code}: {want:?} from {have:?} in memory of its own");
}

fn numbers(mask: u32) -> Vec<u8> {
    (0..32).filter(|bit| mask >> bit & 1 == 1).collect()
}

/// Every kernel that this processor can run.
fn codecs() -> Vec<Codec> {
    ["scalar", "ssse3", "avx2", "gfni", "neon"]
        .iter()
        .filter_map(|name| rusty_erasure::kernels_named(name))
        .map(Codec::with_kernels)
        .collect()
}

#[test]
fn every_loss_pattern_of_every_small_code() {
    let mut codec = Codec::new();
    for n in 1..=8 {
        for k in 1..=n {
            let code = code(k, n - k);
            let parts = reference::encode(code, &data_parts(code, 37));
            assert_eq!(encoded(&mut codec, code, &parts[..k]), parts, "{code}");
            for have in (0u32..1 << n).filter(|have| have.count_ones() as usize >= k) {
                let lost = !have & ((1 << n) - 1);
                check_rebuild(&mut codec, code, &parts, &numbers(have), &numbers(lost));
                if have.count_ones() as usize == k {
                    let given: Vec<_> =
                        numbers(have).into_iter().map(|p| (p, parts[usize::from(p)].clone())).collect();
                    assert_eq!(reference::reconstruct(code, &given), parts, "{code} from {given:?}");
                }
            }
        }
    }
}

#[test]
fn every_wanted_set_of_every_loss_pattern_of_4_2() {
    let mut codec = Codec::new();
    let code = code(4, 2);
    let parts = reference::encode(code, &data_parts(code, 33));
    for have in (0u32..64).filter(|have| have.count_ones() >= 4) {
        for want in 0u32..64 {
            check_rebuild(&mut codec, code, &parts, &numbers(have), &numbers(want));
        }
    }
}

/// Random loss patterns of one code, in random order, against the reference.
fn check_random_losses(codec: &mut Codec, code: Code, len: usize, rounds: usize, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let parts = reference::encode(code, &data_parts(code, len));
    assert!(encoded(codec, code, &parts[..code.k()]) == parts, "{code}: parity is wrong");
    for _ in 0..rounds {
        let mut order: Vec<u8> = (0..code.n()).map(|part| part as u8).collect();
        order.shuffle(&mut rng);
        let have = rng.random_range(code.k()..=code.n());
        let mut want = order.clone();
        want.shuffle(&mut rng);
        want.truncate(rng.random_range(0..=code.n()));
        check_rebuild(codec, code, &parts, &order[..have], &order[have..]);
        check_rebuild(codec, code, &parts, &order[..have], &want);
    }
}

#[test]
fn random_losses_of_large_codes() {
    let codes = [(10, 4), (17, 3), (20, 12), (28, 4), (32, 1), (31, 33), (64, 16), (2, 253), (100, 100)];
    let mut codec = Codec::new();
    for (seed, &(k, m)) in (1..).zip(&codes) {
        check_random_losses(&mut codec, code(k, m), 41, 30, seed);
    }
    for (seed, &(k, m)) in (100..).zip(&[(1, 254), (200, 55), (128, 127), (254, 1), (255, 0)]) {
        check_random_losses(&mut codec, code(k, m), 3, 4, seed);
    }
}

#[test]
fn every_kernel_and_every_length() {
    for codec in &mut codecs() {
        assert!(!codec.kernel().is_empty());
        for (k, m) in [(2, 1), (3, 3), (4, 2), (5, 1), (10, 4), (18, 7)] {
            for len in [0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 129, 200, 255, 256, 1001] {
                check_random_losses(codec, code(k, m), len, 3, len as u64);
            }
        }
    }
}

#[test]
fn parts_longer_than_a_block() {
    let mut codec = Codec::new();
    for (k, m, len) in [(4, 2, 262_144), (10, 4, 104_858), (18, 9, 58_255), (3, 3, 349_527)] {
        let code = code(k, m);
        let data = data_parts(code, len);
        let parts = encoded(&mut codec, code, &data);
        // The reference is too slow for all bytes: its parts of a sample of positions.
        let sample = |bytes: &Vec<u8>| bytes.iter().copied().skip(len % 97).step_by(97).collect::<Vec<u8>>();
        let sampled: Vec<Vec<u8>> = parts.iter().map(sample).collect();
        assert!(reference::encode(code, &sampled[..k]) == sampled, "{code}");
        let have: Vec<u8> = (m..k + m).map(|part| part as u8).collect();
        check_rebuild(&mut codec, code, &parts, &have, &(0..m as u8).collect::<Vec<_>>());
    }
}

/// The library's own coder, given the same matrix, is a third implementation.
#[test]
fn agrees_with_the_coder_of_the_library() {
    let mut codec = Codec::new();
    for (k, m) in [(2, 1), (4, 2), (10, 4), (40, 20), (150, 100)] {
        let code = code(k, m);
        let matrix: Vec<u8> = (0..code.n()).flat_map(|part| reference::generator_row(code, part)).collect();
        let coder =
            rusty_erasure::coder(rusty_erasure::Matrix::from_bytes(k + m, k, matrix).unwrap()).unwrap();
        let data = data_parts(code, 500);
        let parts = encoded(&mut codec, code, &data);
        let sources: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let parity: Vec<&[u8]> = parts[k..].iter().map(Vec::as_slice).collect();
        assert_eq!(coder.verify(&sources, &parity), Ok(true), "{code}");
        let lost: Vec<usize> = (0..m.min(k)).collect();
        let shards: Vec<Option<&[u8]>> =
            (0..k + m).map(|part| (part >= lost.len()).then(|| &parts[part][..])).collect();
        let mut rebuilt = vec![vec![0; 500]; lost.len()];
        let mut buffers: Vec<&mut [u8]> = rebuilt.iter_mut().map(Vec::as_mut_slice).collect();
        coder.recover(&shards, &lost, &mut buffers).unwrap();
        assert!(rebuilt == parts[..lost.len()], "{code}");
    }
}

#[test]
fn golden_parity() {
    let mut codec = Codec::new();
    let mut parity = |k, m, len: usize| {
        let code = code(k, m);
        let data: Vec<Vec<u8>> =
            (0..k).map(|j| (0..len).map(|at| (j * 31 + at * 7 + (at * at) / 3) as u8).collect()).collect();
        encoded(&mut codec, code, &data).split_off(k)
    };
    let hex = |parts: &[Vec<u8>]| -> Vec<String> {
        parts.iter().map(|part| part.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
    };
    let golden_4_2: [&str; 2] = ["7c00000c408084c0000c808004008084", "61f9e422cda0acabff76aaf70c8e70f2"];
    assert_eq!(hex(&parity(4, 2, 16)), golden_4_2);
    let golden_10_4: [&str; 4] = [
        "17e1213761617b21212b21e19f21a17f",
        "64e3c970511f8c9c0518b6fdaa118f18",
        "17b8c44545c975a39cacf0de1b530b0d",
        "87fb9d7d8c4ec5162af7ff275f49a6d6",
    ];
    assert_eq!(hex(&parity(10, 4, 16)), golden_10_4);
    let checksum = |parts: Vec<Vec<u8>>| crc32c(&parts.concat());
    assert_eq!(
        [checksum(parity(1, 2, 100)), checksum(parity(28, 4, 333)), checksum(parity(200, 55, 333))],
        [3207090372, 1632804424, 10465280]
    );
}

#[test]
fn what_cannot_be_coded_is_refused_and_nothing_is_written() {
    let mut codec = Codec::new();
    let code = code(3, 2);
    let bytes = [7u8; 8];
    let part = |number: u8| (number, &bytes[..]);
    let mut check = |have: &[(u8, &[u8])], want: &[(u8, usize)], expected: CodecError| {
        let mut buffers: Vec<(u8, Vec<u8>)> = want.iter().map(|&(part, len)| (part, vec![9; len])).collect();
        let mut asked: Vec<(u8, &mut [u8])> =
            buffers.iter_mut().map(|(part, b)| (*part, &mut b[..])).collect();
        assert_eq!(codec.reconstruct(code, have, &mut asked), Err(expected));
        assert!(buffers.iter().all(|(_, buffer)| buffer.iter().all(|&byte| byte == 9)), "{expected}");
    };
    let three = [part(0), part(1), part(3)];
    check(&[], &[(0, 8)], CodecError::TooFewParts { found: 0, needed: 3 });
    check(&three[..2], &[(2, 8)], CodecError::TooFewParts { found: 2, needed: 3 });
    check(&[part(0), part(1), part(1)], &[(2, 8)], CodecError::PartTwice { part: 1 });
    check(&[part(0), part(1), part(5)], &[(2, 8)], CodecError::PartOutOfRange { part: 5, n: 5 });
    let short = [part(0), part(1), (3, &bytes[..7])];
    check(&short, &[(2, 8)], CodecError::PartLength { part: 3, expected: 8, found: 7 });
    check(&three, &[(2, 9)], CodecError::PartLength { part: 2, expected: 8, found: 9 });
    check(&three, &[(2, 8), (4, 8), (2, 8)], CodecError::PartTwice { part: 2 });
    check(&three, &[(2, 8), (255, 8)], CodecError::PartOutOfRange { part: 255, n: 5 });
    check(&three, &[(0, 8), (4, 7)], CodecError::PartLength { part: 4, expected: 8, found: 7 });

    let (mut a, mut b) = ([9u8; 4], [9u8; 5]);
    let mut encode = |data: &[u8], parity: &mut [&mut [u8]], expected| {
        assert_eq!(codec.encode(code, data, parity), Err(expected));
    };
    encode(&[0; 12], &mut [&mut a], CodecError::ParityCount { expected: 2, found: 1 });
    encode(&[0; 12], &mut [&mut a, &mut b], CodecError::PartLength { part: 4, expected: 4, found: 5 });
    let mut c = [9u8; 4];
    encode(&[0; 13], &mut [&mut a, &mut c], CodecError::DataLength { expected: 12, found: 13 });
    let no_parity = Code::new(3, 0).unwrap();
    assert_eq!(codec.encode(no_parity, &[1; 12], &mut []), Ok(()));
    assert_eq!(
        codec.encode(no_parity, &[1; 13], &mut []),
        Err(CodecError::DataLength { expected: 12, found: 13 })
    );
    assert!(a == [9; 4] && b == [9; 5] && c == [9; 4]);
}
