//! A part of the tests of each package that is fuzzed: its targets take what they begin with, and every input that once made
//! one fail, which is kept as a file below `fuzz/regressions/<target>/`.

#![allow(clippy::unwrap_used, reason = "a part of a test")]

use std::path::Path;

use super::Target;

/// Feeds `targets`, whose names begin with `package`.
pub(crate) fn replay(package: &str, targets: &[Target]) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions");
    let entries = std::fs::read_dir(&kept).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    for name in names.filter(|name| name.split('-').next() == Some(package)) {
        assert!(
            targets.iter().any(|target| target.0 == name),
            "{name} is no target: rename or remove its files"
        );
    }
    for (name, target, seeds) in targets {
        let seeds = seeds();
        assert!(!seeds.is_empty(), "{name} begins with nothing");
        seeds.iter().for_each(|seed| target(seed));
        target(&[]);
        for entry in std::fs::read_dir(kept.join(name)).into_iter().flatten() {
            let path = entry.unwrap().path();
            eprintln!("{}", path.display());
            target(&std::fs::read(path).unwrap());
        }
    }
}
