//! Environments as upstream's tests have them.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::*;

fn sources() -> Sources {
    let config_map: ConfigMap = serde_json::from_str(r#"{"data":{"A":"1","B":"2"}}"#).unwrap();
    let secret: Secret = serde_json::from_str(r#"{"data":{"S":"c2VjcmV0","RAW":"/w=="}}"#).unwrap();
    Sources {
        config_maps: [("cm".to_owned(), Some(config_map)), ("gone".to_owned(), None)].into(),
        secrets: [("sec".to_owned(), Some(secret)), ("gone".to_owned(), None)].into(),
        ..Sources::default()
    }
}

fn resolve(container: &str) -> Result<Vec<(String, String)>, EnvError> {
    let pod = serde_json::from_str(r#"{"metadata":{"name":"p","namespace":"ns"},"spec":{"containers":[]}}"#)
        .unwrap();
    let container = serde_json::from_str(container).unwrap();
    let facts =
        Facts { node_name: "n1".to_owned(), pod_ips: vec!["10.1.2.3".to_owned()], ..Facts::default() };
    let service =
        [("WEB_SERVICE_HOST".to_owned(), "10.96.0.7".to_owned()), ("A".to_owned(), "service".to_owned())];
    environment(&pod, &container, &sources(), &facts, &service)
}

fn shown(container: &str) -> String {
    let list = resolve(container).unwrap();
    let list: Vec<String> = list.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    list.join(" ")
}

#[test]
fn later_wins_and_keeps_its_place() {
    let container = r#"{"name":"c","envFrom":[{"configMapRef":{"name":"cm"}},{"prefix":"P_","configMapRef":{"name":"cm"}}],
        "env":[{"name":"B","value":"own"},{"name":"C","value":"$(A)-$(B)-$(P_A)"},{"name":"D","value":"$(WEB_SERVICE_HOST)"}]}"#;
    assert_eq!(shown(container), "A=1 B=own P_A=1 P_B=2 C=1-own-1 D=10.96.0.7 WEB_SERVICE_HOST=10.96.0.7");
}

#[test]
fn values_come_from_many_places() {
    let container = r#"{"name":"c","env":[
        {"name":"NAME","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},
        {"name":"NODE","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}},
        {"name":"IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}},
        {"name":"KEY","valueFrom":{"configMapKeyRef":{"name":"cm","key":"B"}}},
        {"name":"SECRET","valueFrom":{"secretKeyRef":{"name":"sec","key":"S"}}},
        {"name":"CPU","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}},
        {"name":"EMPTY"},
        {"name":"NONE1","valueFrom":{"configMapKeyRef":{"name":"gone","key":"x","optional":true}}},
        {"name":"NONE2","valueFrom":{"secretKeyRef":{"name":"sec","key":"x","optional":true}}}],
        "envFrom":[{"secretRef":{"name":"gone","optional":true}}]}"#;
    assert_eq!(
        shown(container),
        "NAME=p NODE=n1 IP=10.1.2.3 KEY=2 SECRET=secret CPU=0 EMPTY= WEB_SERVICE_HOST=10.96.0.7 A=service"
    );
}

#[test]
fn errors_read_as_upstreams() {
    let variable = |source: &str| {
        resolve(&format!(r#"{{"name":"c","env":[{{"name":"X","valueFrom":{source}}}]}}"#))
            .unwrap_err()
            .to_string()
    };
    for (source, words) in [
        (r#"{"configMapKeyRef":{"name":"gone","key":"k"}}"#, "configmap \"gone\" not found"),
        (r#"{"configMapKeyRef":{"name":"cm","key":"k"}}"#, "couldn't find key k in ConfigMap ns/cm"),
        (r#"{"secretKeyRef":{"name":"gone","key":"k"}}"#, "secret \"gone\" not found"),
        (r#"{"secretKeyRef":{"name":"sec","key":"k"}}"#, "couldn't find key k in Secret ns/sec"),
        (
            r#"{"secretKeyRef":{"name":"sec","key":"RAW"}}"#,
            "the value of key RAW in Secret sec is not valid UTF-8",
        ),
        (
            r#"{"secretKeyRef":{"name":"new","key":"k"}}"#,
            "failed to sync secret \"new\" cache: it has not been looked up yet",
        ),
        (r#"{"fieldRef":{"fieldPath":"status.phase"}}"#, "unsupported fieldPath: status.phase"),
        (r#"{"resourceFieldRef":{"resource":"limits.gpu"}}"#, "unsupported container resource : limits.gpu"),
        (
            r#"{"fileKeyRef":{"volumeName":"v","path":"p","key":"k"}}"#,
            "valueFrom fileKeyRef is not supported by this node yet",
        ),
    ] {
        assert_eq!(variable(source), words);
    }
    let missing = resolve(r#"{"name":"c","envFrom":[{"configMapRef":{"name":"gone"}}]}"#);
    assert_eq!(missing, Err(EnvError::ConfigMapNotFound("gone".to_owned())));
}

#[test]
fn expansion_follows_upstream() {
    let variables = [("A".to_owned(), "a".to_owned()), ("EMPTY".to_owned(), String::new())];
    for (text, expanded) in [
        ("$(A)", "a"),
        ("x$(A)y$(A)", "xaya"),
        ("$(EMPTY)", ""),
        ("$(B)", "$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$$$$(A)", "$$(A)"),
        ("$A", "$A"),
        ("$", "$"),
        ("$$", "$"),
        ("$(A", "$(A"),
        ("$()", "$()"),
        ("$($(A))", "$($(A))"),
        ("ä$(A)ö", "äaö"),
    ] {
        assert_eq!(expand(text, &variables), expanded, "{text}");
    }
}
