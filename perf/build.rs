//! Wraps the function through which the runtime makes its rings, as hedgerowd does: the bare server beside it has the
//! same.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,--wrap=__sys_io_uring_setup");
}
