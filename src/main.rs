//! `carrack`: Kubernetes in one binary. This crate is the command line and puts the parts together; the parts are the
//! packages below `control/` and `node/`.

mod access;
mod assemble;
mod audit;
mod backup;
mod checked;
mod cli;
mod cluster;
mod config;
mod ctl;
mod down;
mod face;
mod host;
mod instance;
mod keep;
mod kubeconfigs;
mod member;
mod options;
mod parts;
mod run;
mod server;
mod token;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command};

#[global_allocator]
static HEAP: carrack_supervisor::Heap = carrack_supervisor::Heap;

fn main() -> ExitCode {
    // A pod's supervisor is the same binary, and must be small and single-threaded: before anything else.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == "supervisor") {
        let rest: Vec<_> = args.collect();
        return carrack_supervisor::main(&rest);
    }
    match parse().and_then(carry_out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("carrack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line, completed by the configuration file if it names one.
fn parse() -> anyhow::Result<Cli> {
    let mut command = Cli::command();
    command.build();
    let args = config::expand(&command, std::env::args_os().collect())?;
    Ok(Cli::parse_from(args))
}

fn carry_out(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Up(options) => up::run(*options),
        Command::Server(options) => server::run(*options),
        Command::Token(options) => token::run(options),
        Command::Down(options) => down::run(&options),
        Command::Store(options) => member::run(*options),
        Command::Ctl(options) => ctl::run(options),
        Command::Completion { shell } => {
            cli::print_completion(shell);
            Ok(())
        }
    }
}
