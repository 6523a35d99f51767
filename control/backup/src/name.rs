//! The names of backups: they say which cluster, when, and up to which revision, so that a listing is all that is needed.

use jiff::Timestamp;

/// What every backup's name ends with.
const SUFFIX: &str = ".snapshot";
/// The time in a name: sorts like the time, and is fine in file names and object keys.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// A backup, as its name tells. Ordered by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backup {
    /// When it was made, to the second.
    pub at: Timestamp,
    /// The store's newest revision in it.
    pub revision: i64,
}

impl Backup {
    /// The file's name or object's key, for the cluster called `cluster`: `carrack-20261121T053000Z-r4711.snapshot`.
    pub fn name(&self, cluster: &str) -> String {
        format!("{cluster}-{}-r{}{SUFFIX}", self.at.strftime(TIME), self.revision)
    }

    /// Reads a name; `None` if it is not one of a backup of `cluster`.
    pub fn parse(cluster: &str, name: &str) -> Option<Backup> {
        let rest = name.strip_prefix(cluster)?.strip_prefix('-')?.strip_suffix(SUFFIX)?;
        let (time, revision) = rest.split_once("-r")?;
        let at = jiff::civil::DateTime::strptime(TIME, time).ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Backup {
            at: at.timestamp(),
            revision: revision.parse().ok().filter(|revision| *revision >= 0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let backup = Backup { at: "2026-11-21T05:30:00Z".parse().unwrap(), revision: 4711 };
        assert_eq!(backup.name("carrack"), "carrack-20261121T053000Z-r4711.snapshot");
        assert_eq!(Backup::parse("carrack", &backup.name("carrack")), Some(backup));
        for other in [
            "carrack-x-r1.snapshot",
            "other-20261121T053000Z-r1.snapshot",
            "carrack-20261121T053000Z-r-1.snapshot",
            "notes.txt",
        ] {
            assert_eq!(Backup::parse("carrack", other), None, "{other}");
        }
    }
}
