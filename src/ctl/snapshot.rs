//! `carrack ctl snapshot`: save one of a running store; inspect one; make a data directory of one.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use carrack_store::Options;
use carrack_store::snapshot::{SnapshotStatus, restore, status};
use clap::Subcommand;
use serde_json::json;

use super::Access;
use super::status::size;
use crate::backup::private_file;

/// `carrack ctl snapshot …`.
#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Save a snapshot of the running store to a file
    Save {
        /// The file; it holds every Secret, and is readable by its owner alone
        file: PathBuf,
    },
    /// Check a snapshot and say what is in it
    Status {
        /// The file
        file: PathBuf,
    },
    /// Make a new data directory of a snapshot: a new cluster, which members of the old one have no part in
    Restore {
        /// The file
        file: PathBuf,
        /// The directory to make; it has to be empty or not there
        #[arg(long, value_name = "DIR", default_value = "/var/lib/carrack/store")]
        data_dir: PathBuf,
        /// The new cluster's name
        #[arg(long, value_name = "NAME", default_value = "carrack")]
        initial_cluster_token: String,
    },
}

pub(super) async fn run(access: &Access, command: Command) -> Result<()> {
    let json = access.output.is_some();
    match command {
        Command::Save { file } => {
            save(access, &file).await?;
            let status = inspect(&file, status).await?;
            print(json, &file, &status, "saved to")
        }
        Command::Status { file } => {
            let status = inspect(&file, status).await?;
            print(json, &file, &status, "whole:")
        }
        Command::Restore { file, data_dir, initial_cluster_token } => {
            let mut options = Options::new(data_dir.clone());
            options.cluster_name = initial_cluster_token;
            let status = inspect(&file, move |file| restore(file, &options)).await?;
            print(json, &data_dir, &status, "restored to")
        }
    }
}

/// Runs what reads all of the file off the runtime's thread.
async fn inspect<E>(
    file: &Path,
    work: impl FnOnce(&Path) -> Result<SnapshotStatus, E> + Send + 'static,
) -> Result<SnapshotStatus>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let file = file.to_owned();
    Ok(tokio::task::spawn_blocking(move || work(&file)).await??)
}

/// Writes beside the file and renames: what has its name is whole.
async fn save(access: &Access, path: &Path) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = PathBuf::from(beside);
    let written = fetch(access, &beside).await.with_context(|| beside.display().to_string());
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&beside);
    }
    written?;
    std::fs::rename(&beside, path).with_context(|| path.display().to_string())?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| dir.display().to_string())
}

async fn fetch(access: &Access, path: &Path) -> Result<()> {
    let mut pieces = access.any().await?.snapshot().await?;
    let mut file = private_file(path)?;
    let mut done = 0_u64;
    let progress = indicatif::ProgressBar::new(0).with_style(indicatif::ProgressStyle::with_template(
        "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}",
    )?);
    while let Some((piece, remaining)) = pieces.next().await? {
        file.write_all(&piece)?;
        done += piece.len() as u64;
        progress.set_length(done + remaining);
        progress.set_position(done);
    }
    progress.finish_and_clear();
    file.sync_all()?;
    Ok(())
}

fn print(json: bool, place: &Path, status: &SnapshotStatus, what: &str) -> Result<()> {
    let SnapshotStatus { revision, compacted, records, leases, bytes } = status;
    if json {
        let shown = json!({
            "path": place, "revision": revision, "compactedRevision": compacted, "records": records,
            "leases": leases, "bytes": bytes,
        });
        println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        let size = size(i64::try_from(*bytes).unwrap_or(i64::MAX));
        println!(
            "{what} {}: revision {revision}, {records} records, {leases} leases, {size}",
            place.display()
        );
    }
    Ok(())
}
