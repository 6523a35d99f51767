//! `cargo xtask bench`: measures one part, or all, with an optimised build. The figures, and what they stand beside, go
//! into `docs/benchmarks.md`; run it on an otherwise idle machine.

mod store;

use anyhow::Result;

use crate::setup;
use crate::toolchain::DebianPackage;
use crate::{cargo, ebpf, run};

/// One thing that is measured.
struct Bench {
    part: Part,
    /// `(package, kind of target, name)`.
    target: (&'static str, Target, &'static str),
    args: &'static [&'static str],
    /// What stands beside it.
    needs: &'static [DebianPackage],
}

/// Where cargo finds the program.
enum Target {
    Bin,
    Example,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Part {
    /// Start of a cluster, of one pod and of thirty; memory
    Cluster,
    /// Containers and pods beside `runc`
    Containers,
    /// Connections through a ClusterIP beside direct ones and nftables
    Services,
    /// Requests, lists and watches of the API server
    Api,
    /// Decisions of the scheduler
    Scheduler,
    /// Puts beside bare appends and syncs of the same groups; `carrack store` beside etcd
    Store,
}

const BENCHES: &[Bench] = &[
    Bench {
        part: Part::Cluster,
        target: ("carrack-tests", Target::Bin, "carrack-bench"),
        args: &[],
        needs: &[],
    },
    Bench {
        part: Part::Containers,
        target: ("carrack-supervisor", Target::Example, "create_true"),
        args: &["200"],
        needs: &[DebianPackage { name: "runc", reason: "what a container costs elsewhere" }],
    },
    Bench {
        part: Part::Services,
        target: ("carrack-network", Target::Example, "connect"),
        args: &["20000"],
        needs: &[DebianPackage { name: "nftables", reason: "what a service costs elsewhere" }],
    },
    Bench {
        part: Part::Api,
        target: ("carrack-tests", Target::Bin, "carrack-bench-api"),
        args: &[],
        needs: &[],
    },
    Bench {
        part: Part::Scheduler,
        target: ("carrack-scheduler", Target::Example, "throughput"),
        args: &[],
        needs: &[],
    },
    Bench {
        part: Part::Store,
        target: ("carrack-store", Target::Example, "puts"),
        args: &[],
        needs: &[DebianPackage { name: "etcd-server", reason: "what the store costs elsewhere" }],
    },
];

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The parts; all by default
    #[arg(value_enum)]
    parts: Vec<Part>,
}

/// Builds and runs the benchmarks, one after the other.
pub(crate) fn run_benches(options: &Options) -> Result<()> {
    ebpf::run()?;
    for bench in BENCHES.iter().filter(|b| options.parts.is_empty() || options.parts.contains(&b.part)) {
        setup::install(bench.needs)?;
        let (package, kind, name) = &bench.target;
        let flag = match kind {
            Target::Bin => "--bin",
            Target::Example => "--example",
        };
        // The cluster is the release that people run.
        let profile = if bench.part == Part::Cluster { "release" } else { "bench" };
        if matches!(bench.part, Part::Cluster | Part::Store | Part::Api) {
            run(&mut cargo(&["build", "--release", "--package", "carrack"]))?;
        }
        println!("── {name}");
        let mut program = cargo(&["run", "--quiet", "--profile", profile, "--package", package, flag, name]);
        run(program.arg("--").args(bench.args))?;
        if bench.part == Part::Store {
            store::beside_etcd()?;
        }
    }
    Ok(())
}
