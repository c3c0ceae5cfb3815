//! Intel's ISA-L, if it is installed: its erasure code is loaded when the bench runs, and nothing is built against it.

use std::ffi::{c_int, c_uchar};

use libloading::{Library, Symbol};

/// Names of the library, the one of Debian's `libisal2` first.
const NAMES: [&str; 2] = ["libisal.so.2", "libisal.so"];
/// Bytes that ISA-L derives from each coefficient.
const TABLE_BYTES: usize = 32;

type Generate = unsafe extern "C" fn(a: *mut c_uchar, n: c_int, k: c_int);
type Invert = unsafe extern "C" fn(a: *mut c_uchar, inverse: *mut c_uchar, k: c_int) -> c_int;
type Tables = unsafe extern "C" fn(k: c_int, rows: c_int, a: *mut c_uchar, tables: *mut c_uchar);
type Encode = unsafe extern "C" fn(
    len: c_int,
    k: c_int,
    rows: c_int,
    tables: *mut c_uchar,
    data: *mut *mut c_uchar,
    coding: *mut *mut c_uchar,
);

/// The library.
pub struct Isal(Library);

/// A product of some rows of a matrix with `k` parts, its tables made.
pub struct Product<'a> {
    encode: Symbol<'a, Encode>,
    tables: Vec<u8>,
    k: usize,
    rows: usize,
}

impl Isal {
    /// What the dynamic linker finds; an error says how to get it.
    pub fn load() -> Result<Isal, String> {
        let mut last = String::new();
        for name in NAMES {
            // SAFETY: ISA-L's initialisation only looks at the processor.
            match unsafe { Library::new(name) } {
                Ok(library) => return Ok(Isal(library)),
                Err(error) => last = error.to_string(),
            }
        }
        Err(format!("ISA-L is left out: it is not installed (apt-get install libisal2): {last}"))
    }

    fn symbol<T>(&self, name: &str) -> Symbol<'_, T> {
        // SAFETY: every caller names the type that the function has in ISA-L's erasure_code.h and gf_vect_mul.h.
        unsafe { self.0.get(name.as_bytes()) }.unwrap_or_else(|error| panic!("ISA-L has no {name}: {error}"))
    }

    /// The generator of its Cauchy code `k+m`: `k + m` rows of `k`.
    fn generator(&self, k: usize, m: usize) -> Vec<u8> {
        let generate: Symbol<'_, Generate> = self.symbol("gf_gen_cauchy1_matrix");
        let mut matrix = vec![0; (k + m) * k];
        // SAFETY: it writes `n * k` bytes.
        unsafe { generate(matrix.as_mut_ptr(), (k + m) as c_int, k as c_int) };
        matrix
    }

    fn product(&self, mut coefficients: Vec<u8>, k: usize) -> Product<'_> {
        let init: Symbol<'_, Tables> = self.symbol("ec_init_tables");
        let rows = coefficients.len() / k;
        let mut tables = vec![0; TABLE_BYTES * k * rows];
        // SAFETY: it reads `k * rows` bytes and writes 32 for each of them.
        unsafe { init(k as c_int, rows as c_int, coefficients.as_mut_ptr(), tables.as_mut_ptr()) };
        Product { encode: self.symbol("ec_encode_data"), tables, k, rows }
    }

    /// What makes the parity of `k` data parts.
    pub fn encoder(&self, k: usize, m: usize) -> Product<'_> {
        self.product(self.generator(k, m).split_off(k * k), k)
    }

    /// What makes the first `lost` data parts of the `k` parts that come after them.
    pub fn rebuilder(&self, k: usize, m: usize, lost: usize) -> Product<'_> {
        let invert: Symbol<'_, Invert> = self.symbol("gf_invert_matrix");
        let mut there = self.generator(k, m)[lost * k..][..k * k].to_vec();
        let mut inverse = vec![0; k * k];
        // SAFETY: both have `k * k` bytes.
        let failed = unsafe { invert(there.as_mut_ptr(), inverse.as_mut_ptr(), k as c_int) };
        assert_eq!(failed, 0, "any k rows of a Cauchy code can be inverted");
        inverse.truncate(lost * k);
        self.product(inverse, k)
    }
}

impl Product<'_> {
    /// Multiplies: `k` parts to as many as there are rows, all of one length.
    pub fn of(&mut self, parts: &[&[u8]], out: &mut [&mut [u8]]) {
        assert_eq!((parts.len(), out.len()), (self.k, self.rows));
        let len = parts[0].len();
        assert!(parts.iter().all(|part| part.len() == len) && out.iter().all(|part| part.len() == len));
        let mut from: Vec<*mut c_uchar> = parts.iter().map(|part| part.as_ptr().cast_mut()).collect();
        let mut to: Vec<*mut c_uchar> = out.iter_mut().map(|part| part.as_mut_ptr()).collect();
        let (k, rows) = (self.k as c_int, self.rows as c_int);
        // SAFETY: there are as many parts of `len` bytes as the tables were made for; it only reads `from`.
        unsafe {
            (self.encode)(
                len as c_int,
                k,
                rows,
                self.tables.as_mut_ptr(),
                from.as_mut_ptr(),
                to.as_mut_ptr(),
            );
        }
    }
}
