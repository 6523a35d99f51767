//! CertificateSigningRequests from the request to the certificate.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrack_server::pki::{Pki, PkiOptions};
use common::{Client, Cluster};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const USER: &str = "kubernetes.io/kube-apiserver-client";

/// A cluster that signs, and its keys.
async fn cluster() -> (Cluster, Pki, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = PkiOptions {
        node_name: "n1".into(),
        node_ips: vec!["192.0.2.1".parse().unwrap()],
        service_ip: "10.96.0.1".parse().unwrap(),
        cluster_domain: "cluster.local".into(),
        hostname: "n1".into(),
        extra_sans: Vec::new(),
    };
    let pki = Pki::open_or_create(&dir.path().join("pki"), &options).unwrap();
    let cluster = Cluster::bare().await;
    cluster.api.set_certificate_signer(pki.certificate_signer());
    cluster.api.start().await.unwrap();
    (cluster, pki, dir)
}

fn request(name: &str, signer: &str, usages: &[&str], subject: (&str, &str), dns: &[&str]) -> Value {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params =
        CertificateParams::new(dns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, subject.1);
    params.distinguished_name.push(DnType::CommonName, subject.0);
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    json!({
        "metadata": {"name": name},
        "spec": {"request": STANDARD.encode(pem), "signerName": signer, "usages": usages, "expirationSeconds": 7200},
    })
}

async fn approve(client: &Client, name: &str) {
    let path = format!("{REQUESTS}/{name}");
    let mut request = client.get(&path).await.expect(200);
    let verdict = json!({"type": "Approved", "status": "True", "reason": "Test", "message": "by a test"});
    request["status"]["conditions"] = json!([verdict]);
    client.put(&format!("{path}/approval"), &request).await.expect(200);
}

async fn eventually(client: &Client, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let path = format!("{REQUESTS}/{name}");
    for _ in 0..400 {
        let request = client.get(&path).await.expect(200);
        if wanted(&request) {
            return request;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{name} did not come to what was wanted: {}", client.get(&path).await.text());
}

/// The certificate of a request, in DER.
async fn issued(client: &Client, name: &str) -> Vec<u8> {
    let request = eventually(client, name, |request| request["status"]["certificate"].is_string()).await;
    let pem = STANDARD.decode(request["status"]["certificate"].as_str().unwrap()).unwrap();
    x509_parser::pem::parse_x509_pem(&pem).unwrap().1.contents
}

#[tokio::test]
async fn an_approved_request_of_a_user_is_signed() {
    let (cluster, pki, _dir) = cluster().await;
    let client = cluster.client();
    let wanted = request("jane", USER, &["client auth"], ("jane", "developers"), &[]);
    client.post(REQUESTS, &wanted).await.expect(201);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let waits = client.get(&format!("{REQUESTS}/jane")).await.expect(200);
    assert_eq!(waits["status"].get("certificate"), None, "nobody has approved it");
    approve(&client, "jane").await;
    let der = issued(&client, "jane").await;
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(certificate.subject().to_string(), "O=developers, CN=jane");
    assert!(certificate.extended_key_usage().unwrap().unwrap().value.client_auth);
    assert!(!certificate.is_ca());
    let life = certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp();
    assert_eq!(life, 7200 + 300, "what was asked for, begun five minutes ago");
    let now = rustls_pki_types::UnixTime::now();
    pki.client_verifier().unwrap().verify_client_cert(&der.clone().into(), &[], now).unwrap();
}

#[tokio::test]
async fn what_a_signer_does_not_take_fails() {
    let (cluster, _pki, _dir) = cluster().await;
    let client = cluster.client();
    let serving = "kubernetes.io/kubelet-serving";
    let node = ("system:node:n1", "system:nodes");
    let both = ["digital signature", "server auth"];
    for (name, signer, usages, dns, words) in [
        ("a", USER, &["server auth"][..], &[][..], "invalid usage for client certificate: server auth"),
        ("b", serving, &both, &[], "DNS or IP subjectAltName is required"),
    ] {
        client.post(REQUESTS, &request(name, signer, usages, node, dns)).await.expect(201);
        approve(&client, name).await;
        let failed = eventually(&client, name, |r| r["status"]["conditions"][1]["type"] == "Failed").await;
        assert_eq!(failed["status"]["conditions"][1]["reason"], "SignerValidationFailure");
        assert_eq!(failed["status"]["conditions"][1]["message"], words);
        assert_eq!(failed["status"].get("certificate"), None);
    }
    client.post(REQUESTS, &request("n", serving, &both, node, &["n1.local"])).await.expect(201);
    approve(&client, "n").await;
    let der = issued(&client, "n").await;
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(format!("{:?}", names.value.general_names), "[DNSName(\"n1.local\")]");
    client.post(REQUESTS, &request("o", "example.com/other", &both, node, &["n1"])).await.expect(201);
    approve(&client, "o").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let other = client.get(&format!("{REQUESTS}/o")).await.expect(200);
    assert_eq!(other["status"].get("certificate"), None, "another signer's");
}

#[tokio::test]
async fn a_nodes_request_for_itself_is_approved() {
    let (cluster, _pki, _dir) = cluster().await;
    let client = cluster.client();
    let signer = "kubernetes.io/kube-apiserver-client-kubelet";
    let usages = ["digital signature", "client auth"];
    let wanted = request("n1", signer, &usages, ("system:node:n1", "system:nodes"), &[]);
    client.post(REQUESTS, &wanted).await.expect(201);
    issued(&client, "n1").await;
    let approved = client.get(&format!("{REQUESTS}/n1")).await.expect(200);
    assert_eq!(approved["status"]["conditions"][0]["reason"], "AutoApproved");
    let no_node = request("x", signer, &usages, ("jane", "system:nodes"), &[]);
    client.post(REQUESTS, &no_node).await.expect(201);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(client.get(&format!("{REQUESTS}/x")).await.expect(200)["status"].get("conditions"), None);
}
