//! The code in its plainest form: bit by bit, from the definition of the generator matrix, solved by
//! Gauss elimination. Shares nothing with what it checks.

use hedgerow_wire::Code;

/// `a * b` in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1.
fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = (a << 1) ^ if a & 0x80 != 0 { 0x1d } else { 0 };
        b >>= 1;
    }
    product
}

/// The number whose product with `a` is 1: `a` to the power of 254.
fn invert(a: u8) -> u8 {
    assert_ne!(a, 0);
    (0..254).fold(1, |power, _| multiply(power, a))
}

/// The row of part `part`: how it is made of the `k` data parts.
pub(super) fn generator_row(code: Code, part: usize) -> Vec<u8> {
    let k = code.k();
    (0..k)
        .map(|j| {
            if part < k {
                u8::from(part == j)
            } else if k == 1 {
                1
            } else {
                multiply((k ^ j) as u8, invert((part ^ j) as u8))
            }
        })
        .collect()
}

fn combine(row: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
    (0..parts[0].len())
        .map(|at| row.iter().zip(parts).fold(0, |sum, (&factor, part)| sum ^ multiply(factor, part[at])))
        .collect()
}

/// All `n` parts of a stripe, from its `k` data parts.
pub(super) fn encode(code: Code, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    (0..code.n()).map(|part| combine(&generator_row(code, part), data)).collect()
}

/// All `n` parts of a stripe, from any `k` of them.
pub(super) fn reconstruct(code: Code, have: &[(u8, Vec<u8>)]) -> Vec<Vec<u8>> {
    let k = code.k();
    assert_eq!(have.len(), k);
    let mut rows: Vec<Vec<u8>> =
        have.iter().map(|(part, _)| generator_row(code, usize::from(*part))).collect();
    let mut parts: Vec<Vec<u8>> = have.iter().map(|(_, bytes)| bytes.clone()).collect();
    for column in 0..k {
        let pivot = (column..k).find(|&row| rows[row][column] != 0).expect("any k rows are independent");
        rows.swap(column, pivot);
        parts.swap(column, pivot);
        let factor = invert(rows[column][column]);
        rows[column].iter_mut().for_each(|value| *value = multiply(*value, factor));
        parts[column].iter_mut().for_each(|byte| *byte = multiply(*byte, factor));
        for row in (0..k).filter(|&row| row != column) {
            let factor = rows[row][column];
            let (pivot_row, pivot_part) = (rows[column].clone(), parts[column].clone());
            add_multiple(&mut rows[row], &pivot_row, factor);
            add_multiple(&mut parts[row], &pivot_part, factor);
        }
    }
    encode(code, &parts)
}

fn add_multiple(row: &mut [u8], other: &[u8], factor: u8) {
    row.iter_mut().zip(other).for_each(|(value, &source)| *value ^= multiply(factor, source));
}
