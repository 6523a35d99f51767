//! Checks licences, sources and banned crates with cargo-deny, by `deny.toml`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{cargo, root, toolchain};

/// The version that is installed where there is none.
const VERSION: &str = "^0.20";

/// Runs the checks; installs cargo-deny first where it is missing, which takes some minutes once.
pub(crate) fn run() -> Result<()> {
    println!("── dependencies");
    let program = find()?;
    // It reads every crate of the lock file, those for other systems too, which no build here has fetched.
    crate::run(&mut cargo(&["fetch", "--quiet", "--locked"]))?;
    let status = Command::new(program)
        .current_dir(root())
        .args(["--offline", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"])
        .status()?;
    if status.success() { Ok(()) } else { bail!("cargo deny: {status}") }
}

fn find() -> Result<PathBuf> {
    let tools = toolchain::tools_dir()?;
    let installed = tools.join("bin/cargo-deny");
    if installed.is_file() {
        return Ok(installed);
    }
    if Command::new("cargo-deny").arg("--version").output().is_ok_and(|o| o.status.success()) {
        return Ok("cargo-deny".into());
    }
    println!("installing cargo-deny into {}; this takes some minutes, once", tools.display());
    // Not in the workspace: its compiler flags are for the static binary.
    let status = Command::new("cargo")
        .current_dir("/")
        .args(["install", "--locked", "--quiet", "cargo-deny", "--version", VERSION, "--root"])
        .arg(&tools)
        .status()?;
    if status.success() { Ok(installed) } else { bail!("cargo install cargo-deny: {status}") }
}
