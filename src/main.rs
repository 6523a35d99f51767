//! The command line of Carrack.
fn main() {}
