//! What options and the files that they name get wrong is told before anything is written: a start that fails leaves no
//! cluster behind that was half made, or made otherwise than it was meant.

use anyhow::{Context, Result, bail};
use carrack_server::authn::issuer;
use carrack_server::authz::config;
use carrack_server::encryption::Encryption;
use carrack_server::join::ClusterSettings;

use crate::cli::Dirs;
use crate::cluster;
use crate::options::ServerOptions;
use crate::parts::{first_address, pod_range};

/// Refuses options that a member of the control plane cannot start with. Each file is read again when it is used.
pub(crate) async fn check(server: &ServerOptions, dirs: &Dirs) -> Result<()> {
    let common = cluster::planned(&dirs.data_dir, &server.cluster)?;
    // Who joins is told by the others.
    if server.join.join.is_none() {
        check_cluster(&common)?;
    }
    if let Some(name) = &server.node_name {
        check_name("--node-name", name)?;
    }
    let (configured, chosen) = server.admission()?;
    configured.check(&chosen).context("admission")?;
    config::check(&server.access.authorization()?)?;
    let own = issuer(&common.cluster_domain);
    server.access.authentication(&own)?.check(&own)?;
    if let Some(file) = &server.encryption_provider_config {
        Encryption::load(file)?;
    }
    server.audit.check()?;
    server.backups.keeper("", &dirs.data_dir)?;
    Ok(())
}

/// What a cluster is made with cannot be changed afterwards.
fn check_cluster(common: &ClusterSettings) -> Result<()> {
    first_address(&common.service_cidr)?;
    pod_range(&common.pod_cidr)?;
    let services: ipnet::Ipv4Net = common.service_cidr.parse()?;
    if !services.contains(&common.cluster_dns) {
        bail!("--cluster-dns {} is not in --service-cidr {services}", common.cluster_dns);
    }
    check_name("--cluster-domain", &common.cluster_domain)
}

/// A name that objects of the API and certificates can have.
fn check_name(option: &str, name: &str) -> Result<()> {
    let good = |part: &str| {
        let plain = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        plain && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(good) {
        bail!(
            "{option} {name:?}: use lower case letters, digits, - and . alone, with letters or digits at the ends"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    async fn refused(args: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let base = ["carrack", "server", "--data-dir", data.to_str().unwrap()];
        let cli = Cli::try_parse_from([&base, args].concat()).unwrap();
        let Command::Server(options) = cli.command else { panic!("not a server") };
        let refused = check(&options.server, &options.dirs).await;
        assert!(!data.exists(), "{args:?}: nothing is written");
        refused.err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[tokio::test]
    async fn what_options_and_files_get_wrong_is_told_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = dir.path().join("wrong.yaml");
        std::fs::write(&wrong, "a: [").unwrap();
        let wrong = wrong.to_str().unwrap();
        let file = |option: &str| format!("--{option}={wrong}");
        let here = |option: &str| vec![file(option)];
        let missing = "--audit-log-path=/dev/null".to_owned();
        assert_eq!(refused(&[]).await, "");
        for (args, says) in [
            (here("admission-control-config-file"), "wrong.yaml: it is no YAML"),
            (here("authentication-config"), "wrong.yaml"),
            (here("authorization-config"), "wrong.yaml"),
            (here("encryption-provider-config"), "wrong.yaml"),
            (vec![file("audit-policy-file"), missing], "wrong.yaml cannot be used"),
            (here("audit-policy-file"), "--audit-log-path"),
            (vec!["--authorization-mode=ABAC".into(), file("authorization-policy-file")], "wrong.yaml"),
            (
                vec!["--authorization-mode=Webhook".into(), file("authorization-webhook-config-file")],
                "authorization webhook",
            ),
            (here("authentication-token-webhook-config-file"), "the authentication webhook"),
            (here("requestheader-client-ca-file"), "authenticating proxy"),
            (vec!["--oidc-issuer-url=http://a".into(), "--oidc-client-id=k".into()], "must be https"),
            (vec!["--enable-admission-plugins=Pod".into()], "\"Pod\" is unknown"),
            (vec!["--enable-admission-plugins=EventRateLimit".into()], "needs a configuration"),
            (vec!["--service-cidr=x".into()], "--service-cidr x is not a range"),
            (vec!["--pod-cidr=x".into()], "--pod-cidr x is not a range"),
            (vec!["--service-cidr=10.9.0.0/16".into()], "--cluster-dns 10.96.0.10 is not in"),
            (vec!["--node-name=A_b".into()], "--node-name \"A_b\""),
            (vec!["--cluster-domain=.x".into()], "--cluster-domain \".x\""),
            (vec!["--backup-to=/x".into(), "--backup-tiers=1s".into()], "--backup-tiers"),
        ] {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let error = refused(&args).await;
            assert!(error.contains(says), "{args:?}: {error}");
        }
    }
}
