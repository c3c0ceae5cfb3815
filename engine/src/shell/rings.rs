//! How the runtime's rings are set up: their completions interrupt nobody.
//!
//! By default the kernel sends a core an interrupt when something completes that one of its rings waits for, even
//! while that core works; for a socket that is readable this costs more than the look at the ring saves. With
//! `IORING_SETUP_COOP_TASKRUN` (Linux 5.19) a completion waits for the core's next entry into the kernel. A core that
//! works enters all the time, and one that has run out of work does for a while ([`super::turns::linger`]).
//!
//! glommio 0.9 has no setting for it, so the one function through which its liburing makes rings is wrapped by
//! the linker (`build.rs`: `--wrap`). Without that nothing is different but the cost; `runtime_rings` and
//! `runtime_rings_cooperative` among the counters tell.

use std::ffi::{c_int, c_long, c_uint};
use std::sync::atomic::{AtomicU64, Ordering};

/// `IORING_SETUP_COOP_TASKRUN` of io_uring_setup(2).
const COOP_TASKRUN: u32 = 1 << 8;

/// The beginning of `struct io_uring_params`.
#[repr(C)]
pub struct RingParams {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
}

static RINGS: AtomicU64 = AtomicU64::new(0);
static COOPERATIVE: AtomicU64 = AtomicU64::new(0);

/// Rings that this process has made through the wrapper, and how many of them are cooperative.
pub fn counters() -> [(String, u64); 2] {
    // Named here so that no linker leaves it out: what calls it is found later.
    std::hint::black_box(__wrap___sys_io_uring_setup as *const ());
    [("runtime_rings", &RINGS), ("runtime_rings_cooperative", &COOPERATIVE)]
        .map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed)))
}

/// Takes the place of liburing's `__sys_io_uring_setup`.
///
/// # Safety
///
/// As io_uring_setup(2): `params` points to a whole `struct io_uring_params` that nobody else uses meanwhile.
// SAFETY: the linker gives this name to calls of `__sys_io_uring_setup`, whose signature it has; no other
// library has a function of the name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap___sys_io_uring_setup(entries: c_uint, params: *mut RingParams) -> c_int {
    RINGS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller's `params` is whole and its own.
    unsafe { (*params).flags |= COOP_TASKRUN };
    // SAFETY: the system call takes just these two; `params` is whole.
    let ring = unsafe { setup(entries, params) };
    if ring >= 0 {
        COOPERATIVE.fetch_add(1, Ordering::Relaxed);
        return ring as c_int;
    }
    // An older kernel knows no such flag; any other error is found again.
    // SAFETY: as above, twice.
    unsafe {
        (*params).flags &= !COOP_TASKRUN;
        setup(entries, params) as c_int
    }
}

/// io_uring_setup(2): a descriptor, or -1 with the reason in errno.
///
/// # Safety
///
/// `params` points to a whole `struct io_uring_params`.
unsafe fn setup(entries: c_uint, params: *mut RingParams) -> c_long {
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, params) }
}
