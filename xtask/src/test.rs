//! `cargo xtask test`: format, lints, unit tests, whole-system tests, the virtual machine. Everything is run, also after a
//! failure; the last line counts.
//!
//! A test that fails beside others is run again, twice and alone. One that then passes both times waits for something that
//! a busy machine is too slow for: it is named at the end, to be mended, and does not fail the run.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{cargo, deny, ebpf, setup, simulate, vm};

/// Seeds of the simulation; they take a few minutes. Always the same ones: what passed yesterday passes today.
const SEEDS: &str = "1000";

/// How often members of the store are killed and stopped; three seconds each. `CARRACK_ROUNDS` says otherwise.
const ROUNDS: &str = "30";

/// How many tests may have failed for them to be run again: more is no accident.
const MOST_AGAIN: usize = 5;

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
    /// Tests that failed and passed when they were run again.
    unsteady: Vec<String>,
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
    let unit = ["--workspace", "--exclude", "carrack-tests", "--lib", "--bins", "--tests"];
    count.tests("unit tests", |again| libtest(&unit, again));
    if !options.fast {
        count.step("dependencies", deny::run());
        count.check("simulation of the store", simulate::command(&["--seeds", SEEDS]));
        count.check("proof that the simulation finds what is broken", simulate::command(&["--prove"]));
        count.check("build", cargo(&["build", "--workspace", "--bins"]));
        let rounds = std::env::var("CARRACK_ROUNDS").unwrap_or_else(|_| ROUNDS.to_owned());
        count.tests("whole-system tests", |again| {
            let mut command = libtest(&["--package", "carrack-tests"], again);
            command.env("RUST_TEST_THREADS", "1").env("RUST_BACKTRACE", "1").env("CARRACK_ROUNDS", &rounds);
            command
        });
        count.machine();
    }
    count.finish()
}

/// `cargo test` of these packages; of all their tests, or again of those that are named.
fn libtest(packages: &[&str], again: &[String]) -> Command {
    let mut command = cargo(&["test", "--no-fail-fast"]);
    command.args(packages).arg("--");
    if !again.is_empty() {
        command.arg("--exact").args(again).env("RUST_TEST_THREADS", "1");
    }
    command
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
    /// been built, or was ended by a signal. `command` is given the tests to run again; all are run where there are none.
    fn tests(&mut self, name: &str, command: impl Fn(&[String]) -> Command) {
        println!("── {name}");
        let began = Instant::now();
        let mut first = Count::default();
        first.all_of(name, command(&[]));
        println!("   {:.0?}", began.elapsed());
        self.passed += first.passed;
        let passes = |failures: &[String]| {
            let mut again = Count::default();
            again.all_of(name, command(failures));
            again.failed == 0 && again.passed >= failures.len()
        };
        self.judge(first.failed, first.failures, passes);
    }

    /// Counts what failed, or as unsteady where it passes twice when it is run again.
    fn judge(&mut self, failed: usize, failures: Vec<String>, passes: impl Fn(&[String]) -> bool) {
        let is_few = (1..=MOST_AGAIN).contains(&failed) && failed == failures.len();
        if is_few {
            println!("── again, alone: {}", failures.join(", "));
        }
        if is_few && passes(&failures) && passes(&failures) {
            self.passed += failed;
            self.unsteady.extend(failures);
        } else {
            self.failed += failed;
            self.failures.extend(failures);
        }
    }

    /// Runs one command that prints libtest's summaries.
    fn all_of(&mut self, name: &str, mut command: Command) {
        let result =
            command.stdout(Stdio::piped()).spawn().context("cargo does not start").and_then(|mut child| {
                if let Some(output) = child.stdout.take() {
                    self.read(output)?;
                }
                Ok(child.wait()?)
            });
        match result {
            Ok(status) if status.success() => {}
            Ok(_) if self.failed > 0 => {}
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
                let passes = |failures: &[String]| failures.iter().all(|name| vm::passes(name));
                self.judge(outcome.failed, outcome.failures, passes);
            }
            Err(error) => self.fail(format!("virtual machine: {error:#}")),
        }
    }

    fn fail(&mut self, name: String) {
        self.failed += 1;
        self.failures.push(name);
    }

    fn finish(self) -> Result<()> {
        for name in &self.unsteady {
            println!("unsteady: {name} failed beside others and passed twice alone; please mend it");
        }
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
    use super::{Count, summary};

    #[test]
    fn what_passes_twice_by_itself_is_unsteady_and_the_rest_has_failed() {
        let names = |n: usize| (0..n).map(|n| format!("test{n}")).collect::<Vec<_>>();
        let judged = |failed: usize, named: usize, answers: [bool; 2]| {
            let (mut count, runs) = (Count::default(), std::cell::Cell::new(0));
            count.judge(failed, names(named), |_| {
                runs.set(runs.get() + 1);
                answers[runs.get() - 1]
            });
            (count.passed, count.failed, count.unsteady.len(), runs.get())
        };
        assert_eq!(judged(0, 0, [true, true]), (0, 0, 0, 0));
        assert_eq!(judged(2, 2, [true, true]), (2, 0, 2, 2));
        assert_eq!(judged(2, 2, [true, false]), (0, 2, 0, 2));
        assert_eq!(judged(2, 2, [false, true]), (0, 2, 0, 1));
        assert_eq!(judged(6, 6, [true, true]), (0, 6, 0, 0), "too many to be accidents");
        assert_eq!(judged(1, 0, [true, true]), (0, 1, 0, 0), "a program that was not even built");
    }

    #[test]
    fn reads_summaries() {
        let line = "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(summary(line), Some((5, 2)));
        assert_eq!(summary("test a ... ok"), None);
    }
}
