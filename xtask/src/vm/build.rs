//! Builds what is run in the machine.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// A package whose tests run in the machine.
struct Suite {
    package: &'static str,
    /// Its test programs; all it has if none is named. Those that are named start the `carrack` binary.
    programs: &'static [&'static str],
}

/// What depends on the kernel, on the version of control groups or on the file system, and whole clusters.
const SUITES: &[Suite] = &[
    Suite { package: "carrack-cgroups", programs: &[] },
    Suite { package: "carrack-runtime", programs: &[] },
    Suite { package: "carrack-supervisor", programs: &[] },
    Suite { package: "carrack-volumes", programs: &[] },
    Suite { package: "carrack-images", programs: &[] },
    Suite { package: "carrack-network", programs: &[] },
    Suite { package: "carrack-tests", programs: &["containers", "deployments", "world"] },
];

/// A program that was built.
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) is_test: bool,
}

/// The test programs of the packages (of all that [`SUITES`] names, if none is given), and what they start.
pub(crate) fn tests(packages: &[String]) -> Result<Vec<Program>> {
    for package in packages {
        if !SUITES.iter().any(|suite| suite.package == package) {
            let known: Vec<&str> = SUITES.iter().map(|suite| suite.package).collect();
            bail!("{package} has no tests for the virtual machine; there are {}", known.join(", "));
        }
    }
    let wanted = |suite: &&Suite| packages.is_empty() || packages.iter().any(|p| p == suite.package);
    let (whole, parts): (Vec<_>, Vec<_>) = SUITES.iter().filter(wanted).partition(|s| s.programs.is_empty());
    let mut programs = Vec::new();
    if !whole.is_empty() {
        let mut args = vec!["test", "--no-run", "--lib", "--bins", "--tests"];
        args.extend(whole.iter().flat_map(|suite| ["--package", suite.package]));
        programs.extend(build(&args)?);
    }
    for suite in parts {
        let mut args = vec!["test", "--no-run", "--package", suite.package];
        args.extend(suite.programs.iter().flat_map(|name| ["--test", name]));
        programs.extend(build(&args)?);
        // The same invocation as in `cargo xtask test`, so that nothing is built twice.
        programs.extend(build(&["build", "--workspace", "--bins"])?.into_iter().filter(is_carrack));
    }
    Ok(programs)
}

fn is_carrack(program: &Program) -> bool {
    program.path.ends_with("carrack")
}

/// The program that runs containers beside crun, at the speed of a release.
pub(crate) fn bench() -> Result<Vec<Program>> {
    build(&["build", "--profile", "bench", "--package", "carrack-supervisor", "--example", "create_true"])
}

/// Runs cargo; the programs that it has made.
fn build(args: &[&str]) -> Result<Vec<Program>> {
    let output = cargo(args)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("cargo does not start")?;
    if !output.status.success() {
        bail!("cargo {}: {}", args.join(" "), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(executable).map(program).collect())
}

/// The value of `"executable":"…"` in a line of cargo's messages.
fn executable(line: &str) -> Option<PathBuf> {
    let rest = line.split("\"executable\":\"").nth(1)?;
    Some(PathBuf::from(rest.split('"').next()?))
}

/// Test programs lie in `deps`; what they start lies above.
fn program(path: PathBuf) -> Program {
    let is_test = path.parent().is_some_and(|dir: &Path| dir.ends_with("deps"));
    Program { path, is_test }
}
