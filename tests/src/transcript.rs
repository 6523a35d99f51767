//! Transcripts: shell lines and what they print, in a file that a person can read and a test can repeat. `UPDATE_GOLDEN=1`
//! writes what was printed into the file.
//!
//! A line `$ …` is given to `sh`, with lines `> …` behind it; indented lines are what it prints on both outputs, and
//! `[exit 3]` how it ended if not with 0. Lines with `#` say what it is about.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;

/// How long one line may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A shell line as it stands in the file, and the command that it is.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    lines: Vec<String>,
    command: String,
}

/// What a file holds but for what is printed.
#[derive(Debug, PartialEq, Eq)]
struct Transcript {
    about: Vec<String>,
    steps: Vec<Step>,
}

fn parse(text: &str) -> Transcript {
    let mut transcript = Transcript { about: Vec::new(), steps: Vec::new() };
    for line in text.lines() {
        let steps = &mut transcript.steps;
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { lines: vec![line.to_owned()], command: command.to_owned() });
        } else if let (Some(more), Some(step)) = (line.strip_prefix("> "), steps.last_mut()) {
            step.lines.push(line.to_owned());
            step.command += "\n";
            step.command += more;
        } else if line.starts_with('#') {
            transcript.about.push(line.to_owned());
        }
    }
    transcript
}

/// Replaces what is different each time: identifiers, times, addresses given out, the width of columns.
fn settle(printed: &str) -> Result<String> {
    const RULES: &[(&str, &str)] = &[
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
        (r"[0-9a-f]{64}", "SHA256"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000", "TIME"),
        (r"\b(\d+m)?\d+s\b", "AGE"),
        (r"\b10\.96\.\d+\.\d+\b", "ADDRESS"),
        (r"(kube-api-access)-[a-z0-9]{5}\b", "$1-RANDOM"),
        (r#"(resourceVersion"?: ?|Resource Version: +)"?\d+"?"#, "${1}NUMBER"),
        (r"(\S)  +", "$1  "),
    ];
    let mut text = printed.to_owned();
    for (pattern, with) in RULES {
        text = Regex::new(pattern)?.replace_all(&text, *with).into_owned();
    }
    Ok(text)
}

/// Runs the transcript in `file` and compares; `shell` starts a shell with an environment, given its arguments.
pub async fn repeat(file: &Path, dir: &Path, shell: impl Fn(&[&str]) -> Command) -> Result<()> {
    let expected = std::fs::read_to_string(file)?;
    let transcript = parse(&expected);
    let mut found = transcript.about.join("\n") + "\n";
    for step in &transcript.steps {
        found += &(step.lines.join("\n") + "\n");
        let mut command = shell(&["-c", &format!("exec 2>&1\n{}", step.command)]);
        command.current_dir(dir).stdin(Stdio::null());
        let run = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = tokio::time::timeout(LIMIT, run)
            .await
            .with_context(|| format!("it hangs: {}", step.command))??;
        let printed = settle(&String::from_utf8_lossy(&output.stdout))?;
        for line in printed.lines() {
            found += format!("  {line}").trim_end();
            found += "\n";
        }
        if let Some(code) = output.status.code().filter(|code| *code != 0) {
            found += &format!("  [exit {code}]\n");
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return Ok(std::fs::write(file, found)?);
    }
    if found == expected {
        return Ok(());
    }
    let actual = dir.join("printed");
    std::fs::write(&actual, found)?;
    let diff = Command::new("diff").arg("-u").arg(file).arg(&actual).output().context("diff")?;
    bail!("{}", String::from_utf8_lossy(&diff.stdout))
}

/// The transcripts in a folder, by name.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    ensure!(!files.is_empty(), "no transcript in {}", folder.display());
    Ok(files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_what_was_printed() {
        let transcript = parse("# About.\n$ cat <<EOF\n> a\n> EOF\n  a\n$ false\n  [exit 1]\n");
        assert_eq!(transcript.about, ["# About."]);
        let commands: Vec<&str> = transcript.steps.iter().map(|s| s.command.as_str()).collect();
        assert_eq!(commands, ["cat <<EOF\na\nEOF", "false"]);
    }

    #[test]
    fn what_differs_each_time_is_settled() {
        assert_eq!(settle("NAME     AGE\na        12s\n").unwrap(), "NAME  AGE\na  AGE\n");
        assert_eq!(settle("  uid: 6e7b1a2c-0000-4000-8000-000000000001").unwrap(), "  uid: UID");
        assert_eq!(settle(r#"{"resourceVersion":"17"}"#).unwrap(), r#"{"resourceVersion":NUMBER}"#);
    }

    #[tokio::test]
    async fn a_difference_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.txt");
        let shell = |args: &[&str]| {
            let mut command = Command::new("sh");
            command.args(args);
            command
        };
        std::fs::write(&file, "# A.\n$ echo a; exit 3\n  a\n  [exit 3]\n").unwrap();
        repeat(&file, dir.path(), shell).await.unwrap();
        std::fs::write(&file, "# A.\n$ echo a\n  b\n").unwrap();
        let told = repeat(&file, dir.path(), shell).await.unwrap_err().to_string();
        assert!(told.contains("-  b\n+  a\n"), "{told}");
    }
}
