//! Wraps the functions through which the runtime sets up its rings (`src/shell/rings.rs`).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_SHELL").is_some() {
        for name in ["__sys_io_uring_setup", "__sys_io_uring_register"] {
            println!("cargo:rustc-link-arg=-Wl,--wrap={name}");
        }
    }
}
