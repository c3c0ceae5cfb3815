//! Wraps the functions through which the runtime sets up its rings, as hedgerowd does: the bare server beside it has the
//! same.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["__sys_io_uring_setup", "__sys_io_uring_register"] {
        println!("cargo:rustc-link-arg-bins=-Wl,--wrap={name}");
    }
}
