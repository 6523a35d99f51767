//! `carrack down`: ends the cluster on this host and removes what it made.

use anyhow::{Context, Result};

use crate::cli::{Down, Output, Place};
use crate::{instance, parts};

/// Ends a running `carrack up`, its pods, and removes everything but the data.
pub(crate) fn run(options: &Down) -> Result<()> {
    let _instance = instance::end_and_take(&options.place.dirs.data_dir)?;
    remove(&options.place)?;
    if options.delete_data {
        let dir = &options.place.dirs.data_dir;
        std::fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    report(options);
    Ok(())
}

/// Removes processes, mounts, links, addresses, control groups and pins.
pub(crate) fn remove(place: &Place) -> Result<()> {
    carrack_agent::purge(&parts::agent_place(place)).context("something was not removed; run it again")?;
    match std::fs::remove_dir_all(&place.dirs.run_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| place.dirs.run_dir.display().to_string())
        }
        _ => Ok(()),
    }
}

#[allow(clippy::print_stdout, reason = "the command's result")]
fn report(options: &Down) {
    let dir = options.place.dirs.data_dir.display();
    match (options.output, options.delete_data) {
        (Some(Output::Json), deleted) => println!("{{\"removed\":true,\"dataDeleted\":{deleted}}}"),
        (None, true) => println!("the cluster is down, and its data in {dir} is deleted"),
        (None, false) => {
            println!("the cluster is down; its data is still in {dir} (--delete-data removes it)")
        }
    }
}
