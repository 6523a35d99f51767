//! Makes containers: namespaces, root filesystems, capabilities, seccomp.

mod spec;

pub use spec::{
    Capabilities, CgroupPaths, Devices, ExecProcess, Mount, MountKind, PidNamespace, Propagation, Rlimit,
    Root, Seccomp, Spec, User, default_masked_paths, default_mounts, default_readonly_paths,
};
