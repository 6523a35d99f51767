//! The keeper of backups: makes one when it is due, copies it, and clears away what is not needed any more.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::name::Backup;
use crate::retention::{self, Tier};
use crate::target::{Target, TargetError};

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// What a snapshot that was taken says of itself: the newest revision in it, or why there is none.
pub type Taken = Result<i64, String>;

/// Keeps backups at several targets.
#[derive(Debug)]
pub struct Keeper {
    /// What the names begin with: the cluster's.
    pub cluster: String,
    /// Where a snapshot is written before it is copied; private to the keeper.
    pub scratch: PathBuf,
    /// Which are kept.
    pub tiers: Vec<Tier>,
    /// Where to.
    pub targets: Vec<Target>,
}

/// A backup that was made.
#[derive(Debug)]
pub struct Made {
    /// Its name at each target.
    pub name: String,
    /// Those targets that do not have it, and why.
    pub failed: Vec<(String, String)>,
}

impl Keeper {
    /// Makes backups for ever. `take` writes a snapshot to the path it is given; it is asked only while `may` says so:
    /// of several members one makes the backups.
    pub async fn run<F>(&self, mut take: impl FnMut(PathBuf) -> F, mut may: impl FnMut() -> bool)
    where
        F: Future<Output = Taken>,
    {
        loop {
            let wait = self.due(Timestamp::now()).await;
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                continue;
            }
            if !may() {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            match self.make(Timestamp::now(), &mut take).await {
                Ok(made) => {
                    for (target, why) in &made.failed {
                        tracing::error!(name = made.name, target, why, "the backup could not be copied");
                    }
                    if !made.failed.is_empty() {
                        tokio::time::sleep(RETRY).await;
                    }
                }
                Err(why) => {
                    tracing::error!(why, "no backup could be made; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
            self.thin_out(Timestamp::now()).await;
        }
    }

    /// How long until a target needs a new backup. One that cannot be listed is asked again a little later.
    async fn due(&self, now: Timestamp) -> Duration {
        let mut wait = Duration::MAX;
        for target in &self.targets {
            let due = match self.backups(target).await {
                Ok(there) => retention::due_in(now, there.iter().map(|b| b.at).max(), &self.tiers),
                Err(error) => {
                    tracing::warn!(%target, %error, "cannot see which backups are there");
                    RETRY
                }
            };
            wait = wait.min(due);
        }
        wait
    }

    /// Makes a backup now, and copies it to the targets that are due: one that fails does not cost the others a backup
    /// each time it is tried again.
    pub async fn make<F>(&self, now: Timestamp, take: &mut impl FnMut(PathBuf) -> F) -> Result<Made, String>
    where
        F: Future<Output = Taken>,
    {
        let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let made = take(self.scratch.clone()).await;
        let copied = match made {
            Ok(revision) => Ok(self.copy(now, Backup { at, revision }).await),
            Err(why) => Err(why),
        };
        match tokio::fs::remove_file(&self.scratch).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.scratch.display(), %error, "cannot be removed");
            }
            _ => {}
        }
        copied
    }

    async fn copy(&self, now: Timestamp, backup: Backup) -> Made {
        let name = backup.name(&self.cluster);
        let mut failed = Vec::new();
        for target in &self.targets {
            match self.copy_to(target, now, &name).await {
                Ok(true) => tracing::info!(name, %target, "backup made"),
                Ok(false) => {}
                Err(error) => failed.push((target.to_string(), error.to_string())),
            }
        }
        Made { name, failed }
    }

    /// Whether the target was due.
    async fn copy_to(&self, target: &Target, now: Timestamp, name: &str) -> Result<bool, TargetError> {
        let newest = self.backups(target).await?.iter().map(|backup| backup.at).max();
        let due = retention::due_in(now, newest, &self.tiers).is_zero();
        if due {
            target.put(name, &self.scratch).await?;
        }
        Ok(due)
    }

    /// Deletes what no tier needs. A target that fails keeps more than it has to, until the next time.
    pub async fn thin_out(&self, now: Timestamp) {
        for target in &self.targets {
            let there = match self.backups(target).await {
                Ok(there) => there,
                Err(error) => {
                    tracing::warn!(%target, %error, "cannot see which backups are there");
                    continue;
                }
            };
            for old in retention::expired(now, &there, &self.tiers) {
                let name = old.name(&self.cluster);
                match target.delete(&name).await {
                    Ok(()) => tracing::info!(name, %target, "backup deleted: no tier needs it any more"),
                    Err(error) => tracing::warn!(name, %target, %error, "cannot delete a backup"),
                }
            }
        }
    }

    /// The backups of this cluster at a target.
    pub async fn backups(&self, target: &Target) -> Result<Vec<Backup>, TargetError> {
        let names = target.list().await?;
        Ok(names.iter().filter_map(|name| Backup::parse(&self.cluster, name)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn keeper(dir: &Path) -> Keeper {
        let targets = vec![Target::directory(dir.join("a")), Target::directory(dir.join("b"))];
        let tiers = retention::DEFAULT_TIERS.to_vec();
        Keeper { cluster: "carrack".to_owned(), scratch: dir.join("scratch"), tiers, targets }
    }

    async fn take(path: PathBuf) -> Taken {
        tokio::fs::write(&path, "snapshot").await.map_err(|error| error.to_string())?;
        Ok(7)
    }

    #[tokio::test]
    async fn a_backup_is_copied_to_each_target_and_thinned_out() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path());
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/notes.txt"), "not a backup").unwrap();
        let day = |n: i64| Timestamp::from_second(n * 86_400).unwrap();
        for n in 100..200 {
            let made = keeper.make(day(n), &mut take).await.unwrap();
            assert!(made.failed.is_empty());
            keeper.thin_out(day(n)).await;
        }
        for target in &keeper.targets {
            let there = keeper.backups(target).await.unwrap();
            assert_eq!(there.len(), 31 + 8, "a month of days, and weeks before");
        }
        assert!(dir.path().join("a/notes.txt").exists(), "what is not a backup is left alone");
        assert!(!keeper.scratch.exists());
        assert_eq!(keeper.due(day(199)).await, Duration::from_secs(1800));
        assert_eq!(keeper.due(day(200)).await, Duration::ZERO);
    }

    #[tokio::test]
    async fn one_target_that_fails_does_not_keep_the_others_from_having_it() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = keeper(dir.path());
        std::fs::write(dir.path().join("a"), "a file where the directory should be").unwrap();
        let made = keeper.make(Timestamp::from_second(1).unwrap(), &mut take).await.unwrap();
        assert_eq!(made.failed.len(), 1);
        assert_eq!(keeper.backups(&keeper.targets[1]).await.unwrap().len(), 1);
        // Once it works again, it alone gets what it lacks.
        std::fs::remove_file(dir.path().join("a")).unwrap();
        keeper.make(Timestamp::from_second(60).unwrap(), &mut take).await.unwrap();
        for target in &keeper.targets {
            assert_eq!(keeper.backups(target).await.unwrap().len(), 1, "{target}");
        }
        let failing = &mut |_: PathBuf| std::future::ready(Err("no store".to_owned()));
        assert_eq!(keeper.make(Timestamp::from_second(2).unwrap(), failing).await.unwrap_err(), "no store");
    }
}
