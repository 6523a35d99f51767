//! FlowSchemas and PriorityLevelConfigurations in the form in which requests are judged: which schema is a request's,
//! and what is its flow.

use k8s_openapi::api::flowcontrol::v1 as api;
use serde_json::Value;

use super::queues::Shape;
use crate::router::RequestInfo;
use crate::{ApiError, UserInfo};

/// What tells flows of a schema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

/// A FlowSchema.
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) level: String,
    precedence: i32,
    distinguisher: Distinguisher,
    rules: Vec<api::PolicyRulesWithSubjects>,
}

/// A PriorityLevelConfiguration.
pub(super) struct LevelConfig {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) shares: i32,
    pub(super) lendable: i32,
    pub(super) borrowing: Option<i32>,
    /// `None`: requests of the level are not limited.
    pub(super) shape: Option<Shape>,
}

fn read<T: serde::de::DeserializeOwned>(object: &Value) -> Result<T, ApiError> {
    serde_json::from_value(object.clone())
        .map_err(|e| ApiError::internal(format!("a stored object is damaged: {e}")))
}

impl Schema {
    pub(super) fn read(object: &Value) -> Result<Self, ApiError> {
        let schema: api::FlowSchema = read(object)?;
        let spec = schema.spec.unwrap_or_default();
        let method = spec.distinguisher_method.map(|m| m.type_).unwrap_or_default();
        Ok(Schema {
            name: schema.metadata.name.unwrap_or_default(),
            uid: schema.metadata.uid.unwrap_or_default(),
            level: spec.priority_level_configuration.name,
            precedence: spec.matching_precedence.unwrap_or(1000),
            distinguisher: match method.as_str() {
                "ByUser" => Distinguisher::User,
                "ByNamespace" => Distinguisher::Namespace,
                _ => Distinguisher::Nothing,
            },
            rules: spec.rules.unwrap_or_default(),
        })
    }

    /// The order in which schemas are asked.
    pub(super) fn order(&self) -> (i32, &str) {
        (self.precedence, &self.name)
    }

    pub(super) fn matches(&self, info: &RequestInfo, user: &UserInfo) -> bool {
        self.rules.iter().any(|rule| {
            let rules = if info.is_resource() {
                list(&rule.resource_rules).iter().any(|r| matches_resource(r, info))
            } else {
                list(&rule.non_resource_rules).iter().any(|r| matches_path(r, info))
            };
            rules && rule.subjects.iter().any(|subject| matches_subject(subject, user))
        })
    }

    /// What tells the request's flow from others of the schema.
    pub(super) fn flow<'a>(&self, info: &'a RequestInfo, user: &'a UserInfo) -> &'a str {
        match self.distinguisher {
            Distinguisher::Nothing => "",
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => &info.namespace,
        }
    }
}

impl LevelConfig {
    pub(super) fn read(object: &Value) -> Result<Self, ApiError> {
        let level: api::PriorityLevelConfiguration = read(object)?;
        let spec = level.spec.unwrap_or_default();
        let (name, uid) = (level.metadata.name.unwrap_or_default(), level.metadata.uid.unwrap_or_default());
        let Some(limited) = spec.limited else {
            let exempt = spec.exempt.unwrap_or_default();
            return Ok(LevelConfig {
                name,
                uid,
                shares: exempt.nominal_concurrency_shares.unwrap_or(0),
                lendable: exempt.lendable_percent.unwrap_or(0),
                borrowing: None,
                shape: None,
            });
        };
        let queuing = limited.limit_response.unwrap_or_default().queuing;
        let number =
            |n: Option<i32>, otherwise: usize| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(otherwise);
        let shape = queuing.map_or(Shape { queues: 0, hand: 0, length: 0 }, |q| Shape {
            queues: number(q.queues, 64),
            hand: number(q.hand_size, 8),
            length: number(q.queue_length_limit, 50),
        });
        Ok(LevelConfig {
            name,
            uid,
            shares: limited.nominal_concurrency_shares.unwrap_or(30),
            lendable: limited.lendable_percent.unwrap_or(0),
            borrowing: limited.borrowing_limit_percent,
            shape: Some(shape),
        })
    }
}

fn list<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

fn matches_subject(subject: &api::Subject, user: &UserInfo) -> bool {
    match subject.kind.as_str() {
        "User" => subject.user.as_ref().is_some_and(|u| u.name == "*" || u.name == user.name),
        "Group" => subject.group.as_ref().is_some_and(|g| g.name == "*" || user.in_group(&g.name)),
        "ServiceAccount" => subject.service_account.as_ref().is_some_and(|account| {
            let found = user.name.strip_prefix("system:serviceaccount:").and_then(|n| n.split_once(':'));
            found.is_some_and(|(namespace, name)| {
                account.namespace == namespace && (account.name == "*" || account.name == name)
            })
        }),
        _ => false,
    }
}

fn matches_resource(rule: &api::ResourcePolicyRule, info: &RequestInfo) -> bool {
    let resource = || {
        rule.resources.iter().any(|wanted| match wanted.split_once('/') {
            _ if wanted == "*" => true,
            Some((resource, sub)) => resource == info.resource && sub == info.subresource,
            None => *wanted == info.resource && info.subresource.is_empty(),
        })
    };
    let place = || match info.namespace.as_str() {
        "" => rule.cluster_scope.unwrap_or(false),
        namespace => has(list(&rule.namespaces), namespace),
    };
    has(&rule.verbs, info.verb) && has(&rule.api_groups, &info.group) && resource() && place()
}

fn matches_path(rule: &api::NonResourcePolicyRule, info: &RequestInfo) -> bool {
    let fits = |url: &String| match url.strip_suffix('*') {
        Some(start) => info.path.starts_with(start),
        None => info.path == *url,
    };
    has(&rule.verbs, info.verb) && rule.non_resource_urls.iter().any(fits)
}
