//! Where requests go, and how links are led back.

use serde_json::json;

use super::html::rewrite;
use super::link::Links;
use super::place::{Id, candidates, has_address, of_pod, port_of_service, split_path};

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

#[test]
fn ids_name_scheme_and_port() {
    let read = |text: &str| Id::parse(text).map(|id| (id.name, id.port, id.is_tls));
    let of = |name: &str, port: &str, tls| Some((name.to_owned(), port.to_owned(), tls));
    for (text, expected) in [
        ("web", of("web", "", false)),
        ("web:80", of("web", "80", false)),
        ("https:web:", of("web", "", true)),
        ("http:web:http", of("web", "http", false)),
        (":web:80", of("web", "80", false)),
        ("ftp:web:21", None),
        ("a:b:c:d", None),
        ("https::443", None),
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn paths_are_handed_on_as_they_were_written() {
    for (path, namespaced, tail) in [
        ("/api/v1/namespaces/n/services/s/proxy", true, ""),
        ("/api/v1/namespaces/n/services/s/proxy/", true, "/"),
        ("/api/v1/namespaces/n/services/s/proxy/a//b%2Fc/", true, "/a//b%2Fc/"),
        ("/api/v1/nodes/n/proxy/metrics", false, "/metrics"),
        ("//api/v1//nodes/n/proxy/logs/", false, "/logs/"),
    ] {
        let (prefix, found) = split_path(path, namespaced);
        assert_eq!((found, prefix), (tail, path.strip_suffix(tail).unwrap()), "{path}");
    }
}

#[test]
fn pods_are_reached_by_their_first_port_and_never_on_loopback() {
    let pod = |ip: &str| {
        json!({
            "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]},
            "status": {"podIP": ip},
        })
    };
    let at = |ip: &str, asked: &str| {
        of_pod(&pod(ip), &id(asked)).map(|a| a.to_string()).map_err(|e| e.message.clone())
    };
    assert_eq!(at("10.0.0.1", "p"), Ok("10.0.0.1:8080".to_owned()));
    assert_eq!(at("fd00::1", "https:p:9"), Ok("[fd00::1]:9".to_owned()));
    assert_eq!(of_pod(&json!({"status": {"podIP": "10.0.0.1"}}), &id("https:p:")).unwrap().port(), 443);
    for no in ["127.0.0.1", "::1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::ffff:127.0.0.1", ""] {
        assert_eq!(at(no, "p"), Err("address not allowed".to_owned()), "{no}");
    }
    assert!(at("10.0.0.1", "p:web").unwrap_err().contains("is no number"));
}

#[test]
fn services_are_reached_by_pods_of_their_namespace_alone() {
    let service = json!({"spec": {"ports": [{"name": "web", "port": 80}, {"name": "", "port": 81}]}});
    assert_eq!(port_of_service(&service, &id("s:80")).unwrap(), "web");
    assert_eq!(port_of_service(&service, &id("s:web")).unwrap(), "web");
    let missing = port_of_service(&service, &id("s:82")).unwrap_err();
    assert_eq!((missing.code, missing.message.as_str()), (503, "no service port 82 found for service \"s\""));

    let to = |kind: &str, namespace: &str| json!({"kind": kind, "namespace": namespace, "name": "p"});
    let slice = json!({"ports": [{"name": "web", "port": 8080}], "endpoints": [
        {"addresses": ["10.0.0.1"], "targetRef": to("Pod", "n")},
        {"addresses": ["10.0.0.2"], "targetRef": to("Pod", "n"), "conditions": {"ready": false}},
        {"addresses": ["10.0.0.3"], "targetRef": to("Pod", "other")},
        {"addresses": ["10.0.0.4"], "targetRef": to("Node", "n")},
        {"addresses": ["10.0.0.5"]},
        {"addresses": ["127.0.0.1"], "targetRef": to("Pod", "n")},
    ]});
    let legacy = json!({"subsets": [{"ports": [{"name": "web", "port": 9}], "addresses": [
        {"ip": "10.0.0.7", "targetRef": to("Pod", "n")}, {"ip": "10.0.0.8"}]}]});
    let found = |port, slices: &[&serde_json::Value], legacy| {
        let all = candidates(port, "n", slices, legacy);
        all.iter().map(|c| format!("{} {}", c.pod, c.address)).collect::<Vec<_>>()
    };
    assert_eq!(found("web", &[&slice], None), ["p 10.0.0.1:8080"]);
    assert_eq!(found("web", &[], Some(&legacy)), ["p 10.0.0.7:9"]);
    assert!(found("", &[&slice], None).is_empty());
    let pod = json!({"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}});
    assert!(has_address(&pod, "fd00::1".parse().unwrap()) && !has_address(&pod, "10.0.0.2".parse().unwrap()));
}

fn links() -> Links {
    Links { prefix: "/p/proxy".into(), source: "10.0.0.1:80".into(), host: "localhost:8001".into() }
}

#[test]
fn links_to_the_same_server_lead_back() {
    for (link, expected) in [
        ("/a?b=/c#d", "/p/proxy/a?b=/c#d"),
        ("/", "/p/proxy/"),
        ("http://10.0.0.1:80/a", "/p/proxy/a"),
        ("//10.0.0.1:80/a", "/p/proxy/a"),
        ("http://localhost:8001/a", "http://localhost:8001/p/proxy/a"),
        ("http://localhost:8001/p/proxy/a", "http://localhost:8001/p/proxy/a"),
        ("/p/proxy/a", "/p/proxy/a"),
        ("a/b", "a/b"),
        ("../a", "../a"),
        ("#top", "#top"),
        ("?q=1", "?q=1"),
        ("", ""),
        ("mailto:me@example.org", "mailto:me@example.org"),
        ("https://example.org/a", "https://example.org/a"),
        ("http://user@10.0.0.1:80/a", "/p/proxy/a"),
        ("a:b/c", "a:b/c"),
    ] {
        assert_eq!(links().led_back(link).unwrap_or_else(|| link.to_owned()), expected, "{link}");
    }
}

#[test]
fn pages_keep_everything_but_their_links() {
    let page =
        |text: &str| String::from_utf8(rewrite(text.as_bytes(), |link| links().led_back(link))).unwrap();
    for (text, expected) in [
        ("<a href=\"/x\">/x</a>", "<a href=\"/p/proxy/x\">/x</a>"),
        ("<A class=b HREF='/x'>", "<A class=b HREF='/p/proxy/x'>"),
        ("<a href=/x>y", "<a href=/p/proxy/x>y"),
        ("<img alt=\"a > b\" src = \"/x\"/>", "<img alt=\"a > b\" src = \"/p/proxy/x\"/>"),
        ("<link href=/x/><a href=/y>", "<link href=/p/proxy/x/><a href=/p/proxy/y>"),
        (
            "<script src=/x>if (a<b) w('<a href=\"/n\">')</script><a href=/y>",
            "<script src=/p/proxy/x>if (a<b) w('<a href=\"/n\">')</script><a href=/p/proxy/y>",
        ),
        ("<!-- <a href=/n> --><a href=/y>", "<!-- <a href=/n> --><a href=/p/proxy/y>"),
        ("<div href=/n data-x><q cite=/y>", "<div href=/n data-x><q cite=/p/proxy/y>"),
        ("1 < 2 <a href", "1 < 2 <a href"),
        ("<a href=\"/x", "<a href=\"/p/proxy/x"),
        ("<form action=\"/do\" method=post>", "<form action=\"/p/proxy/do\" method=post>"),
        ("<", "<"),
        ("<title></a><a href=/n></title>", "<title></a><a href=/n></title>"),
    ] {
        assert_eq!(page(text), expected, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_pass_a_rewriting_that_changes_nothing(page in proptest::collection::vec("[<>/!a-c='\" -]", 0..40)) {
        let page = page.concat().into_bytes();
        assert_eq!(rewrite(&page, |_| None), page);
    }
}
