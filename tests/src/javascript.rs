//! npm packages as peers of tests: each set in a folder of its own below `target/`, kept between runs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::root;

/// A folder called `name` whose `node_modules` hold these packages (as npm names them).
pub fn modules(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let dir = root().join("target/node").join(name);
    let ready = dir.join("ready");
    let wanted = packages.join(" ");
    if std::fs::read_to_string(&ready).is_ok_and(|there| there == wanted) {
        return Ok(dir);
    }
    std::fs::create_dir_all(&dir)?;
    let install = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", "."])
        .args(packages)
        .current_dir(&dir)
        .output()
        .context("npm is needed: install nodejs and npm")?;
    ensure!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
    std::fs::write(ready, wanted)?;
    Ok(dir)
}
