//! The commands and their options.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::ctl::Ctl;
use crate::member::Member;
use crate::options::{NodeOptions, ServerOptions};
use crate::token::TokenCommand;

/// Kubernetes in one binary, down to the kernel.
#[derive(Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a cluster on this host, in the foreground; Ctrl-C leaves its pods running for the next `up`
    Up(Box<Up>),
    /// Run a member of the control plane, in the foreground: found a cluster, or join one on other hosts with --join
    Server(Box<Server>),
    /// Make, show and take back the tokens that other hosts join with
    Token(TokenCommand),
    /// End the cluster on this host and remove what it made: processes, mounts, links, addresses, control groups
    Down(Down),
    /// Run one member of the replicated store alone, with etcd's API and options
    Store(Box<Member>),
    /// Look after the store: its members, snapshots
    Ctl(Ctl),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// Where a cluster keeps what is its own on a host.
#[derive(Args, Clone, Debug)]
pub(crate) struct Dirs {
    /// What outlives a reboot: the store, keys, images, volumes, logs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/carrack", env = "CARRACK_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    /// What does not: sockets, supervisors' records, eBPF pins
    #[arg(long, value_name = "DIR", default_value = "/run/carrack", env = "CARRACK_RUN_DIR")]
    pub(crate) run_dir: PathBuf,
}

/// The same, with what a node has besides.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    /// The control group, in every hierarchy, below which everything runs
    #[arg(long, value_name = "PATH", default_value = "carrack", env = "CARRACK_CGROUP")]
    pub(crate) cgroup: String,
}

/// `carrack up`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Up {
    /// A YAML file whose keys are the names of these options; options on the command line win over it
    #[arg(long, value_name = "FILE", env = "CARRACK_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// Run the control plane alone: this host is no node, and takes no pods
    #[arg(long)]
    pub(crate) no_node: bool,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// On Ctrl-C, do what `carrack down` does
    #[arg(long)]
    pub(crate) purge: bool,
    /// What to log, such as `debug` or `info,carrack_agent=debug`
    #[arg(long, value_name = "FILTER", default_value = "info,openraft=off", env = "CARRACK_LOG")]
    pub(crate) log: String,
}

/// `carrack server`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Server {
    /// A YAML file whose keys are the names of these options; options on the command line win over it
    #[arg(long, value_name = "FILE", env = "CARRACK_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// What to log, such as `debug` or `info,carrack_server=debug`
    #[arg(long, value_name = "FILTER", default_value = "info,openraft=off", env = "CARRACK_LOG")]
    pub(crate) log: String,
}

/// `carrack down`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Remove the data too: the store with all objects, keys, images, volumes, logs
    #[arg(long)]
    pub(crate) delete_data: bool,
    /// Print the result as JSON
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Output>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For programs
    Json,
}

/// Prints the completion script of a shell.
pub(crate) fn print_completion(shell: Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "carrack", &mut std::io::stdout());
}
