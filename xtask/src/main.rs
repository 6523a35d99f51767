//! The project's own tools: set-up, eBPF build, tests, virtual machine, benchmarks, demo.
fn main() {}
