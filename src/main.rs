//! `carrack`: Kubernetes in one binary. This crate is the command line and puts the parts together; the parts are the
//! packages below `control/` and `node/`.

mod cli;
mod down;
mod host;
mod instance;
mod keep;
mod parts;
mod server;
mod up;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    // A pod's supervisor is the same binary, and must be small and single-threaded: before anything else.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == "supervisor") {
        let rest: Vec<_> = args.collect();
        return carrack_supervisor::main(&rest);
    }
    let result = match Cli::parse().command {
        Command::Up(options) => up::run(*options),
        Command::Down(options) => down::run(&options),
        Command::Completion { shell } => {
            cli::print_completion(shell);
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("carrack: {error:#}");
            ExitCode::FAILURE
        }
    }
}
