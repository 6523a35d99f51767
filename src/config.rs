//! The configuration file: YAML whose keys are the long names of a command's options. Options on the command line, and in
//! the environment, win over it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};
use serde::Deserialize;

/// The name of the option that names the file.
const OPTION: &str = "config";

/// A value of an option.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Flag(bool),
    Number(i64),
    Text(String),
    List(Vec<Value>),
}

/// The arguments of the program with what the file adds that they name, if they name one.
pub(crate) fn expand(command: &Command, args: Vec<OsString>) -> Result<Vec<OsString>> {
    // Wrong arguments are told of when they are parsed for good.
    let Ok(matches) = command.clone().try_get_matches_from(&args) else { return Ok(args) };
    let Some((name, given)) = matches.subcommand() else { return Ok(args) };
    let Some(command) = command.find_subcommand(name) else { return Ok(args) };
    let Some(path) = file(given) else { return Ok(args) };
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let more = additions(command, given, &text).with_context(|| path.display().to_string())?;
    Ok(args.into_iter().chain(more.into_iter().map(OsString::from)).collect())
}

fn file(given: &ArgMatches) -> Option<PathBuf> {
    given.try_get_one::<PathBuf>(OPTION).ok().flatten().cloned()
}

/// What the file's `text` says and neither the command line nor the environment does.
fn additions(command: &Command, given: &ArgMatches, text: &str) -> Result<Vec<String>> {
    let values: BTreeMap<String, Value> = serde_saphyr::from_str(text)?;
    let mut more = Vec::new();
    for (key, value) in values {
        let option = command.get_arguments().find(|a| a.get_long() == Some(&key) && key != OPTION);
        let Some(option) = option else {
            bail!("{key:?} is not an option of `carrack {}`; see its --help", command.get_name());
        };
        let source = given.value_source(option.get_id().as_str());
        if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        let many = matches!(option.get_action(), ArgAction::Append);
        let switch = matches!(option.get_action(), ArgAction::SetTrue);
        match value {
            Value::Flag(on) if switch => more.extend(on.then(|| format!("--{key}"))),
            Value::List(values) if many => {
                for value in values {
                    more.push(format!("--{key}={}", scalar(&key, value)?));
                }
            }
            value if switch => bail!("{key} is true or false, not {}", scalar(&key, value)?),
            value => more.push(format!("--{key}={}", scalar(&key, value)?)),
        }
    }
    Ok(more)
}

fn scalar(key: &str, value: Value) -> Result<String> {
    match value {
        Value::Flag(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Text(text) => Ok(text),
        Value::List(_) => bail!("{key} takes one value, not a list"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn with(text: &str, args: &[&str]) -> Result<Vec<String>> {
        let mut command = Cli::command();
        command.build();
        let matches = command.clone().try_get_matches_from([&["carrack", "up"], args].concat())?;
        let (name, given) = matches.subcommand().context("no subcommand")?;
        additions(command.find_subcommand(name).context("no command")?, given, text)
    }

    #[test]
    fn the_file_says_what_the_command_line_does_not() {
        let text = "port: 7443\nnode-name: n1\npurge: true\ninsecure-registry: [a:1, b:2]\n";
        let all = [
            "--insecure-registry=a:1",
            "--insecure-registry=b:2",
            "--node-name=n1",
            "--port=7443",
            "--purge",
        ];
        assert_eq!(with(text, &[]).unwrap(), all);
        let some = ["--node-name=n1", "--purge"];
        assert_eq!(with(text, &["--port", "1", "--insecure-registry", "c:3"]).unwrap(), some);
    }

    #[test]
    fn what_is_no_option_is_refused() {
        for (text, says) in [
            ("prot: 1", "\"prot\" is not an option of `carrack up`"),
            ("config: /x", "\"config\" is not an option"),
            ("port: [1, 2]", "port takes one value"),
            ("purge: 7", "purge is true or false, not 7"),
        ] {
            let error = with(text, &[]).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
