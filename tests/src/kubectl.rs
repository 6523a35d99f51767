//! The kubectls of this machine.

use std::path::Path;
use std::process::Command;

/// kubectl, and the versions of it that lie beside it under names of their own; oldest first. Empty where there is none.
pub fn kubectls() -> Vec<String> {
    let mut found = Vec::new();
    let which = Command::new("sh").args(["-c", "readlink -f \"$(command -v kubectl)\""]).output();
    let Some(main) =
        which.ok().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).filter(|p| !p.is_empty())
    else {
        return found;
    };
    let dir = Path::new(&main).parent().unwrap_or(Path::new("/")).to_owned();
    for version in ["1.27", "1.28", "1.29", "1.30", "1.31", "1.32", "1.33"] {
        let path = dir.join(format!("kubectl.{version}"));
        if path.is_file() {
            found.push(path.display().to_string());
        }
    }
    if found.is_empty() {
        found.push(main);
    }
    found
}
