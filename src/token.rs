//! `carrack token`: what other hosts join with.

#![allow(clippy::print_stdout, reason = "what a command says")]

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use carrack_server::join::{NAMESPACE, Role, SECRET_TYPE, Token};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use crate::cli::Output;

/// `carrack token`.
#[derive(Args, Debug)]
pub(crate) struct TokenCommand {
    /// The administrator's kubeconfig; that of the cluster on this host by default
    #[arg(long, global = true, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Where the cluster on this host keeps its data
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/var/lib/carrack",
        env = "CARRACK_DATA_DIR"
    )]
    data_dir: PathBuf,
    /// Print the result as JSON
    #[arg(short, long, global = true, value_enum)]
    output: Option<Output>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make a token, and print the command that takes it
    Create {
        /// What hosts become with it
        #[arg(long, value_enum, default_value_t = Becomes::Server)]
        role: Becomes,
        /// For how long it is good
        #[arg(long, value_name = "DURATION", default_value = "1h")]
        ttl: jiff::SignedDuration,
    },
    /// Show the tokens that there are, without their secrets
    List,
    /// Take a token back: nobody joins with it any more
    Revoke {
        /// Its id, or all of it
        token: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Becomes {
    /// A member of the control plane
    Server,
}

/// Carries out a command.
pub(crate) fn run(options: TokenCommand) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let access = Access::open(&options).await?;
        let json = options.output.is_some();
        match options.command {
            Command::Create { role: Becomes::Server, ttl } => access.create(Role::Server, ttl, json).await,
            Command::List => access.list(json).await,
            Command::Revoke { token } => access.revoke(&token).await,
        }
    })
}

/// The cluster, as its administrator.
struct Access {
    secrets: Api<Secret>,
    url: String,
    /// The certificate of its authority, DER.
    authority: Vec<u8>,
}

impl Access {
    async fn open(options: &TokenCommand) -> Result<Self> {
        let path = options.kubeconfig.clone().unwrap_or_else(|| options.data_dir.join("admin.kubeconfig"));
        let file = Kubeconfig::read_from(&path).context(
            "the administrator's kubeconfig; name it by --kubeconfig, or its directory by --data-dir",
        )?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let authority = config.root_cert.as_ref().and_then(|certificates| certificates.first());
        let authority = authority.with_context(|| format!("{} names no authority", path.display()))?;
        let authority = authority.clone();
        Ok(Self { secrets: Api::namespaced(Client::try_from(config)?, NAMESPACE), url, authority })
    }

    async fn create(&self, role: Role, ttl: jiff::SignedDuration, json: bool) -> Result<()> {
        if ttl <= jiff::SignedDuration::ZERO {
            bail!("--ttl {ttl}: a token is good for some time");
        }
        let token = Token::generate(&self.authority)?;
        let expires = Timestamp::now().checked_add(ttl).context("--ttl is too long")?;
        let secret: Secret = serde_json::from_value(token.to_secret(role, expires))?;
        self.secrets.create(&PostParams::default(), &secret).await.context("the token was not made")?;
        if json {
            println!(
                "{}",
                json!({"token": token.to_string(), "join": self.url, "expires": expires.to_string()})
            );
        } else {
            println!("carrack {} --join {} --token {token}", role.name(), self.url);
        }
        Ok(())
    }

    async fn list(&self, json: bool) -> Result<()> {
        let found = self.secrets.list(&ListParams::default().fields(&format!("type={SECRET_TYPE}"))).await?;
        let rows: Vec<[String; 3]> = found.items.iter().map(row).collect();
        if json {
            let shown =
                rows.iter().map(|[id, role, expires]| json!({"id": id, "role": role, "expires": expires}));
            println!("{}", serde_json::Value::from_iter(shown));
            return Ok(());
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["ID", "ROLE", "EXPIRES"]).add_rows(rows);
        println!("{table}");
        Ok(())
    }

    async fn revoke(&self, token: &str) -> Result<()> {
        let id = token.split('.').next().unwrap_or_default();
        let found = self.secrets.list(&ListParams::default().fields(&format!("type={SECRET_TYPE}"))).await?;
        let secret = found.items.iter().find(|secret| id_of(secret) == id);
        let name = secret.and_then(|secret| secret.metadata.name.as_deref());
        let name =
            name.with_context(|| format!("there is no token {id:?}; `carrack token list` shows all"))?;
        self.secrets.delete(name, &DeleteParams::default()).await?;
        println!("token {id} is revoked");
        Ok(())
    }
}

fn id_of(secret: &Secret) -> &str {
    secret.metadata.name.as_deref().unwrap_or_default().rsplit('-').next().unwrap_or_default()
}

fn row(secret: &Secret) -> [String; 3] {
    let value = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.clone());
        String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    };
    [id_of(secret).to_owned(), value("role"), value("expiration")]
}
