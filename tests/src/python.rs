//! Python packages as peers of tests: each set in an environment of its own, kept between runs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::root;

/// The `bin` directory's `python` of an environment called `name` with these packages (as pip names them) in it.
pub fn python(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let dir = root().join("target/python").join(name);
    let (python, ready) = (dir.join("bin/python"), dir.join("ready"));
    let wanted = packages.join(" ");
    if std::fs::read_to_string(&ready).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    let steps = [
        Command::new("python3").args(["-m", "venv"]).arg(&dir).output()?,
        Command::new(&python).args(["-m", "pip", "install", "-q"]).args(packages).output()?,
    ];
    for step in steps {
        ensure!(step.status.success(), "{}", String::from_utf8_lossy(&step.stderr));
    }
    std::fs::write(ready, wanted)?;
    Ok(python)
}
