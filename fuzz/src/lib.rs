//! One program for each package, and in it one target for each run: linking takes longer than anything else here.
//!
//! `CARRACK_FUZZ` names the target. With `CARRACK_FUZZ_SEEDS` a program only writes what its targets begin with, to
//! `<that directory>/<target>/`, and prints their names.

use std::path::Path;
use std::sync::OnceLock;

/// What a package has to be fed: a name, a function that takes anything and never panics, and what it is fed first.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// Before anything is fed.
pub fn start(targets: &[Target]) {
    let Some(dir) = std::env::var_os("CARRACK_FUZZ_SEEDS") else { return };
    for (name, _, seeds) in targets {
        write(&Path::new(&dir).join(name), &seeds()).expect("seeds can be written");
        println!("{name}");
    }
    std::process::exit(0);
}

fn write(dir: &Path, seeds: &[Vec<u8>]) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(dir.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}

/// Feeds `data` to the target that is wanted.
pub fn run(targets: &'static [Target], data: &[u8]) {
    static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let wanted = std::env::var("CARRACK_FUZZ").unwrap_or_default();
        let names: Vec<&str> = targets.iter().map(|target| target.0).collect();
        let found = targets.iter().find(|target| target.0 == wanted);
        found.unwrap_or_else(|| panic!("CARRACK_FUZZ is {wanted:?}, not one of {names:?}")).1
    });
    chosen(data);
}
