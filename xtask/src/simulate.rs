//! `cargo xtask simulate`: builds the store's simulation and runs it.

use std::process::Command;

use anyhow::Result;

use crate::{cargo, run};

/// The flags of `.cargo/config.toml`, which the environment's replace, and tokio's unstable features: with them its own
/// randomness can be seeded, so that the same seed gives the same run.
const FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static --cfg tokio_unstable";

/// Runs the simulation with these options.
pub(crate) fn simulate(options: &[String]) -> Result<()> {
    run(command(&[]).args(options))
}

/// The simulation with these options, to be run.
pub(crate) fn command(options: &[&str]) -> Command {
    let mut command =
        cargo(&["run", "--quiet", "--profile", "simulation", "--package", "carrack-simulation", "--"]);
    command.args(options).env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", FLAGS);
    command
}
