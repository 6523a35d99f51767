//! `carrack store` beside Debian's etcd: the same load from the same client, on one and on three members on loopback, on
//! the disk and (one member) in memory, where what a sync costs does not count.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{cargo, root, run};

/// Members, and whether their files are in memory.
const CLUSTERS: &[(&str, bool)] = &[("1", false), ("3", false), ("1", true)];

/// Runs the comparison; the release binary is there.
pub(super) fn beside_etcd() -> Result<()> {
    for (members, in_memory) in CLUSTERS {
        let place = if *in_memory { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let dir = place.join(format!("carrack-bench-{}", std::process::id()));
        println!("── carrack store beside etcd, {members} member(s), in {}", place.display());
        let compared = compare(members, *in_memory, &dir);
        std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        compared?;
    }
    Ok(())
}

fn compare(members: &str, in_memory: bool, dir: &Path) -> Result<()> {
    let mut program = cargo(&[
        "run",
        "--quiet",
        "--profile",
        "bench",
        "--package",
        "carrack-store",
        "--example",
        "compare",
        "--",
    ]);
    program.arg(root().join("target/x86_64-unknown-linux-gnu/release/carrack"));
    if in_memory {
        program.args(["--only", "loads"]);
    }
    run(program.args(["--members", members, "--dir"]).arg(dir))
}
