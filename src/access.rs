//! Who is believed and who may do what beyond the cluster's own certificates, accounts and roles: the options, which
//! are those of kube-apiserver.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use carrack_server::authn::{Anonymous, AuthnOptions, Issuer, Mapping, ProxyOptions, TokenWebhook};
use carrack_server::authz::config::{self, Choice};
use carrack_server::{Remote, authn, duration};
use clap::Args;
use http::HeaderName;

/// How long the authentication webhook may take; upstream's figure.
const WEBHOOK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Options of authentication and authorization.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Access {
    /// A file with an AuthenticationConfiguration (apiserver.config.k8s.io/v1)
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_issuer_url")]
    authentication_config: Option<PathBuf>,
    /// Whether requests without credentials go on as system:anonymous; only those for health and version by default
    #[arg(long, value_name = "BOOL")]
    anonymous_auth: Option<bool>,
    /// Audiences of tokens that mean this API server; the issuer of ServiceAccount tokens by default
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    api_audiences: Vec<String>,
    /// Whether tokens that are mounted into every pod go on counting for a year, for programs that read theirs once; true
    /// by default
    #[arg(long, value_name = "BOOL")]
    service_account_extend_token_expiration: Option<bool>,
    /// Accept bootstrap tokens (Secrets of type bootstrap.kubernetes.io/token in kube-system)
    #[arg(long)]
    enable_bootstrap_token_auth: bool,
    #[command(flatten)]
    oidc: Oidc,
    #[command(flatten)]
    proxy: Proxy,
    /// A kubeconfig of the webhook that judges bearer tokens which nobody else knows
    #[arg(long, value_name = "FILE")]
    authentication_token_webhook_config_file: Option<PathBuf>,
    /// How long its answers are remembered
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    authentication_token_webhook_cache_ttl: String,
    /// The version of TokenReview that it understands: v1 or v1beta1
    #[arg(long, value_name = "VERSION", default_value = "v1")]
    authentication_token_webhook_version: String,
    #[command(flatten)]
    authorization: Authorization,
}

/// One OpenID Connect issuer.
#[derive(Args, Clone, Debug, Default)]
struct Oidc {
    /// The URL of an OpenID Connect issuer whose tokens are accepted
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    oidc_issuer_url: Option<String>,
    /// The audience that its tokens must have
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    oidc_client_id: Option<String>,
    /// The claim that is the user's name
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    oidc_username_claim: String,
    /// What is put before the name: the issuer's URL and # by default (unless the claim is email), nothing for -
    #[arg(long, value_name = "TEXT", default_value = "")]
    oidc_username_prefix: String,
    /// The claim that lists the groups
    #[arg(long, value_name = "CLAIM", default_value = "")]
    oidc_groups_claim: String,
    /// What is put before each group
    #[arg(long, value_name = "TEXT", default_value = "")]
    oidc_groups_prefix: String,
    /// The authorities of the issuer's server, PEM; the host's own by default
    #[arg(long, value_name = "FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// A claim and the value that it must have, as claim=value
    #[arg(long, value_name = "CLAIM=VALUE")]
    oidc_required_claim: Vec<String>,
    /// The algorithms that tokens may be signed with
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "RS256")]
    oidc_signing_algs: Vec<String>,
}

/// The authenticating proxy.
#[derive(Args, Clone, Debug, Default)]
struct Proxy {
    /// The authorities of authenticating proxies, PEM: who shows their certificate speaks for others by headers
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names that such a certificate may have; any by default
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    /// Headers with the user's name
    #[arg(long, value_name = "HEADER", value_delimiter = ',', default_value = "X-Remote-User")]
    requestheader_username_headers: Vec<String>,
    /// Headers with the user's UID
    #[arg(long, value_name = "HEADER", value_delimiter = ',', default_value = "X-Remote-Uid")]
    requestheader_uid_headers: Vec<String>,
    /// Headers with groups
    #[arg(long, value_name = "HEADER", value_delimiter = ',', default_value = "X-Remote-Group")]
    requestheader_group_headers: Vec<String>,
    /// What begins headers with extras
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', default_value = "X-Remote-Extra-")]
    requestheader_extra_headers_prefix: Vec<String>,
}

/// Who may do what.
#[derive(Args, Clone, Debug, Default)]
struct Authorization {
    /// A file with an AuthorizationConfiguration (apiserver.config.k8s.io/v1)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["authorization_mode", "authorization_webhook_config_file"])]
    authorization_config: Option<PathBuf>,
    /// Authorizers in order: Node, RBAC, ABAC, Webhook, AlwaysAllow, AlwaysDeny; Node,RBAC by default
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    authorization_mode: Vec<String>,
    /// The policies of ABAC, one JSON object a line
    #[arg(long, value_name = "FILE")]
    authorization_policy_file: Option<PathBuf>,
    /// A kubeconfig of the webhook that is asked by SubjectAccessReview
    #[arg(long, value_name = "FILE")]
    authorization_webhook_config_file: Option<PathBuf>,
    /// How long its yes is remembered
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    authorization_webhook_cache_authorized_ttl: String,
    /// How long its other answers are remembered
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    authorization_webhook_cache_unauthorized_ttl: String,
    /// The version of SubjectAccessReview that it understands: v1 or v1beta1
    #[arg(long, value_name = "VERSION", default_value = "v1")]
    authorization_webhook_version: String,
}

impl Access {
    /// How identities are established; `own` is the issuer of ServiceAccount tokens.
    pub(crate) fn authentication(&self, own: &str) -> Result<AuthnOptions> {
        let mut options = AuthnOptions {
            api_audiences: self.api_audiences.clone(),
            bootstrap_tokens: self.enable_bootstrap_token_auth,
            proxy: self.proxy.options()?,
            issuers: self.oidc.issuer()?.into_iter().collect(),
            anonymous: self.anonymous_auth.map(|enabled| Anonymous { enabled, conditions: Vec::new() }),
            webhook: self.token_webhook()?,
            exact_lifetimes: self.service_account_extend_token_expiration == Some(false),
        };
        if let Some(path) = &self.authentication_config {
            let settings = authn::read_authentication(path, own)?;
            options.issuers = settings.jwt;
            if settings.anonymous.is_some() && options.anonymous.is_some() {
                bail!(
                    "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in \
                     authentication configuration file"
                );
            }
            options.anonymous = settings.anonymous.or(options.anonymous);
        }
        Ok(options)
    }

    /// The file that says which issuers are believed, if there is one.
    pub(crate) fn authentication_file(&self) -> Option<&Path> {
        self.authentication_config.as_deref()
    }

    /// The file that says who is asked, if there is one.
    pub(crate) fn authorization_file(&self) -> Option<&Path> {
        self.authorization.authorization_config.as_deref()
    }

    fn token_webhook(&self) -> Result<Option<TokenWebhook>> {
        let Some(path) = &self.authentication_token_webhook_config_file else { return Ok(None) };
        let version =
            version("--authentication-token-webhook-version", &self.authentication_token_webhook_version)?;
        let ttl = &self.authentication_token_webhook_cache_ttl;
        Ok(Some(TokenWebhook {
            target: Remote::open(path, WEBHOOK_TIMEOUT).context("the authentication webhook")?,
            version,
            ttl: time("--authentication-token-webhook-cache-ttl", ttl)?,
        }))
    }

    /// The authorizers, in order.
    pub(crate) fn authorization(&self) -> Result<Vec<Choice>> {
        let options = &self.authorization;
        let abac = options.authorization_policy_file.as_deref();
        if let Some(path) = &options.authorization_config {
            return Ok(config::read(path, abac)?);
        }
        if options.authorization_mode.is_empty() {
            if options.authorization_webhook_config_file.is_some() || abac.is_some() {
                bail!("name the authorizers and their order, as in --authorization-mode=Node,RBAC,Webhook");
            }
            return Ok(vec![Choice::Node, Choice::Rbac]);
        }
        let choice = |name: &String| match name.as_str() {
            "Webhook" => options.webhook(),
            name => config::mode(name, abac).map_err(|why| anyhow::anyhow!("--authorization-mode: {why}")),
        };
        options.authorization_mode.iter().map(choice).collect()
    }

    /// The authorities of proxies, whose certificates the front has to let in.
    pub(crate) fn proxy_authority(&self) -> Result<Option<String>> {
        self.proxy.authority()
    }
}

impl Authorization {
    fn webhook(&self) -> Result<Choice> {
        let path = self.authorization_webhook_config_file.as_deref();
        let path = path.context("--authorization-mode=Webhook needs --authorization-webhook-config-file")?;
        Ok(config::plain_webhook(
            path,
            &version("--authorization-webhook-version", &self.authorization_webhook_version)?,
            time(
                "--authorization-webhook-cache-authorized-ttl",
                &self.authorization_webhook_cache_authorized_ttl,
            )?,
            time(
                "--authorization-webhook-cache-unauthorized-ttl",
                &self.authorization_webhook_cache_unauthorized_ttl,
            )?,
        ))
    }
}

impl Oidc {
    fn issuer(&self) -> Result<Option<Issuer>> {
        let (Some(url), Some(client)) = (&self.oidc_issuer_url, &self.oidc_client_id) else {
            return Ok(None);
        };
        let prefix = match (self.oidc_username_prefix.as_str(), self.oidc_username_claim.as_str()) {
            ("-", _) | ("", "email") => String::new(),
            ("", _) => format!("{url}#"),
            (prefix, _) => prefix.to_owned(),
        };
        let groups =
            Mapping { claim: self.oidc_groups_claim.clone(), prefix: self.oidc_groups_prefix.clone() };
        let required = self.oidc_required_claim.iter().map(|claim| {
            let (claim, value) = claim
                .split_once('=')
                .with_context(|| format!("--oidc-required-claim {claim:?} is not like claim=value"))?;
            Ok((claim.to_owned(), value.to_owned()))
        });
        Ok(Some(Issuer {
            url: url.clone(),
            audiences: vec![client.clone()],
            authority: self.oidc_ca_file.as_deref().map(text).transpose()?,
            username: Mapping { claim: self.oidc_username_claim.clone(), prefix },
            groups: Some(groups).filter(|groups| !groups.claim.is_empty()),
            required: required.collect::<Result<_>>()?,
            algorithms: self.oidc_signing_algs.clone(),
            ..Issuer::default()
        }))
    }
}

impl Proxy {
    fn authority(&self) -> Result<Option<String>> {
        self.requestheader_client_ca_file.as_deref().map(text).transpose()
    }

    fn options(&self) -> Result<Option<ProxyOptions>> {
        let Some(authority) = self.authority()? else { return Ok(None) };
        let headers = |names: &[String]| -> Result<Vec<HeaderName>> {
            let header =
                |name: &String| name.parse().with_context(|| format!("{name:?} is no header's name"));
            names.iter().map(header).collect()
        };
        let prefixes = self.requestheader_extra_headers_prefix.iter();
        Ok(Some(ProxyOptions {
            authority,
            allowed_names: self.requestheader_allowed_names.clone(),
            username_headers: headers(&self.requestheader_username_headers)?,
            uid_headers: headers(&self.requestheader_uid_headers)?,
            group_headers: headers(&self.requestheader_group_headers)?,
            extra_prefixes: prefixes.map(|prefix| prefix.to_ascii_lowercase()).collect(),
        }))
    }
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn time(option: &str, text: &str) -> Result<std::time::Duration> {
    duration(text).map_err(|why| anyhow::anyhow!("{option}: {why}"))
}

fn version(option: &str, version: &str) -> Result<String> {
    match version {
        "v1" | "v1beta1" => Ok(version.to_owned()),
        other => bail!("{option} {other:?}: it is v1 or v1beta1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn access(args: &[&str]) -> Result<Access> {
        match Cli::try_parse_from([&["carrack", "up"], args].concat())?.command {
            Command::Up(up) => Ok(up.server.access),
            _ => bail!("not up"),
        }
    }

    #[test]
    fn without_options_nodes_and_roles_decide() {
        let access = access(&[]).unwrap();
        assert!(matches!(access.authorization().unwrap()[..], [Choice::Node, Choice::Rbac]));
        let options = access.authentication("own").unwrap();
        assert!(options.issuers.is_empty() && options.proxy.is_none() && options.anonymous.is_none());
        assert!(!options.bootstrap_tokens && options.webhook.is_none());
    }

    #[test]
    fn an_issuer_of_the_options_has_upstreams_prefix() {
        let with = |more: &[&str]| {
            let base = ["--oidc-issuer-url=https://i.example.com", "--oidc-client-id=kube"];
            let options = access(&[&base, more].concat()).unwrap().authentication("own").unwrap();
            options.issuers[0].username.prefix.clone()
        };
        assert_eq!(with(&[]), "https://i.example.com#");
        assert_eq!(with(&["--oidc-username-claim=email"]), "");
        assert_eq!(with(&["--oidc-username-prefix=-"]), "");
        assert_eq!(with(&["--oidc-username-prefix=x:"]), "x:");
        assert!(access(&["--oidc-issuer-url=https://i.example.com"]).is_err(), "no client");
        let both = ["--authentication-config=f", "--oidc-issuer-url=https://i", "--oidc-client-id=k"];
        assert!(access(&both).is_err(), "both ways at once");
    }

    #[test]
    fn who_comes_anonymously_is_said_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authentication.yaml");
        let with = |rest: &str| {
            let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
            std::fs::write(&path, format!("{head}{rest}")).unwrap();
            let file = format!("--authentication-config={}", path.display());
            access(&[&file, "--anonymous-auth=true"]).unwrap().authentication("own")
        };
        assert!(with("").unwrap().anonymous.is_some_and(|anonymous| anonymous.enabled));
        let error = with("anonymous: {enabled: false}\n").err().unwrap().to_string();
        assert!(error.contains("--anonymous-auth flag cannot be set"), "{error}");
    }

    #[test]
    fn authorizers_are_named_in_order() {
        let modes = |args: &[&str]| access(args)?.authorization();
        let some = modes(&["--authorization-mode=RBAC,AlwaysDeny"]).unwrap();
        assert!(matches!(some[..], [Choice::Rbac, Choice::AlwaysDeny]));
        for (args, says) in [
            (&["--authorization-mode=Oracle"][..], "Unsupported value"),
            (&["--authorization-mode=Webhook"], "--authorization-webhook-config-file"),
            (&["--authorization-mode=ABAC"], "--authorization-policy-file"),
            (&["--authorization-policy-file=p"], "name the authorizers"),
        ] {
            let error = modes(args).unwrap_err().to_string();
            assert!(error.contains(says), "{args:?}: {error}");
        }
    }
}
