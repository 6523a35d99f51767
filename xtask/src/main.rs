//! The project's own tools: set-up, eBPF build, tests, benchmarks, demo. `cargo xtask help` lists them.

#![allow(clippy::print_stdout, reason = "a program for people")]

mod bench;
mod demo;
mod deny;
mod ebpf;
mod fuzz;
mod setup;
mod simulate;
mod test;
mod toolchain;
mod vm;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
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
    /// Install what is missing, saying what and why
    Setup,
    /// Build the eBPF programs to target/ebpf/carrack.bpf.o
    Ebpf,
    /// Run a cluster on this host in the foreground; what follows goes to `carrack up`
    Up {
        /// Options of `carrack up`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Show a cluster at work on this host: an image, a Deployment, a Service
    Demo(demo::Options),
    /// Check format and lints, and run the tests
    Test(test::Options),
    /// Run the node's tests on Debian's stock kernel with cgroup v2, in QEMU
    Vm(vm::Options),
    /// Measure, with an optimised build, beside the tools people have
    Bench(bench::Options),
    /// Simulate clusters of the store under faults, by seed; --help shows the options
    #[command(disable_help_flag = true)]
    Simulate {
        /// Options of the simulation, such as --seeds 10000, or --seed 7 --trace
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Feed anything to the code that reads what comes from outside, with libFuzzer
    Fuzz(fuzz::Options),
    /// Check licences, sources and banned crates of the dependencies
    Deny,
}

fn main() -> Result<()> {
    match Options::parse().verb {
        Verb::Setup => setup::run(),
        Verb::Ebpf => ebpf::run(),
        Verb::Up { options } => {
            ebpf::run()?;
            let mut command = cargo(&["run", "--quiet", "--package", "carrack", "--", "up"]);
            run(command.args(options))
        }
        Verb::Demo(options) => demo::run_demo(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Vm(options) => vm::run(&options),
        Verb::Bench(options) => bench::run_benches(&options),
        Verb::Simulate { options } => simulate::simulate(&options),
        Verb::Fuzz(options) => fuzz::fuzz(&options),
        Verb::Deny => deny::run(),
    }
}

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo, in the root of the repository.
fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(root()).args(args);
    command
}

/// Runs a command; an error unless it succeeds.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("{name} does not start"))?;
    if status.success() { Ok(()) } else { bail!("{name}: {status}") }
}
