//! Finds directories that a crash left behind: logs of pods that nobody knows, and files of runs that have ended.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::state::{Containers, Run};

/// The log directories, named `<namespace>_<name>_<uid>`, of pods that are not known.
pub(crate) fn unknown_logs(logs: &Path, known: &HashSet<String>) -> io::Result<Vec<PathBuf>> {
    let all = entries(logs)?;
    let unknown = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.rsplit_once('_').is_some_and(|(_, uid)| !known.contains(uid))
    };
    Ok(all.into_iter().filter(unknown).collect())
}

/// The directories `<container>/<run>` of a pod's containers that belong to no run that is going on.
pub(crate) fn ended_runs(dir: &Path, containers: &Containers) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for container in entries(dir)? {
        let name = container.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let state = containers.get(&name).filter(|state| matches!(state.run, Run::Running { .. }));
        let running = state.map(|state| state.restarts.to_string());
        let runs = entries(&container)?;
        found.extend(
            runs.into_iter().filter(|run| run.file_name().and_then(|n| n.to_str()) != running.as_deref()),
        );
    }
    Ok(found)
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other?.map(|entry| Ok(entry?.path())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ContainerState;

    #[test]
    fn logs_of_known_pods_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["default_web_uid-1", "default_web_uid-2", "strange"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let known = HashSet::from(["uid-1".to_owned()]);
        assert_eq!(unknown_logs(dir.path(), &known).unwrap(), [dir.path().join("default_web_uid-2")]);
        assert!(unknown_logs(&dir.path().join("none"), &known).unwrap().is_empty());
    }

    #[test]
    fn the_files_of_the_run_that_goes_on_stay() {
        let dir = tempfile::tempdir().unwrap();
        for run in ["a/1", "a/2", "b/0"] {
            fs::create_dir_all(dir.path().join(run)).unwrap();
        }
        let run = Run::Running { id: "x".into(), pid: 1, started_at: jiff::Timestamp::UNIX_EPOCH };
        let state = ContainerState { restarts: 2, run, ..ContainerState::default() };
        let containers =
            Containers::from([("a".to_owned(), state), ("b".to_owned(), ContainerState::default())]);
        let mut found = ended_runs(dir.path(), &containers).unwrap();
        found.sort();
        assert_eq!(found, [dir.path().join("a/1"), dir.path().join("b/0")]);
    }
}
