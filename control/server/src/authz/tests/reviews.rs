//! The answers to access and token reviews.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

/// Knows one token.
struct OneToken;

#[async_trait::async_trait]
impl Authenticator for OneToken {
    async fn authenticate(&self, _: &Credentials) -> Result<Option<UserInfo>, ApiError> {
        Ok(None)
    }

    async fn review_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(UserInfo, Vec<String>), ApiError> {
        if token == "good" {
            Ok((UserInfo::new("jane", ["dev"]), audiences.to_vec()))
        } else {
            Err(ApiError::new(401, "Unauthorized", "[invalid bearer token, expired]"))
        }
    }
}

fn reviewer() -> Reviewer {
    let rbac = rbac(&[binding("web", "ClusterRole/view", user("vera"))]);
    Reviewer { authorizers: vec![rbac], authenticator: Arc::new(OneToken) }
}

const VIEWER: &str =
    "RBAC: allowed by RoleBinding \"view-binding/web\" of ClusterRole \"view\" to User \"vera\"";

async fn review(resource: &str, who: &str, namespace: &str, spec: Value) -> Result<Value, ApiError> {
    let who = UserInfo::new(who, []);
    let answer = reviewer().answer(resource, &who, namespace, json!({"spec": spec})).await.unwrap();
    answer.map(|review| review["status"].clone())
}

#[tokio::test]
async fn reviews_give_the_verdict_that_a_request_would_get() {
    let pods = |verb: &str, namespace: &str| json!({"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": namespace}});
    let ask = |who: &'static str, spec: Value| async move {
        review("selfsubjectaccessreviews", who, "", spec).await.unwrap()
    };
    assert_eq!(ask("vera", pods("list", "web")).await, json!({"allowed": true, "reason": VIEWER}));
    assert_eq!(ask("vera", pods("list", "")).await, json!({"allowed": false}));
    assert_eq!(ask("vera", pods("*", "web")).await, json!({"allowed": false}));
    assert_eq!(
        ask("vera", json!({"resourceAttributes": {"verb": "get", "namespace": "web"}})).await,
        json!({"allowed": false})
    );
    let path = ask("vera", json!({"nonResourceAttributes": {"verb": "get", "path": "/api"}})).await;
    assert_eq!(path["allowed"], true);
    assert!(path["reason"].as_str().unwrap().contains("\"system:discovery\""), "{path}");

    let other = |user: Value, namespace: &str| {
        let mut spec = pods("get", namespace);
        spec.as_object_mut().unwrap().extend(user.as_object().unwrap().clone());
        spec
    };
    for resource in ["subjectaccessreviews", "localsubjectaccessreviews"] {
        let about = |spec| review(resource, "root", "web", spec);
        assert_eq!(
            about(other(json!({"user": "vera"}), "web")).await.unwrap(),
            json!({"allowed": true, "reason": VIEWER})
        );
        assert_eq!(about(other(json!({"user": "joe"}), "web")).await.unwrap(), json!({"allowed": false}));
        assert_eq!(
            about(other(json!({"groups": ["system:masters"]}), "web")).await.unwrap(),
            json!({"allowed": true})
        );
        assert_eq!(about(other(json!({}), "web")).await.unwrap_err().code, 422);
        assert_eq!(about(json!({"user": "vera"})).await.unwrap_err().code, 422);
    }
    let elsewhere =
        review("localsubjectaccessreviews", "root", "web", other(json!({"user": "vera"}), "x")).await;
    assert_eq!(elsewhere.unwrap_err().code, 422);
    let path = json!({"user": "vera", "nonResourceAttributes": {"verb": "get", "path": "/api"}});
    assert_eq!(review("localsubjectaccessreviews", "root", "web", path).await.unwrap_err().code, 422);
}

#[tokio::test]
async fn reviews_of_oneself_and_of_tokens() {
    let status = review("selfsubjectreviews", "vera", "", json!({})).await.unwrap();
    assert_eq!(status, json!({"userInfo": {"username": "vera", "groups": ["system:authenticated"]}}));

    let status = review("selfsubjectrulesreviews", "vera", "", json!({"namespace": "web"})).await.unwrap();
    assert_eq!(status["incomplete"], false);
    let rules = status["resourceRules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["resources"] == json!(["selfsubjectreviews"])), "{rules:?}");
    assert!(rules.iter().any(|rule| rule["resources"].as_array().unwrap().contains(&json!("pods/log"))));
    assert!(!status["nonResourceRules"].as_array().unwrap().is_empty());
    assert_eq!(review("selfsubjectrulesreviews", "vera", "", json!({})).await.unwrap_err().code, 400);

    let good =
        review("tokenreviews", "root", "", json!({"token": "good", "audiences": ["vault"]})).await.unwrap();
    let user = json!({"username": "jane", "groups": ["dev", "system:authenticated"]});
    assert_eq!(good, json!({"authenticated": true, "user": user, "audiences": ["vault"]}));
    let bad = review("tokenreviews", "root", "", json!({"token": "bad"})).await.unwrap();
    assert_eq!(bad, json!({"authenticated": false, "user": {}, "error": "[invalid bearer token, expired]"}));
    assert_eq!(review("tokenreviews", "root", "", json!({})).await.unwrap_err().code, 400);
    assert!(reviewer().answer("pods", &UserInfo::default(), "", json!({})).await.is_none());
}

/// The words of a refusal, without what all have in common.
async fn refused(resource: &str, review: Value) -> String {
    let answer = reviewer().answer(resource, &UserInfo::new("vera", []), "web", review).await.unwrap();
    let message = answer.unwrap_err().message.clone();
    message.split_once(" is invalid: ").map(|(_, words)| words.to_owned()).unwrap_or(message)
}

#[tokio::test]
async fn what_is_no_question_is_refused_in_upstreams_words() {
    let pods = json!({"verb": "get", "resource": "pods", "namespace": "web"});
    let on = |selector: Value| {
        let mut pods = pods.clone();
        pods.as_object_mut().unwrap().extend(selector.as_object().unwrap().clone());
        json!({"spec": {"user": "joe", "resourceAttributes": pods}})
    };
    let field = |value: Value| on(json!({ "fieldSelector": value }));
    let two = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
    for (resource, review, words) in [
        (
            "subjectaccessreviews",
            json!({"spec": {}}),
            format!(
                "[spec.resourceAttributes: Invalid value: \"null\": {two}, spec.user: Invalid value: \"\": at least \
                 one of user or group must be specified]"
            ),
        ),
        (
            "selfsubjectaccessreviews",
            json!({"spec": {"resourceAttributes": pods, "nonResourceAttributes": {"path": "/"}}}),
            "spec.nonResourceAttributes: Invalid value: {\"path\":\"/\"}: cannot be specified in combination with \
             resourceAttributes"
                .into(),
        ),
        (
            "selfsubjectaccessreviews",
            json!({"metadata": {"name": "a"}, "spec": {"resourceAttributes": pods}}),
            "metadata: Invalid value: {\"name\":\"a\"}: must be empty".into(),
        ),
        (
            "localsubjectaccessreviews",
            json!({"metadata": {"name": "a", "namespace": "web"}, "spec": {"user": "u", "resourceAttributes": pods}}),
            "metadata: Invalid value: {\"name\":\"a\",\"namespace\":\"web\"}: must be empty except for namespace"
                .into(),
        ),
        (
            "localsubjectaccessreviews",
            json!({"spec": {"user": "u", "resourceAttributes": {"verb": "get", "namespace": "x"}}}),
            "spec.resourceAttributes.namespace: Invalid value: \"x\": must match metadata.namespace".into(),
        ),
        (
            "subjectaccessreviews",
            field(json!({})),
            "spec.resourceAttributes.fieldSelector.requirements: Required value: when \
             spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required"
                .into(),
        ),
        (
            "subjectaccessreviews",
            field(json!({"rawSelector": "a=b", "requirements": [{"key": "", "operator": "In"}]})),
            "[spec.resourceAttributes.fieldSelector.rawSelector: Invalid value: \"a=b\": may not specified at the \
             same time as requirements, spec.resourceAttributes.fieldSelector.requirements[0].key: Required value: \
             must be specified, spec.resourceAttributes.fieldSelector.requirements[0].values: Required value: must be \
             specified when `operator` is 'In' or 'NotIn']"
                .into(),
        ),
    ] {
        assert_eq!(refused(resource, review).await, words);
    }
    let of_server = json!({"creationTimestamp": null, "managedFields": [{"manager": "m"}], "labels": {}});
    let review = json!({"metadata": of_server, "spec": {"resourceAttributes": pods}});
    let answer = reviewer().answer("selfsubjectaccessreviews", &UserInfo::new("vera", []), "", review).await;
    assert_eq!(answer.unwrap().unwrap()["status"]["allowed"], true);
}

#[tokio::test]
async fn what_of_a_selector_cannot_be_read_is_told() {
    let error = |selectors: Value| async move {
        let mut spec = json!({"user": "joe", "resourceAttributes": {"verb": "list", "resource": "pods"}});
        let asked = spec["resourceAttributes"].as_object_mut().unwrap();
        asked.extend(selectors.as_object().unwrap().clone());
        let status = review("subjectaccessreviews", "root", "", spec).await.unwrap();
        status["evaluationError"].as_str().unwrap_or_default().to_owned()
    };
    let ignored = |field: &str| format!("spec.resourceAttributes.{field} ignored due to parse error");
    assert_eq!(error(json!({"fieldSelector": {"rawSelector": "a=b"}})).await, "");
    let both =
        json!({"fieldSelector": {"rawSelector": "key in value"}, "labelSelector": {"rawSelector": "&"}});
    assert_eq!(error(both).await, format!("{}; {}", ignored("fieldSelector"), ignored("labelSelector")));
    let one = json!({"key": "a", "operator": "In", "values": ["b"]});
    let two = json!({"key": "a", "operator": "In", "values": ["b", "c"]});
    let partly = error(json!({"fieldSelector": {"requirements": [one, two]}})).await;
    assert_eq!(partly, "spec.resourceAttributes.fieldSelector partially ignored due to parse error");
    assert_eq!(error(json!({"labelSelector": {"requirements": [two]}})).await, "");
}

#[tokio::test]
async fn members_of_the_masters_are_told_every_rule_that_is_bound() {
    let masters = UserInfo::new("root", ["system:masters"]);
    let review = json!({"spec": {"namespace": "web"}});
    let answer = reviewer().answer("selfsubjectrulesreviews", &masters, "", review).await.unwrap().unwrap();
    let rules = answer["status"]["resourceRules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["resources"] == json!(["*"])), "{rules:?}");
    assert!(rules.iter().any(|rule| rule["resources"] == json!(["selfsubjectreviews"])), "{rules:?}");
}
