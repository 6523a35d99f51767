//! `carrack-supervisor supervisor <dir>`: what `carrack supervisor` is, for this package's tests.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(2).collect();
    carrack_supervisor::main(&args)
}
