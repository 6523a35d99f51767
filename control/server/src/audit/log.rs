//! The audit log: lines of JSON in a file that is replaced when it is large; old ones go by number and age.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Mode;

/// Where events go, and how much of them is kept; the names and meaning of upstream's options.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// Days after which a replaced file goes; 0: never.
    pub max_age: u32,
    /// How many replaced files are kept; 0: all.
    pub max_backup: usize,
    /// Megabytes after which the file is replaced; 0: 100.
    pub max_size: u64,
    /// Whether a request waits until its events are written.
    pub mode: Mode,
}

const DAY: Duration = Duration::from_secs(86_400);
const MEGABYTE: u64 = 1024 * 1024;
const DEFAULT_SIZE: u64 = 100;

/// The open file.
pub(super) struct Log {
    options: LogOptions,
    limit: u64,
    file: Option<File>,
    length: u64,
}

impl Log {
    /// Opens the file, which is made (0600) if it is missing.
    pub(super) fn open(options: LogOptions) -> io::Result<Self> {
        let size = if options.max_size == 0 { DEFAULT_SIZE } else { options.max_size };
        let mut log = Log { options, limit: size * MEGABYTE, file: None, length: 0 };
        log.reopen()?;
        Ok(log)
    }

    fn is_standard_output(&self) -> bool {
        self.options.path == Path::new("-")
    }

    fn reopen(&mut self) -> io::Result<()> {
        if self.is_standard_output() {
            return Ok(());
        }
        if let Some(dir) = self.options.path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.options.path)?;
        self.length = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Appends whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_standard_output() {
            return io::stdout().lock().write_all(lines);
        }
        if self.length > 0 && self.length + lines.len() as u64 > self.limit {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        match file.write_all(lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // The next line tries with a new handle.
                self.file = None;
                Err(error)
            }
        }
    }

    /// Puts the file aside under the name of this moment, and drops what is too much.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        let now = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H-%M-%S%.3f").to_string();
        let (stem, extension) = self.names();
        fs::rename(&self.options.path, self.options.path.with_file_name(format!("{stem}-{now}{extension}")))?;
        self.reopen()?;
        self.drop_old();
        Ok(())
    }

    fn names(&self) -> (String, String) {
        let part = |text: Option<&std::ffi::OsStr>| text.map(|t| t.to_string_lossy().into_owned());
        let stem = part(self.options.path.file_stem()).unwrap_or_default();
        let extension = part(self.options.path.extension()).map(|e| format!(".{e}")).unwrap_or_default();
        (stem, extension)
    }

    fn drop_old(&self) {
        let old = self.replaced().into_iter().rev().enumerate().filter(|(index, path)| {
            let too_many = self.options.max_backup > 0 && *index >= self.options.max_backup;
            let age = fs::metadata(path).and_then(|m| m.modified()).ok();
            let age = age.and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default();
            too_many || (self.options.max_age > 0 && age > DAY * self.options.max_age)
        });
        for (_, path) in old {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an old audit log cannot be removed");
            }
        }
    }

    /// The files that were put aside, oldest first.
    fn replaced(&self) -> Vec<PathBuf> {
        let (stem, extension) = self.names();
        let start = format!("{stem}-");
        let is_ours = |name: &str| {
            let middle = name.strip_prefix(&start).and_then(|rest| rest.strip_suffix(&extension));
            middle.is_some_and(|time| time.len() == "2026-01-01T00-00-00.000".len() && time.starts_with("20"))
        };
        let dir = self.options.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let entries = fs::read_dir(dir.unwrap_or(Path::new(".")));
        let mut found: Vec<PathBuf> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(is_ours))
            .collect();
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            path: dir.path().join("audit/audit.log"),
            max_age: 1,
            max_backup: 2,
            max_size: 1,
            mode: Mode::Blocking,
        };
        let mut log = Log::open(options.clone()).unwrap();
        let line = [vec![b'x'; 600_000], vec![b'\n']].concat();
        std::fs::write(dir.path().join("audit/audit-other.log"), "mine").unwrap();
        for _ in 0..5 {
            log.write(&line).unwrap();
            std::thread::sleep(Duration::from_millis(3));
        }
        assert_eq!(log.replaced().len(), 2, "four were replaced, two are kept");
        assert_eq!(fs::metadata(&options.path).unwrap().len(), line.len() as u64);
        assert!(dir.path().join("audit/audit-other.log").exists(), "what is not the log's stays");
        let oldest = log.replaced().remove(0);
        let two_days_ago = SystemTime::now() - DAY * 2;
        File::options().write(true).open(&oldest).unwrap().set_modified(two_days_ago).unwrap();
        log.drop_old();
        assert!(!oldest.exists() && log.replaced().len() == 1);
        drop(log);
        let mut again = Log::open(options.clone()).unwrap();
        again.write(b"more\n").unwrap();
        assert_eq!(fs::metadata(&options.path).unwrap().len(), line.len() as u64 + 5, "it is gone on with");
    }
}
