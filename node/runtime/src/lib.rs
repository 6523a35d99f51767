//! Makes containers: namespaces, root filesystems, capabilities, seccomp.
//!
//! [`Sandbox::enter`] turns a single-threaded process into the keeper of a pod's namespaces; [`start`] forks a
//! container from it and [`exec`] a further process in one. Both return at once; [`Launching`] tells how it went.

mod caps;
mod command;
mod container;
pub mod device_access;
mod devices;
mod inroot;
mod join;
mod launch;
mod mounts;
mod process;
mod report;
mod sandbox;
mod seccomp;
mod spec;
mod sys;
mod user;

pub use launch::{Launching, Progress, daemonize, exec, start};
pub use process::{Stdio, set_oom_score_adj};
pub use report::{LaunchError, LaunchErrorKind};
pub use sandbox::{Sandbox, SandboxSpec};
pub use spec::{
    Capabilities, CgroupPaths, Devices, ExecProcess, Mount, MountKind, PidNamespace, Propagation, Rlimit,
    Root, Seccomp, Spec, User, default_masked_paths, default_mounts, default_readonly_paths,
};
pub use sys::{send_signal, signal_fd, trim_heap};
