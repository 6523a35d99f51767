//! Finds the kernel side, which `cargo xtask ebpf` builds, and tells the code where it is.

use std::path::{Path, PathBuf};

fn main() {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let object = manifest.join("../../target/ebpf/carrack.bpf.o");
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-env=CARRACK_BPF_OBJECT={}", object.display());
    if !Path::new(&object).is_file() {
        println!("cargo::error=the eBPF programs are not built: run `cargo xtask ebpf`");
    }
}
