//! CRC-32C, the one checksum of the protocol and of the devices.
//!
//! Two kernels of the same polynomial: `crc32c` for headers and short runs, `crc-fast` for payloads
//! (it folds with wide carry-less multiplication and is several times faster on long runs).

use crc_fast::{CrcAlgorithm, Digest};

/// From this length on, the kernel for long runs wins.
const LONG_RUN_BYTES: usize = 64;

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4) of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    if bytes.len() < LONG_RUN_BYTES {
        crc32c::crc32c(bytes)
    } else {
        crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
    }
}

/// CRC-32C of the concatenation of what gave `crc` and `bytes`.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    if bytes.len() < LONG_RUN_BYTES {
        return crc32c::crc32c_append(crc, bytes);
    }
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

/// The polynomial, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// `a * b` modulo the polynomial.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 32 {
        // Branches here would be mispredicted half of the time.
        product ^= b & (((a >> (31 - bit)) & 1).wrapping_neg());
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        bit += 1;
    }
    product
}

/// `x^(8 * 2^i)` modulo the polynomial: appending `2^i` zero bytes.
const ZERO_BYTES: [u32; 64] = {
    let mut powers = [0; 64];
    let mut power = 1 << (31 - 8);
    let mut i = 0;
    while i < 64 {
        powers[i] = power;
        power = multiply(power, power);
        i += 1;
    }
    powers
};

/// CRC-32C of `a ++ b` from the checksums of `a` and `b` and the length of `b` in bytes: one
/// multiplication for each bit that is set in the length (the method of zlib's `crc32_combine`).
pub fn crc32c_combine(crc_a: u32, crc_b: u32, len_b: u64) -> u32 {
    let mut crc = crc_a;
    let mut left = len_b;
    while left != 0 {
        crc = multiply(ZERO_BYTES[left.trailing_zeros() as usize], crc);
        left &= left - 1;
    }
    crc ^ crc_b
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitwise(mut crc: u32, bytes: &[u8]) -> u32 {
        crc = !crc;
        for &byte in bytes {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn both_kernels_agree_with_the_definition() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in [0, 1, 7, 63, 64, 65, 511, 512, 513, 4096, 5000] {
            assert_eq!(crc32c(&bytes[..len]), bitwise(0, &bytes[..len]), "length {len}");
            for cut in [0, len / 3, len] {
                let (a, b) = bytes[..len].split_at(cut);
                assert_eq!(crc32c_append(crc32c(a), b), crc32c(&bytes[..len]), "length {len}, cut {cut}");
                assert_eq!(crc32c_combine(crc32c(a), crc32c(b), b.len() as u64), crc32c(&bytes[..len]));
            }
        }
    }
}
