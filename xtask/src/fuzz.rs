//! `cargo xtask fuzz`: feeds what may come from outside to the code that reads it, with libFuzzer.
//!
//! Each package has its targets in `src/fuzzing.rs`; `fuzz/` makes a program of each package. What is found on the way is kept
//! in `target/fuzz-corpus`, and used by the next run. An input that makes a target fail stays where the table says; once it is
//! mended, it goes to `fuzz/regressions/<target>/`, which the tests feed to the target from then on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::root;

/// The version that is installed where there is none.
const VERSION: &str = "^0.13";

/// The packages that have targets. The names of targets begin with theirs.
const PACKAGES: [&str; 8] = ["agent", "api", "cel", "images", "network", "server", "store", "supervisor"];

/// Seconds after which one input counts as endless, and megabytes of memory that are too many.
const TIMEOUT: &str = "-timeout=10";
const MEMORY: &str = "-rss_limit_mb=4096";

/// How many lines of libFuzzer's are shown of a target that fails: the message and the stack.
const SHOWN: usize = 60;

/// What to feed.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Targets, or packages with all of theirs (such as api, cel, server); all, if none are named
    targets: Vec<String>,
    /// How long each target is fed
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Feed only this file to the one target that is named: to see again what went wrong
    #[arg(long)]
    input: Option<PathBuf>,
}

/// What became of a target.
struct Outcome {
    target: String,
    runs: String,
    units: String,
    seconds: f32,
    crash: Option<PathBuf>,
}

/// Feeds what is wanted; an error if anything went wrong.
pub(crate) fn fuzz(options: &Options) -> Result<()> {
    install()?;
    let mut outcomes = Vec::new();
    for package in PACKAGES {
        let of = |wanted: &&String| wanted.split('-').next() == Some(package);
        let wanted: Vec<&String> = options.targets.iter().filter(of).collect();
        if wanted.is_empty() && !options.targets.is_empty() {
            continue;
        }
        let program = build(package)?;
        for target in seeds(&program)? {
            if wanted.is_empty() || wanted.iter().any(|name| *name == package || *name == &target) {
                if let Some(input) = &options.input {
                    return again(&program, &target, input);
                }
                outcomes.push(run(&program, &target, options.seconds)?);
            }
        }
    }
    report(&outcomes)
}

fn install() -> Result<()> {
    if Command::new("cargo-fuzz").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    println!("installing cargo-fuzz; this takes some minutes, once");
    // Not in the workspace: its compiler flags are for the static binary.
    let mut cargo = Command::new("cargo");
    cargo.current_dir("/").args(["install", "--locked", "--quiet", "cargo-fuzz", "--version", VERSION]);
    crate::run(&mut cargo)
}

/// Builds a package's program. `RUSTC_BOOTSTRAP` is for the compiler's options that instrument it; no sanitizer is needed
/// where hardly anything is `unsafe`.
fn build(package: &str) -> Result<PathBuf> {
    println!("── building the targets of {package}");
    same_versions()?;
    let dir = root().join("target/fuzz");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(root())
        .args(["fuzz", "build", "--sanitizer", "none", "--strip-dead-code", "--features", package])
        .arg("--target-dir")
        .arg(&dir)
        .arg(package)
        .env("RUSTC_BOOTSTRAP", "1");
    crate::run(&mut cargo)?;
    Ok(dir.join("x86_64-unknown-linux-gnu/release").join(package))
}

/// Gives the programs the versions of the workspace's dependencies, whenever those have changed.
fn same_versions() -> Result<()> {
    let (ours, theirs) = (root().join("Cargo.lock"), root().join("fuzz/Cargo.lock"));
    let changed = |path: &Path| path.metadata().and_then(|found| found.modified());
    if !changed(&theirs).is_ok_and(|theirs| changed(&ours).is_ok_and(|ours| ours <= theirs)) {
        std::fs::copy(&ours, &theirs).context("copy Cargo.lock")?;
    }
    Ok(())
}

fn corpus(target: &str) -> PathBuf {
    root().join("target/fuzz-corpus").join(target)
}

/// Writes what the targets of a program begin with; gives their names.
fn seeds(program: &Path) -> Result<Vec<String>> {
    let mut command = Command::new(program);
    command.env("CARRACK_FUZZ_SEEDS", root().join("target/fuzz-corpus"));
    let output = command.output().with_context(|| format!("{} does not start", program.display()))?;
    if !output.status.success() {
        bail!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn command(program: &Path, target: &str) -> Command {
    let mut command = Command::new(program);
    command.env("CARRACK_FUZZ", target).env("RUST_BACKTRACE", "1").args([TIMEOUT, MEMORY]);
    command
}

/// Feeds one file, with all that there is to see.
fn again(program: &Path, target: &str, input: &Path) -> Result<()> {
    crate::run(command(program, target).arg(input))
}

fn run(program: &Path, target: &str, seconds: u32) -> Result<Outcome> {
    let found = root().join("target/fuzz-crashes").join(target);
    std::fs::create_dir_all(&found)?;
    let began = Instant::now();
    let output = command(program, target)
        .args(["-print_final_stats=1".to_owned(), format!("-max_total_time={seconds}")])
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(corpus(target))
        .stdout(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let crash = (!output.status.success()).then(|| {
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n"));
        artifact(&text).unwrap_or_else(|| "no input: the program itself failed".into())
    });
    let number = |name: &str| statistic(&text, name).unwrap_or("-").to_owned();
    Ok(Outcome {
        target: target.to_owned(),
        runs: number("number_of_executed_units"),
        units: number("new_units_added"),
        seconds: began.elapsed().as_secs_f32(),
        crash,
    })
}

/// `stat::number_of_executed_units: 5` → `5`.
fn statistic<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("stat::{name}:");
    text.lines().find_map(|line| line.strip_prefix(prefix.as_str())).map(str::trim)
}

/// Where libFuzzer says that it has written an input that went wrong.
fn artifact(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path.trim().into())
}

fn report(outcomes: &[Outcome]) -> Result<()> {
    if outcomes.is_empty() {
        bail!("no such target; without a name, all are fed");
    }
    println!("{:<24} {:>10} {:>10} {:>8}  result", "target", "runs", "new units", "seconds");
    for Outcome { target, runs, units, seconds, crash } in outcomes {
        let result = if crash.is_some() { "FAILED" } else { "ok" };
        println!("{target:<24} {runs:>10} {units:>10} {seconds:>8.0}  {result}");
    }
    let mut failed = 0;
    for Outcome { target, crash, .. } in outcomes {
        if let Some(crash) = crash {
            failed += 1;
            println!("\n{target} fails with {}", crash.display());
            println!("again: cargo xtask fuzz {target} --input {}", crash.display());
        }
    }
    if failed > 0 { bail!("{failed} of {} targets failed", outcomes.len()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{artifact, statistic};

    #[test]
    fn reads_what_libfuzzer_says() {
        let text = "#5 DONE\nstat::number_of_executed_units: 512\nstat::new_units_added:          7\n\
                    artifact_prefix='/a/'; Test unit written to /a/crash-123\n";
        assert_eq!(statistic(text, "number_of_executed_units"), Some("512"));
        assert_eq!(statistic(text, "new_units_added"), Some("7"));
        assert_eq!(artifact(text), Some("/a/crash-123".into()));
        assert_eq!(artifact("fine"), None);
    }
}
