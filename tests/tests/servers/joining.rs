//! Who joins and who does not.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use carrack_tests::eventually_sync;
use carrack_tests::servers::{Servers, name};

use super::endpoints;

/// Tokens that are mistyped, over, revoked, or of another cluster.
pub(super) fn who_may_not_join_is_told_why(servers: &Servers) -> Result<()> {
    let url = servers.url(0);
    let good = servers.token(0, &[])?;
    let parts: Vec<&str> = good.split('.').collect();
    let short = servers.token(0, &["--ttl", "1s"])?;
    let revoked = servers.token(0, &[])?;
    let id = revoked.split('.').next().context("no id")?;
    let listed = servers.carrack(0, &["token", "list", "-o", "json"])?.to_string();
    ensure!(listed.contains(id) && !listed.contains(parts[1]), "{listed}");
    servers.carrack(0, &["token", "revoke", id])?;
    std::thread::sleep(Duration::from_millis(1100));
    let wrong_secret = format!("{}.{}.{}", parts[0], "a".repeat(32), parts[2]);
    let wrong_authority = format!("{}.{}.{}", parts[0], parts[1], "a".repeat(64));
    let not_known = "the token is not known: it was mistyped or revoked, or its time is over";
    for (token, says) in [
        (wrong_secret, not_known),
        (short, not_known),
        (revoked, not_known),
        (wrong_authority, "is not the one that the token is from"),
        ("nonsense".to_owned(), "this is no token"),
    ] {
        let said = servers.refused(1, &["--join", &url, "--token", &token])?;
        ensure!(said.contains(says), "{token}: {said}");
    }
    let said = servers.refused(1, &["--join", &url, "--token", &good, "--service-cidr", "10.1.0.0/16"])?;
    ensure!(said.contains("this cluster was made with 10.96.0.0/16"), "{said}");
    ensure!(!servers.data_dir(1).join("pki").exists(), "something was given to who was refused");
    Ok(())
}

/// All three are members that vote, are listed, and have the same secrets in private files.
pub(super) fn all_belong_to_it(servers: &Servers) -> Result<()> {
    let all = eventually_sync(Duration::from_secs(20), || {
        let status = servers.status(0)?;
        let fine = |row: &serde_json::Value| matches!(row["role"].as_str(), Some("leader" | "follower"));
        Ok((status.len() == 3 && status.iter().all(fine)).then_some(status))
    })?;
    let text = serde_json::to_string(&all)?;
    for n in 0..3 {
        let runs = format!("api {}:6443", servers.lan.address(n));
        ensure!(text.contains(&name(n)) && text.contains(&runs), "no server {n} in {text}");
    }
    ensure!(text.contains("carrack-scheduler") && text.contains("carrack-controllers"), "{text}");
    let wanted = (0..3).map(|n| servers.lan.address(n).to_string()).collect();
    for n in 0..3 {
        let client = servers.client(n)?;
        eventually_sync(Duration::from_secs(30), || {
            let found = servers.runtime.block_on(endpoints(&client))?;
            Ok((found == wanted).then_some(()))
        })?;
    }
    for file in ["pki/ca.key", "pki/sa.key", "pki/front-proxy-ca.key", "pki/store-ca.key", "encryption.yaml"]
    {
        let first = std::fs::read(servers.data_dir(0).join(file))?;
        for n in 1..3 {
            let path = servers.data_dir(n).join(file);
            ensure!(std::fs::read(&path)? == first, "{} differs", path.display());
            let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
            ensure!(mode == 0o600, "{} has mode {mode:o}", path.display());
        }
    }
    let others = eventually_sync(Duration::from_secs(30), || {
        let text = std::fs::read_to_string(servers.data_dir(0).join("admin.kubeconfig"))?;
        Ok((1..3).all(|n| text.contains(&servers.url(n))).then_some(()))
    });
    others.context("the administrator's kubeconfig names the others")
}
