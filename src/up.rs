//! `carrack up`: a member of the control plane and a node on one host, in one process, in the foreground.

use anyhow::Result;

use crate::cli::Up;
use crate::parts::Order;
use crate::{checked, down, instance, server};

/// Runs until Ctrl-C or SIGTERM.
pub(crate) fn run(options: Up) -> Result<()> {
    server::start_log(&options.log)?;
    let Up { place, server, node, no_node, purge, .. } = options;
    server::block_on(checked::check(&server, &place.dirs))?;
    let _instance = instance::take(&place.dirs.data_dir)?;
    let dirs = place.dirs.clone();
    let node = (!no_node).then(|| (node, place.clone()));
    server::block_on(server::serve(Order { dirs, server, node, expects_others: false }))?;
    if purge {
        down::remove(&place)?;
        tracing::info!("the cluster is down");
    } else {
        tracing::info!(
            "carrack has ended; pods keep running, `carrack up` takes them over and `carrack down` ends them"
        );
    }
    Ok(())
}
