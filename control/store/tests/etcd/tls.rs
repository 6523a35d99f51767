//! Clients over TLS: those with a certificate of the right authority are served, all others are turned away. With
//! `etcdctl` and with the `etcd-client` crate.

use std::sync::Arc;

use carrack_store::etcd::{Config, Security, serve, tls_config};
use carrack_store::{Options, Store};
use etcd_client::Client;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tonic::transport::Endpoint;

/// A certificate and its key, in PEM.
struct Pair {
    chain: String,
    key: String,
}

struct Authority {
    root: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("a root").pem();
        Authority { root, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let chain = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Pair { chain, key: key.serialize_pem() }
    }
}

/// What a client shows, and whom it trusts.
struct Access<'a> {
    trusts: &'a Authority,
    shows: Option<&'a Pair>,
}

impl Access<'_> {
    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.trusts.root.as_bytes()).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().expect("versions");
        let config = config.with_root_certificates(roots);
        let mut config = match self.shows {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_slice(pair.chain.as_bytes()).expect("PEM")];
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
                config.with_client_auth_cert(chain, key).expect("a certificate")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// Puts and gets a key with the `etcd-client` crate.
    async fn client(&self, address: &str) -> Result<(), String> {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.config()));
        let target = address.to_owned();
        let dial = tower::service_fn(move |_| {
            let (connector, target) = (connector.clone(), target.clone());
            async move {
                let stream = TcpStream::connect(target).await?;
                let name = ServerName::try_from("127.0.0.1").expect("a name");
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.connect_with_connector(dial).await.map_err(|error| format!("{error:?}"))?;
        let channel = etcd_client::Channel::Tonic(channel);
        let mut client = Client::from_channel(channel, None).await.map_err(|error| error.to_string())?;
        client.put("by the crate", "1", None).await.map_err(|error| error.to_string())?;
        let found = client.get("by the crate", None).await.map_err(|error| error.to_string())?;
        (found.kvs().len() == 1).then_some(()).ok_or_else(|| "the key is gone".to_owned())
    }

    /// Puts and gets a key with `etcdctl`.
    async fn etcdctl(&self, address: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        for args in [["put", "by etcdctl", "1"], ["get", "by etcdctl", "--print-value-only"]] {
            let mut command = Command::new("etcdctl");
            command.env("ETCDCTL_API", "3").args(["--command-timeout=3s", "--dial-timeout=2s"]);
            command.args(["--endpoints", &format!("https://{address}")]);
            command.arg("--cacert").arg(file("ca", &self.trusts.root));
            if let Some(pair) = self.shows {
                command.arg("--cert").arg(file("cert", &pair.chain));
                command.arg("--key").arg(file("key", &pair.key));
            }
            let output = command.args(args).output().await.expect("etcdctl is there");
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_with_a_certificate_of_the_authority_are_served() {
    let (ours, strange) = (Authority::new(), Authority::new());
    let (server, good, bad) = (ours.sign("127.0.0.1"), ours.sign("client"), strange.sign("client"));
    let config = tls_config(server.chain.as_bytes(), server.key.as_bytes(), ours.root.as_bytes());
    let security = Security::Tls(config.expect("a configuration"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(Options::new(dir.path().join("store"))).await.expect("opens");
    let served =
        tokio::spawn(serve(store.clone(), listener, security, Config::default(), std::future::pending()));

    let who = Access { trusts: &ours, shows: Some(&good) };
    who.client(&address).await.expect("the crate is served");
    who.etcdctl(&address).await.expect("etcdctl is served");
    let revision = store.revision();
    let refused = [
        ("no certificate", Access { trusts: &ours, shows: None }),
        ("a certificate of another authority", Access { trusts: &ours, shows: Some(&bad) }),
        ("a client that trusts another authority", Access { trusts: &strange, shows: Some(&good) }),
    ];
    for (what, who) in refused {
        assert!(who.client(&address).await.is_err(), "the crate: {what}");
        assert!(who.etcdctl(&address).await.is_err(), "etcdctl: {what}");
    }
    let plain = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--command-timeout=2s", "--endpoints", &address, "put", "plain", "1"])
        .output();
    assert!(!plain.await.expect("etcdctl is there").status.success(), "without TLS");
    assert_eq!(store.revision(), revision, "nobody of them has written");
    // They have not harmed those who may.
    who.client(&address).await.expect("the crate is still served");
    served.abort();
}

#[test]
fn keys_that_do_not_belong_together_are_refused() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (one, two) = (ours.sign("127.0.0.1"), ours.sign("127.0.0.1"));
    let tls =
        |chain: &str, key: &str, root: &str| tls_config(chain.as_bytes(), key.as_bytes(), root.as_bytes());
    assert!(tls(&one.chain, &one.key, &other.root).is_ok(), "clients may have an authority of their own");
    let wrong = tls(&one.chain, &two.key, &ours.root).expect_err("another key");
    assert!(wrong.to_string().contains("cannot be used"), "{wrong}");
    assert!(tls(&one.chain, "no key", &ours.root).is_err());
    assert!(tls("", &one.key, &ours.root).is_err(), "no certificate");
    assert!(tls(&one.chain, &one.key, "").is_err(), "an authority of nobody would let nobody in");
}
