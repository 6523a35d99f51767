//! One of each: ours in this process, Debian's etcd as a child, both on loopback ports of their own.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use carrack_store::etcd::{Config, Security, serve};
use carrack_store::{Options, Store};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// Our server. Ends when dropped.
pub(crate) struct Ours {
    pub(crate) store: Store,
    pub(crate) endpoint: String,
    pub(crate) dir: tempfile::TempDir,
    _stop: oneshot::Sender<()>,
}

pub(crate) async fn ours_with(change: impl FnOnce(&mut Options)) -> Ours {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(dir.path().join("store"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = listener.local_addr().expect("an address").to_string();
    options.client_urls = vec![format!("http://{endpoint}")];
    change(&mut options);
    let store = Store::open(options).await.expect("opens");
    // As of etcd below: the first test may ask for its leader at once.
    for _ in 0..3000 {
        if store.status().leader.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await;
    };
    tokio::spawn(serve(store.clone(), listener, Security::Plain, Config::default(), shutdown));
    Ours { store, endpoint, dir, _stop: stop }
}

pub(crate) async fn ours() -> Ours {
    ours_with(|_| ()).await
}

/// Debian's etcd. Killed when dropped.
pub(crate) struct Theirs {
    pub(crate) endpoint: String,
    pub(crate) dir: tempfile::TempDir,
    _child: Child,
}

pub(crate) async fn theirs() -> Theirs {
    let dir = tempfile::tempdir().expect("a directory");
    start(dir, "default").await
}

/// Starts etcd on the data directory in `dir`.
pub(crate) async fn start(dir: tempfile::TempDir, name: &str) -> Theirs {
    let (endpoint, peer) = (free_address().await, free_address().await);
    let (client_url, peer_url) = (format!("http://{endpoint}"), format!("http://{peer}"));
    let child = Command::new("etcd")
        .args(["--name", name, "--data-dir"])
        .arg(dir.path().join("etcd"))
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &format!("{name}={peer_url}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("etcd is there: `cargo xtask setup` installs it");
    let theirs = Theirs { endpoint, dir, _child: child };
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if etcd_client::Client::connect([&theirs.endpoint], None).await.is_ok_and(|_| true)
            && tokio::net::TcpStream::connect(&theirs.endpoint).await.is_ok()
        {
            let health = Command::new("etcdctl").args(["--endpoints", &theirs.endpoint, "get", "x"]).output();
            if health.await.expect("etcdctl is there").status.success() {
                return theirs;
            }
        }
    }
    panic!("etcd did not start within a minute");
}

/// An address of loopback that this process has for itself. A port of 127.0.0.1 that nobody listens at may become the near
/// end of somebody's connection at any time.
fn own_loopback() -> Ipv4Addr {
    let [_, b, c, d] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | b, c, d)
}

async fn free_address() -> String {
    let listener = TcpListener::bind((own_loopback(), 0)).await.expect("a port");
    listener.local_addr().expect("an address").to_string()
}
