//! `cargo xtask demo`: set-up, build, and then the demo itself, which is a program of the tests' package.

use anyhow::Result;

use crate::{cargo, ebpf, run, setup};

/// How to show it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Take everything down at the end; exit 0 only if each step held
    #[arg(long)]
    once: bool,
    /// Build with optimisation: slower to build, and the figures are those of a release
    #[arg(long)]
    release: bool,
}

/// Builds what is needed and shows the demo.
pub(crate) fn run_demo(options: &Options) -> Result<()> {
    setup::run()?;
    ebpf::run()?;
    let profile: &[&str] = if options.release { &["--release"] } else { &[] };
    println!("building carrack; the first time this takes some minutes");
    run(cargo(&["build", "--package", "carrack", "--package", "carrack-tests", "--bins"]).args(profile))?;
    let mut demo = cargo(&["run", "--quiet", "--package", "carrack-tests", "--bin", "carrack-demo"]);
    demo.args(profile).arg("--");
    if options.once {
        demo.arg("--once");
    }
    run(&mut demo)
}
