//! The project's own tools: set-up, eBPF build, tests, virtual machine, benchmarks, demo.

mod ebpf;
mod toolchain;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's own tools.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the eBPF programs to target/ebpf/carrack.bpf.o
    Ebpf,
}

fn main() -> Result<()> {
    match Options::parse().verb {
        Verb::Ebpf => ebpf::run(),
    }
}
