//! `carrack ctl member`: changes who belongs to the store.

use anyhow::{Context, Result, bail};
use carrack_server::server_key;
use carrack_store::etcd::client::ListedMember;
use clap::Subcommand;
use serde_json::json;

use super::Access;

/// `carrack ctl member …`.
#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Remove a member for good, and its API server from the kubernetes service
    Remove {
        /// Its name or its id, as `carrack ctl status` shows them
        member: String,
    },
    /// Give a learner its vote, once it has caught up
    Promote {
        /// Its name or its id
        member: String,
    },
}

pub(super) async fn run(access: &Access, command: Command) -> Result<()> {
    let client = access.any().await?;
    let members = client.members().await?;
    let (name, id, done) = match command {
        Command::Remove { member } => {
            let found = find(&members, &member)?;
            client.remove_member(found.id).await?;
            // It would go by itself when the member's lease ends.
            client
                .delete(server_key(found.id))
                .await
                .context("it is removed; its API server is listed for 10 s more")?;
            (found.name.clone(), found.id, "removed")
        }
        Command::Promote { member } => {
            let found = find(&members, &member)?;
            client.promote_member(found.id).await?;
            (found.name.clone(), found.id, "promoted")
        }
    };
    if access.output.is_some() {
        println!("{}", json!({"id": format!("{id:x}"), "name": name, done: true}));
    } else {
        println!("member {name} ({id:x}) is {done}");
    }
    Ok(())
}

/// The member with this name or id.
fn find<'a>(members: &'a [ListedMember], wanted: &str) -> Result<&'a ListedMember> {
    let named: Vec<_> =
        members.iter().filter(|m| m.name == wanted || format!("{:x}", m.id) == wanted).collect();
    match named[..] {
        [one] => Ok(one),
        [] => bail!("there is no member {wanted:?}; `carrack ctl status` shows all"),
        _ => bail!("several members are called {wanted:?}; give the id, as `carrack ctl status` shows it"),
    }
}
