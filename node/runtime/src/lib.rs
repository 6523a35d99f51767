//! Makes containers: namespaces, root filesystems, capabilities, seccomp.
