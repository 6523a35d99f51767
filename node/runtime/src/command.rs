//! Finds a command in `$PATH` and runs it, with the words and exit codes people know from other runtimes.

use crate::report::{LaunchError, LaunchErrorKind, describe};
use crate::sys;
use rustix::fs::{Access, AtFlags, CWD, accessat, stat};
use rustix::io::Errno;
use std::convert::Infallible;
use std::ffi::CString;

/// Searched when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Replaces this process; relative names are looked up from the working directory, which is inside the container.
pub(crate) fn run(args: &[String], env: &[String]) -> Result<Infallible, LaunchError> {
    let command = args.first().ok_or_else(|| LaunchError::invalid("no command specified"))?;
    let path = find(command, env)?;
    refuse_own_binary(&path)?;
    let errno = match sys::execve(&c_string(&path)?, &c_strings(args)?, &c_strings(env)?) {
        Ok(never) => match never {},
        Err(errno) => errno,
    };
    let kind = match errno {
        Errno::ACCESS | Errno::NOEXEC | Errno::PERM => LaunchErrorKind::NotExecutable,
        Errno::NOENT => LaunchErrorKind::CommandNotFound,
        _ => LaunchErrorKind::Step,
    };
    Err(failure(kind, format!("exec {path}: {}", describe(errno)), errno))
}

fn find(command: &str, env: &[String]) -> Result<String, LaunchError> {
    if command.contains('/') {
        return match executable(command) {
            Ok(()) => Ok(command.to_owned()),
            Err(Errno::NOENT) => {
                let message = format!("exec: {command:?}: stat {command}: no such file or directory");
                Err(failure(LaunchErrorKind::CommandNotFound, message, Errno::NOENT))
            }
            Err(errno) => Err(not_executable(command, errno)),
        };
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    // An empty command would otherwise find the directories themselves.
    for dir in path.split(':').filter(|_| !command.is_empty()) {
        // By custom an empty entry is the working directory.
        let candidate = format!("{}/{command}", if dir.is_empty() { "." } else { dir });
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => denied = denied.or(Some(errno)),
        }
    }
    match denied {
        Some(errno) => Err(not_executable(command, errno)),
        None => {
            let message = format!("exec: {command:?}: executable file not found in $PATH");
            Err(failure(LaunchErrorKind::CommandNotFound, message, Errno::NOENT))
        }
    }
}

fn not_executable(command: &str, errno: Errno) -> LaunchError {
    failure(LaunchErrorKind::NotExecutable, format!("exec: {command:?}: {}", describe(errno)), errno)
}

fn failure(kind: LaunchErrorKind, message: String, errno: Errno) -> LaunchError {
    LaunchError { kind, message, errno: Some(errno.raw_os_error()) }
}

fn executable(path: &str) -> Result<(), Errno> {
    let stat = stat(path)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
        return Err(Errno::ISDIR);
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

/// A container must not get at this very binary, which it could later overwrite: `/proc/self/exe` as the command
/// would run it inside. (While any supervisor runs, the kernel also refuses to open it for writing.)
fn refuse_own_binary(path: &str) -> Result<(), LaunchError> {
    match (stat(path), stat("/proc/self/exe")) {
        (Ok(command), Ok(own)) if (command.st_dev, command.st_ino) == (own.st_dev, own.st_ino) => {
            Err(not_executable(path, Errno::PERM))
        }
        _ => Ok(()),
    }
}

pub(crate) fn c_string(text: &str) -> Result<CString, LaunchError> {
    CString::new(text).map_err(|_| LaunchError::invalid(format!("{text:?} holds a NUL character")))
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>, LaunchError> {
    texts.iter().map(|text| c_string(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn error(command: &str, path: &str) -> LaunchError {
        find(command, &[format!("PATH={path}")]).unwrap_err()
    }

    #[test]
    fn says_why_a_command_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        std::fs::write(dir.path().join("plain"), "x").unwrap();
        std::fs::write(dir.path().join("tool"), "x").unwrap();
        std::fs::set_permissions(dir.path().join("tool"), PermissionsExt::from_mode(0o755)).unwrap();

        let missing = error("foo", path);
        assert_eq!(missing.message, "exec: \"foo\": executable file not found in $PATH");
        assert_eq!(missing.exit_code(), 127);
        let plain = error("plain", path);
        assert_eq!((plain.message.as_str(), plain.exit_code()), ("exec: \"plain\": permission denied", 126));
        assert_eq!(error(path, "/bin").exit_code(), 126, "a directory");
        assert_eq!(
            error("/no/such", "/bin").message,
            "exec: \"/no/such\": stat /no/such: no such file or directory"
        );
        assert_eq!(error("", path).exit_code(), 127);
        assert_eq!(find("tool", &[format!("PATH=/none:{path}")]).unwrap(), format!("{path}/tool"));
    }
}
