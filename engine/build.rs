//! Wraps the function through which the runtime makes its rings (`src/shell/rings.rs`).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_SHELL").is_some() {
        println!("cargo:rustc-link-arg=-Wl,--wrap=__sys_io_uring_setup");
    }
}
