//! Scheduled backups of the store: options, and the task that makes them on the member that leads.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use carrack_backup::{Keeper, S3, Taken, Target, Tier};
use carrack_store::Store;
use clap::Args;
use tokio_util::sync::CancellationToken;

/// Where backups go, and which are kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct Backups {
    /// Back up to this directory, or `s3://bucket/prefix`; may be given several times
    #[arg(long, value_name = "PLACE", value_delimiter = ',')]
    pub(crate) backup_to: Vec<String>,
    /// The object store's address; its credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://s3.amazonaws.com",
        env = "CARRACK_BACKUP_S3_ENDPOINT"
    )]
    pub(crate) backup_s3_endpoint: String,
    /// Its region
    #[arg(long, value_name = "NAME", default_value = "us-east-1", env = "CARRACK_BACKUP_S3_REGION")]
    pub(crate) backup_s3_region: String,
    /// How often, and how long these are kept, as `every/keep`; may be given several times
    #[arg(long, value_name = "TIER", value_delimiter = ',', default_value = "30m/48h,24h/720h,168h/2016h")]
    pub(crate) backup_tiers: Vec<String>,
}

impl Backups {
    /// The keeper that these options describe; `None` without a place.
    pub(crate) fn keeper(&self, cluster: &str, data_dir: &Path) -> Result<Option<Keeper>> {
        if self.backup_to.is_empty() {
            return Ok(None);
        }
        let tiers = self.backup_tiers.iter().map(|text| tier(text)).collect::<Result<Vec<_>>>()?;
        let targets = self.backup_to.iter().map(|place| self.target(place)).collect::<Result<_>>()?;
        let scratch = beside(data_dir);
        Ok(Some(Keeper { cluster: cluster.to_owned(), scratch, tiers, targets }))
    }

    fn target(&self, place: &str) -> Result<Target> {
        if !place.starts_with("s3://") {
            return Ok(Target::directory(place));
        }
        let Some(credentials) = carrack_backup::credentials_from_env() else {
            bail!("--backup-to {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        };
        let bucket = S3::new(&self.backup_s3_endpoint, &self.backup_s3_region, place, credentials)?;
        Ok(Target::S3(Box::new(bucket)))
    }
}

/// Beside the data, not in it: a data directory is the store's alone.
fn beside(data_dir: &Path) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".backup");
    name.into()
}

/// `30m/48h`.
fn tier(text: &str) -> Result<Tier> {
    let wrong = || format!("--backup-tiers: {text:?} is not like 30m/48h");
    let (every, keep) = text.split_once('/').with_context(wrong)?;
    let time = |text: &str| -> Result<std::time::Duration> {
        let time: jiff::SignedDuration = text.trim().parse().with_context(wrong)?;
        time.try_into().with_context(wrong)
    };
    let tier = Tier { every: time(every)?, keep: time(keep)? };
    if tier.every.as_secs() < 1 {
        bail!("--backup-tiers: {text:?}: every has to be a second or more");
    }
    Ok(tier)
}

/// Makes backups until `shutdown`.
pub(crate) async fn run(store: Store, keeper: Keeper, shutdown: CancellationToken) {
    let leads = store.clone();
    let make = keeper.run(move |path| snapshot(store.clone(), path), move || leads.is_leader());
    tokio::select! {
        () = make => {}
        () = shutdown.cancelled() => {}
    }
}

/// Writes a snapshot to `path`; gives its revision. What was written is read back and checked.
async fn snapshot(store: Store, path: PathBuf) -> Taken {
    let write = async {
        let mut snapshot = store.snapshot().await.map_err(io::Error::other)?;
        let mut file = private_file(&path)?;
        while let Some(piece) = snapshot.next().await {
            let piece = piece.map_err(io::Error::other)?;
            file = tokio::task::spawn_blocking(move || file.write_all(&piece).map(|()| file)).await??;
        }
        tokio::task::spawn_blocking(move || file.sync_all()).await?
    };
    write.await.map_err(|error: io::Error| format!("cannot take a snapshot: {error}"))?;
    let checked = tokio::task::spawn_blocking(move || carrack_store::snapshot::status(&path)).await;
    let checked = checked.map_err(|error| error.to_string())?;
    checked.map(|status| status.revision).map_err(|error| error.to_string())
}

/// A new file that its owner alone may read: it holds every Secret.
pub(crate) fn private_file(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use carrack_backup::DEFAULT_TIERS;

    use super::*;

    #[test]
    fn the_default_tiers_are_the_backups_own() {
        let texts = ["30m/48h", "24h/720h", "168h/2016h"];
        assert_eq!(texts.map(|text| tier(text).unwrap()), DEFAULT_TIERS);
        assert!(tier("30m").is_err());
        assert!(tier("0s/1h").is_err());
        assert!(tier("soon/1h").is_err());
    }
}
