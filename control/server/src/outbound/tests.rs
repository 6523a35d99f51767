//! Where services lead, and the words for what goes wrong.

use serde_json::{Value, json};

use super::failure::words;
use super::resolve::{Endpoints, endpoints};
use super::target::{Place, Target};

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec})
}

fn slice(port: Value, endpoints: Value) -> Value {
    json!({"ports": [port], "endpoints": endpoints})
}

/// The addresses that are found, or the error, as text.
fn found(service: &Value, port: u16, slices: &[&Value], legacy: Option<&Value>) -> String {
    match endpoints(service, port, slices, legacy) {
        Ok(Endpoints::Addresses(all)) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Ok(Endpoints::Name(host, port)) => format!("{host}:{port}"),
        Err(error) => error.to_string(),
    }
}

/// Service, port asked for, slices, what else, what comes of it.
type Case<'a> = (&'a Value, u16, &'a [&'a Value], Option<&'a Value>, &'a str);

#[test]
fn services_lead_to_ready_endpoints_of_the_port() {
    let named = service(json!({"ports": [
        {"name": "web", "port": 443, "targetPort": "https"}, {"name": "other", "port": 80},
    ]}));
    let plain = service(json!({"ports": [{"port": 443, "targetPort": 8443}]}));
    let one = slice(
        json!({"name": "web", "port": 8443}),
        json!([
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.1"], "conditions": {}},
        ]),
    );
    let two = slice(json!({"name": "web", "port": 9443}), json!([{"addresses": ["fd00::1"]}]));
    let unnamed = slice(json!({"name": "", "port": 8443}), json!([{"addresses": ["10.0.0.9"]}]));
    let legacy = json!({"subsets": [{
        "addresses": [{"ip": "10.0.0.7"}], "notReadyAddresses": [{"ip": "10.0.0.8"}], "ports": [{"port": 1443}],
    }]});
    let external = service(json!({"type": "ExternalName", "externalName": "example.org"}));
    let none = "no endpoints available for service \"s\"";
    let cases: [Case<'_>; 8] = [
        (&named, 443, &[&one], None, "10.0.0.1:8443 10.0.0.2:8443"),
        (&named, 443, &[&one, &two], None, "10.0.0.1:8443 10.0.0.2:8443 [fd00::1]:9443"),
        (&named, 80, &[&one], None, none),
        (&named, 444, &[&one], None, "no service port 444 found for service \"s\""),
        (&plain, 443, &[&unnamed], Some(&legacy), "10.0.0.9:8443"),
        (&plain, 443, &[], Some(&legacy), "10.0.0.7:1443"),
        (&plain, 443, &[], None, none),
        (&external, 8443, &[], None, "example.org:8443"),
    ];
    for (service, port, slices, legacy, expected) in cases {
        assert_eq!(found(service, port, slices, legacy), expected);
    }
}

#[test]
fn client_configurations_are_read() {
    let url = Target::of_client_config(&json!({"url": "https://x.example/y"})).unwrap();
    assert_eq!(url.url(), "https://x.example/y");
    let service = json!({"service": {"namespace": "n", "name": "s", "path": "/p", "port": 8443}});
    let service = Target::of_client_config(&service).unwrap();
    assert_eq!(service.url(), "https://s.n.svc:8443/p");
    let short = Target::of_client_config(&json!({"service": {"namespace": "n", "name": "s"}})).unwrap();
    let expected = Place::Service { namespace: "n".into(), name: "s".into(), port: 443, path: "/".into() };
    assert_eq!(short.place, expected);
    for wrong in [
        json!({}),
        json!({"url": "https://x", "caBundle": "?"}),
        json!({"url": "https://x", "caBundle": "eA=="}),
    ] {
        assert!(Target::of_client_config(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn causes_are_told_in_known_words() {
    let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let error = std::io::Error::new(std::io::ErrorKind::InvalidData, tls);
    assert_eq!(
        words(&error),
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    assert_eq!(words(&std::io::Error::from(std::io::ErrorKind::UnexpectedEof)), "EOF");
}
