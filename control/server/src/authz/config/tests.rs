//! What a configuration means, and what is wrong with it.

use super::*;

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";

fn hook(change: &str) -> String {
    let text = format!(
        "{HEAD}authorizers:\n- type: Webhook\n  name: w\n  webhook:\n    timeout: 3s\n    \
         subjectAccessReviewVersion: v1\n    matchConditionSubjectAccessReviewVersion: v1\n    \
         failurePolicy: Deny\n    connectionInfo:\n      type: KubeConfigFile\n      kubeConfigFile: /k\n"
    );
    match change.split_once('>') {
        Some((from, to)) => text.replace(from, to),
        None => text,
    }
}

#[test]
fn the_order_is_that_of_the_file() {
    let text = hook("- type>- type: Node\n  name: node\n- type: RBAC\n  name: rbac\n- type");
    let choices = parse(&text, None).unwrap();
    assert!(matches!(choices[..], [Choice::Node, Choice::Rbac, Choice::Webhook { .. }]));
    let Choice::Webhook { timeout, options, .. } = &choices[2] else { panic!() };
    assert_eq!((*timeout, options.failure_policy), (Duration::from_secs(3), FailurePolicy::Deny));
    assert_eq!((options.authorized_ttl, options.unauthorized_ttl), (AUTHORIZED_TTL, UNAUTHORIZED_TTL));
}

#[test]
fn answers_are_remembered_unless_the_file_says_otherwise() {
    let ttls = |change: &str| {
        let choices = parse(&hook(change), None).unwrap();
        let Choice::Webhook { options, .. } = &choices[0] else { panic!() };
        (options.authorized_ttl, options.unauthorized_ttl)
    };
    let also = |fields: &str| ttls(&format!("timeout: 3s>timeout: 3s\n    {fields}"));
    assert_eq!(also("authorizedTTL: 0s"), (AUTHORIZED_TTL, UNAUTHORIZED_TTL));
    let none = also("cacheAuthorizedRequests: false\n    unauthorizedTTL: 7s");
    assert_eq!(none, (Duration::ZERO, Duration::from_secs(7)));
    let some = also("cacheAuthorizedRequests: true\n    cacheUnauthorizedRequests: false");
    assert_eq!(some, (AUTHORIZED_TTL, Duration::ZERO));
}

#[test]
fn what_is_wrong_is_named() {
    let file = |rest: &str| format!("{HEAD}authorizers:{rest}");
    for (text, says) in [
        (file(" []"), "at least one authorization mode"),
        (file("\n- type: Oracle\n  name: o\n"), "authorizers[0].type: Unsupported value: \"Oracle\""),
        (file("\n- {type: Node, name: a}\n- {type: Node, name: b}\n"), "[1].type: Duplicate value: \"Node\""),
        (file("\n- {type: Node, name: a}\n- {type: RBAC, name: a}\n"), "[1].name: Duplicate value: \"a\""),
        (
            file("\n- {type: Node, name: A_b}\n"),
            "[0].name: Invalid value: \"A_b\": authorizer name is invalid",
        ),
        (file("\n- {type: ABAC, name: a}\n"), "--authorization-policy-file"),
        (file("\n- {type: Webhook, name: a}\n"), "authorizers[0].webhook: it belongs"),
        (hook("timeout: 3s>timeout: 31s"), "webhook.timeout: Invalid value: \"31s\""),
        (hook("Deny>Allow"), "failurePolicy: Unsupported value: \"Allow\""),
        (hook("KubeConfigFile>InClusterConfig"), "connectionInfo.type: Unsupported value"),
        (hook(": /k>: k"), "must be an absolute path"),
        (
            hook("failurePolicy>matchConditions: [{expression: 'request.user'}]\n    failurePolicy"),
            "webhook.matchConditions[0].expression: Invalid value: \"request.user\": must evaluate to bool but got string",
        ),
        (
            hook("matchConditionSubjectAccessReviewVersion: v1\n>matchConditions: [{expression: 'true'}]\n"),
            "required if match conditions are specified",
        ),
        (
            hook("AccessReviewVersion: v1\n    match>AccessReviewVersion: v2\n    match"),
            "Unsupported value: \"v2\"",
        ),
        ("apiVersion: v1\nkind: Pod\n".into(), "apiVersion"),
    ] {
        let error = parse(&text, None).unwrap_err();
        assert!(error.contains(says), "{text}\n{error}");
    }
}
