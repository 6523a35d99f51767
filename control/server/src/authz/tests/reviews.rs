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
    assert_eq!(ask("vera", pods("list", "web")).await, json!({"allowed": true}));
    assert_eq!(ask("vera", pods("list", "")).await, json!({"allowed": false}));
    assert_eq!(ask("vera", pods("*", "web")).await, json!({"allowed": false}));
    assert_eq!(
        ask("vera", json!({"resourceAttributes": {"verb": "get", "namespace": "web"}})).await,
        json!({"allowed": false})
    );
    assert_eq!(
        ask("vera", json!({"nonResourceAttributes": {"verb": "get", "path": "/api"}})).await,
        json!({"allowed": true})
    );

    let other = |user: Value, namespace: &str| {
        let mut spec = pods("get", namespace);
        spec.as_object_mut().unwrap().extend(user.as_object().unwrap().clone());
        spec
    };
    for resource in ["subjectaccessreviews", "localsubjectaccessreviews"] {
        let about = |spec| review(resource, "root", "web", spec);
        assert_eq!(about(other(json!({"user": "vera"}), "web")).await.unwrap(), json!({"allowed": true}));
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
