//! How the runtime's rings are set up: their completions interrupt nobody, and their buffers are of large pages.
//!
//! By default the kernel sends a core an interrupt when something completes that one of its rings waits for, even
//! while that core works; for a socket that is readable this costs more than the look at the ring saves. With
//! `IORING_SETUP_COOP_TASKRUN` (Linux 5.19) a completion waits for the core's next entry into the kernel. A core that
//! works enters all the time, and one that has run out of work does for a while ([`super::turns::linger`]).
//!
//! A device operation takes a descriptor of the device's queue for every run of memory that lies together. In pages of
//! 4 KiB that are those of a hypervisor's disk (virtio without indirect descriptors: 256) used up by some twenty reads of 36 KiB;
//! what is beyond is carried out one by one by threads of the kernel. In large pages a read takes three.
//!
//! glommio 0.9 has no setting for either, so the two functions through which its liburing makes rings and registers
//! buffers are wrapped by the linker (`build.rs`: `--wrap`). Without that nothing is different but the cost;
//! `runtime_rings`, `runtime_rings_cooperative` and `runtime_large_page_bytes` among the counters tell.

use std::ffi::{c_int, c_long, c_uint, c_void};
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
static LARGE_PAGE_BYTES: AtomicU64 = AtomicU64::new(0);

/// Rings that this process has made through the wrapper, how many of them are cooperative, and for how many bytes of
/// the buffers registered with them (with each ring once) the kernel has taken the advice.
pub fn counters() -> [(String, u64); 3] {
    // Named here so that no linker leaves it out: what calls it is found later.
    std::hint::black_box(__wrap___sys_io_uring_setup as *const ());
    std::hint::black_box(__wrap___sys_io_uring_register as *const ());
    [
        ("runtime_rings", &RINGS),
        ("runtime_rings_cooperative", &COOPERATIVE),
        ("runtime_large_page_bytes", &LARGE_PAGE_BYTES),
    ]
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

/// `IORING_REGISTER_BUFFERS` of io_uring_register(2).
const REGISTER_BUFFERS: c_uint = 0;

/// Takes the place of liburing's `__sys_io_uring_register`: what is to be registered is first advised to be of large
/// pages. The runtime has touched little of it (its allocator's notes, some pages), and registering brings the rest in.
///
/// # Safety
///
/// As io_uring_register(2): `arg` points to as many of what `opcode` takes as `count` says.
// SAFETY: the linker gives this name to calls of `__sys_io_uring_register`, whose signature it has; no other
// library has a function of the name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap___sys_io_uring_register(
    ring: c_int,
    opcode: c_uint,
    arg: *const c_void,
    count: c_uint,
) -> c_int {
    if opcode == REGISTER_BUFFERS && !arg.is_null() {
        // SAFETY: with this opcode `arg` points to `count` iovecs.
        let buffers = unsafe { std::slice::from_raw_parts(arg.cast::<libc::iovec>(), count as usize) };
        for buffer in buffers {
            // SAFETY: the advice changes no contents, and the memory is that of the caller's buffers.
            let refused = unsafe { libc::madvise(buffer.iov_base, buffer.iov_len, libc::MADV_HUGEPAGE) };
            if refused == 0 {
                LARGE_PAGE_BYTES.fetch_add(buffer.iov_len as u64, Ordering::Relaxed);
            }
        }
    }
    // SAFETY: the system call takes just these four; the caller's are right for it.
    unsafe { libc::syscall(libc::SYS_io_uring_register, ring, opcode, arg, count) as c_int }
}
