//! The generator matrix, and its inverse for a loss pattern.
//!
//! GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11d). Parity part `i` (`k <= i < n`) is the sum over
//! the data parts `j` of `coefficient(k, i, j) = (k ^ j) / (i ^ j)` times part `j`: the Cauchy matrix
//! `1 / (i ^ j)` (as in ISA-L's `gf_gen_cauchy1_matrix`) with column `j` multiplied by `k ^ j`, which
//! turns its first row into ones. Scaling columns keeps every square submatrix invertible, so any `k`
//! parts give back all.
//!
//! A Cauchy matrix has an explicit inverse (Schechter, "On the inversion of certain matrices", 1959;
//! Knuth, TAOCP 1.2.3, exercise 41), so a plan for `e` lost data parts costs `e * k` products for
//! each of them and never a Gauss elimination of `k` rows.

use hedgerow_wire::Code;

use super::parts::PartSet;

/// `EXP[i]` is the generator 2 to the power of `i`; twice over, so that sums of two logarithms need
/// no reduction.
const EXP: [u8; 510] = {
    let mut table = [0; 510];
    let mut value: u16 = 1;
    let mut i = 0;
    while i < 255 {
        table[i] = value as u8;
        table[i + 255] = value as u8;
        value = (value << 1) ^ if value & 0x80 != 0 { 0x11d } else { 0 };
        i += 1;
    }
    table
};

/// `LOG[EXP[i]] = i` for `i < 255`; `LOG[0]` is not used.
const LOG: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 255 {
        table[EXP[i] as usize] = i as u8;
        i += 1;
    }
    table
};

fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        0
    } else {
        EXP[usize::from(LOG[usize::from(a)]) + usize::from(LOG[usize::from(b)])]
    }
}

/// `a / b`; `b` is not 0.
fn divide(a: u8, b: u8) -> u8 {
    debug_assert!(b != 0, "division by zero in GF(2^8)");
    if a == 0 { 0 } else { EXP[usize::from(LOG[usize::from(a)]) + 255 - usize::from(LOG[usize::from(b)])] }
}

/// What data part `j` is multiplied by in parity part `i`, for a code of `k` data parts.
fn coefficient(k: usize, i: u8, j: u8) -> u8 {
    divide(k as u8 ^ j, i ^ j)
}

/// The rows that compute the parts `want` from the `k` parts `have`: for each wanted part, ascending,
/// one factor for each part of `have`, ascending. `have` has every data part that is not lost, and
/// `want` none of `have`.
pub(super) fn decode_rows(code: Code, have: &PartSet, want: &PartSet) -> Vec<u8> {
    let k = code.k();
    let lost = PartSet::range(0, k).without(have);
    let rebuilt: Vec<(u8, Vec<u8>)> = rebuild_data(k, have, &lost);
    let mut rows = Vec::with_capacity(want.len() * k);
    for part in want.iter() {
        if let Some((_, row)) = rebuilt.iter().find(|(number, _)| *number == part) {
            rows.extend_from_slice(row);
            continue;
        }
        let mut row: Vec<u8> = have
            .iter()
            .map(|source| if usize::from(source) < k { coefficient(k, part, source) } else { 0 })
            .collect();
        for (data, data_row) in &rebuilt {
            add_multiple(&mut row, data_row, coefficient(k, part, *data));
        }
        rows.extend_from_slice(&row);
    }
    rows
}

/// For each lost data part, its number and the row that computes it from the parts `have`.
fn rebuild_data(k: usize, have: &PartSet, lost: &PartSet) -> Vec<(u8, Vec<u8>)> {
    let data: Vec<u8> = have.iter().filter(|part| usize::from(*part) < k).collect();
    let parity: Vec<u8> = have.iter().filter(|part| usize::from(*part) >= k).collect();
    let lost: Vec<u8> = lost.iter().collect();
    assert_eq!(lost.len(), parity.len(), "a plan has as many parity parts as lost data parts");
    let by_parity: Vec<u8> = parity.iter().map(|&p| inverse_factor(p, &lost, &parity)).collect();
    let by_lost: Vec<u8> = lost.iter().map(|&l| inverse_factor(l, &parity, &lost)).collect();
    lost.iter()
        .zip(&by_lost)
        .map(|(&l, &factor)| {
            let scale = divide(factor, k as u8 ^ l);
            let inverse: Vec<u8> =
                parity.iter().zip(&by_parity).map(|(&p, &f)| multiply(scale, divide(f, p ^ l))).collect();
            let through_parity = |j: u8| {
                parity.iter().zip(&inverse).fold(0, |sum, (&p, &f)| sum ^ multiply(f, coefficient(k, p, j)))
            };
            (l, data.iter().map(|&j| through_parity(j)).chain(inverse.iter().copied()).collect())
        })
        .collect()
}

/// The factor of the row or column `own` in the inverse of the Cauchy matrix of `others` and
/// `siblings`: the product of its sums with `others`, divided by that with its other siblings.
fn inverse_factor(own: u8, others: &[u8], siblings: &[u8]) -> u8 {
    let product = |numbers: &[u8]| {
        numbers
            .iter()
            .filter(|&&number| number != own)
            .fold(1, |product, &number| multiply(product, own ^ number))
    };
    divide(product(others), product(siblings))
}

fn add_multiple(row: &mut [u8], other: &[u8], factor: u8) {
    for (byte, &source) in row.iter_mut().zip(other) {
        *byte ^= multiply(factor, source);
    }
}
