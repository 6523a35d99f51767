//! `cargo xtask test`: format, lints, unit tests, whole-system tests, the virtual machine. Everything is run, also after a
//! failure; the last line counts.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{cargo, deny, ebpf, setup, simulate, vm};

/// Seeds of the simulation; they take a few minutes. Always the same ones: what passed yesterday passes today.
const SEEDS: &str = "1000";

/// How often members of the store are killed and stopped; three seconds each. `CARRACK_ROUNDS` says otherwise.
const ROUNDS: &str = "30";

/// Which tests.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out what takes long: whole-system tests and the virtual machine.
    #[arg(long)]
    fast: bool,
}

/// What has been counted.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    failures: Vec<String>,
}

/// Runs the tests; an error if any failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run()?;
    ebpf::run()?;
    let mut count = Count::default();
    count.check("format", cargo(&["fmt", "--all", "--check"]));
    count.check(
        "lints",
        cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    );
    count.tests(
        "unit tests",
        cargo(&[
            "test",
            "--no-fail-fast",
            "--workspace",
            "--exclude",
            "carrack-tests",
            "--lib",
            "--bins",
            "--tests",
        ]),
    );
    if !options.fast {
        count.step("dependencies", deny::run());
        count.check("simulation of the store", simulate::command(&["--seeds", SEEDS]));
        count.check("proof that the simulation finds what is broken", simulate::command(&["--prove"]));
        count.check("build", cargo(&["build", "--workspace", "--bins"]));
        let mut system =
            cargo(&["test", "--no-fail-fast", "--package", "carrack-tests", "--", "--test-threads=1"]);
        system.env("RUST_BACKTRACE", "1");
        if std::env::var_os("CARRACK_ROUNDS").is_none() {
            system.env("CARRACK_ROUNDS", ROUNDS);
        }
        count.tests("whole-system tests", system);
        count.machine();
    }
    count.finish()
}

impl Count {
    fn step(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("{name}: {error:#}");
                self.fail(name.to_owned());
            }
        }
    }

    fn check(&mut self, name: &str, mut command: Command) {
        println!("── {name}");
        let began = Instant::now();
        let result =
            command.status().context("cargo does not start").and_then(|status| match status.success() {
                true => Ok(()),
                false => bail!("{status}"),
            });
        println!("   {:.0?}", began.elapsed());
        self.step(name, result);
    }

    /// Runs a command that prints libtest's summaries and adds them up. One that fails without a failed test has not
    /// been built, or was ended by a signal.
    fn tests(&mut self, name: &str, mut command: Command) {
        println!("── {name}");
        let began = Instant::now();
        let failed = self.failed;
        let result =
            command.stdout(Stdio::piped()).spawn().context("cargo does not start").and_then(|mut child| {
                if let Some(output) = child.stdout.take() {
                    self.read(output)?;
                }
                Ok(child.wait()?)
            });
        println!("   {:.0?}", began.elapsed());
        match result {
            Ok(status) if status.success() => {}
            Ok(_) if self.failed > failed => {}
            Ok(status) => self.fail(format!("{name}: {status}")),
            Err(error) => self.fail(format!("{name}: {error:#}")),
        }
    }

    fn read(&mut self, output: impl Read) -> Result<()> {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            if let Some((passed, failed)) = summary(&line) {
                self.passed += passed;
                self.failed += failed;
            }
            if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
                self.failures.push(name.to_owned());
            }
        }
        Ok(())
    }

    fn machine(&mut self) {
        println!("── virtual machine");
        match vm::tests(&vm::Options::default()) {
            Ok(outcome) => {
                self.passed += outcome.passed;
                self.failed += outcome.failed;
                self.failures
                    .extend(outcome.failures.into_iter().map(|name| format!("{name} (virtual machine)")));
            }
            Err(error) => self.fail(format!("virtual machine: {error:#}")),
        }
    }

    fn fail(&mut self, name: String) {
        self.failed += 1;
        self.failures.push(name);
    }

    fn finish(self) -> Result<()> {
        for name in &self.failures {
            println!("failed: {name}");
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed > 0 { bail!("not everything passed") } else { Ok(()) }
    }
}

/// `test result: ok. 5 passed; 0 failed; …` → (5, 0).
pub(crate) fn summary(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        rest.split("; ").find_map(|part| part.strip_suffix(word)?.rsplit(' ').next()?.parse().ok())
    };
    Some((number(" passed")?, number(" failed")?))
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn reads_summaries() {
        let line = "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(summary(line), Some((5, 2)));
        assert_eq!(summary("test a ... ok"), None);
    }
}
