//! The Node authorizer: a node may do what the role `system:node` lists; objects that pods bring along (Secrets, ConfigMaps,
//! claims, volumes, tokens) it reaches by name alone, and only if a pod on it leads there. Upstream's rules.

use std::sync::Arc;

use carrack_store::Store;
use serde_json::Value;

use super::bootstrap;
use super::feed::{self, FeedError};
use super::graph::{Graph, Kind};
use super::index::{Index, Indexed};
use super::rule::Rule;
use crate::{Attributes, Authorizer, Decision, RuleList, UserInfo};

/// The group of all nodes, and what begins their names.
const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
/// Leases of nodes live here, each named after its node.
const LEASES: &str = "kube-node-lease";

const PODS: usize = 0;
const VOLUMES: usize = 1;

impl Index for Graph {
    const RESOURCES: &'static [(&'static str, &'static str)] =
        &[("", "pods"), ("", "persistentvolumes"), ("storage.k8s.io", "volumeattachments")];

    fn put(&mut self, resource: usize, namespace: &str, name: &str, object: &Value) {
        match resource {
            PODS => self.put_pod(namespace, name, object),
            VOLUMES => self.put_volume(name, object),
            _ => self.put_attachment(name, object),
        }
    }

    fn remove(&mut self, resource: usize, namespace: &str, name: &str) {
        match resource {
            PODS => self.remove_pod(namespace, name),
            VOLUMES => self.remove_volume(name),
            _ => self.remove_attachment(name),
        }
    }
}

/// Judges nodes.
pub struct NodeAuthorizer {
    graph: Arc<Indexed<Graph>>,
    rules: Vec<Rule>,
}

/// The node that a user is, if it is one.
fn node_name(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|name| !name.is_empty() && user.in_group(GROUP))
}

impl NodeAuthorizer {
    /// An authorizer that follows the pods and volumes in `store`. On return it knows all that is stored.
    pub async fn start(store: Store) -> Result<Arc<Self>, FeedError> {
        Ok(Arc::new(Self::over(feed::start(store).await?)))
    }

    fn over(graph: Arc<Indexed<Graph>>) -> Self {
        Self { graph, rules: bootstrap::node_rules() }
    }

    fn judge(&self, node: &str, request: &Attributes) -> Result<(), String> {
        let resource = request.full_resource();
        match (request.api_group.as_str(), resource.as_str()) {
            ("", "secrets") => self.read(node, request, Kind::Secret),
            ("", "configmaps") => self.read(node, request, Kind::ConfigMap),
            ("", "persistentvolumeclaims") => self.get(node, request, Kind::Claim),
            ("", "serviceaccounts") => self.get(node, request, Kind::ServiceAccount),
            ("resource.k8s.io", "resourceclaims") => self.get(node, request, Kind::ResourceClaim),
            ("", "serviceaccounts/token") => self.token(node, request),
            ("", "persistentvolumes") => related(self.graph.read().has_volume(node, &request.name)),
            ("storage.k8s.io", "volumeattachments") => {
                related(self.graph.read().has_attachment(node, &request.name))
            }
            ("", "pods") if request.verb == "get" => {
                related(self.graph.read().has_pod(node, &request.namespace, &request.name))
            }
            ("", "nodes") if matches!(request.verb.as_str(), "get" | "list" | "watch") => {
                own(node, &request.name)
            }
            ("coordination.k8s.io", "leases") => lease(node, request),
            ("storage.k8s.io", "csinodes") if request.verb != "create" => own(node, &request.name),
            _ => Ok(()),
        }
    }

    /// What is also watched: of one name, which is what a field selector for it amounts to.
    fn read(&self, node: &str, request: &Attributes, kind: Kind) -> Result<(), String> {
        if request.name.is_empty() {
            return Err(format!(
                "nodes may only read {} by name (fieldSelector metadata.name)",
                request.resource
            ));
        }
        related(self.graph.read().leads_to(node, kind, &request.namespace, &request.name))
    }

    fn get(&self, node: &str, request: &Attributes, kind: Kind) -> Result<(), String> {
        related(self.graph.read().leads_to(node, kind, &request.namespace, &request.name))
    }

    fn token(&self, node: &str, request: &Attributes) -> Result<(), String> {
        self.get(node, request, Kind::ServiceAccount)
    }
}

fn related(found: bool) -> Result<(), String> {
    let refusal = || "no relationship found between node and this object".to_owned();
    found.then_some(()).ok_or_else(refusal)
}

fn own(node: &str, name: &str) -> Result<(), String> {
    if name == node {
        Ok(())
    } else {
        Err(format!("node {node:?} can only access the object of its own name"))
    }
}

/// A new lease has its name in the body, where the NodeRestriction plugin looks.
fn lease(node: &str, request: &Attributes) -> Result<(), String> {
    if request.namespace != LEASES {
        return Err(format!("can only access leases in the {LEASES:?} namespace"));
    }
    if request.verb == "create" { Ok(()) } else { own(node, &request.name) }
}

#[async_trait::async_trait]
impl Authorizer for NodeAuthorizer {
    fn authorize(&self, request: &Attributes) -> Decision {
        let Some(node) = node_name(&request.user) else {
            return Decision::NoOpinion(String::new());
        };
        if !self.rules.iter().any(|rule| rule.allows(request)) {
            return Decision::NoOpinion(String::new());
        }
        match self.judge(node, request) {
            Ok(()) => Decision::Allow,
            Err(reason) => Decision::NoOpinion(reason),
        }
    }

    async fn catch_up(&self) {
        self.graph.catch_up().await;
    }

    fn rules(&self, user: &UserInfo, _: &str) -> RuleList {
        let mut list = RuleList::default();
        if node_name(user).is_some() {
            // Which objects it may read depends on its pods, and changes with them.
            list.incomplete = true;
            list.resource_rules = self.rules.iter().filter_map(|rule| rule.review_parts().0).collect();
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_reaches_what_its_pods_lead_to() {
        let (graph, _asks) = Indexed::new();
        let nodes = NodeAuthorizer::over(graph.clone());
        let pod = json!({ "spec": { "nodeName": "n1", "serviceAccountName": "runner",
            "volumes": [{ "secret": { "secretName": "key" } }, { "configMap": { "name": "settings" } }] } });
        graph.change(|graph| graph.put_pod("web", "p", &pod));
        let (one, two) = (UserInfo::new("system:node:n1", [GROUP]), UserInfo::new("system:node:n2", [GROUP]));
        for (text, for_one, for_two) in [
            ("get secrets:key @web", true, false),
            ("watch secrets:key @web", true, false),
            ("get secrets:key @other", false, false),
            ("list secrets @web", false, false),
            ("watch configmaps", false, false),
            ("get configmaps:settings @web", true, false),
            ("update configmaps:settings @web", false, false),
            ("create serviceaccounts/token:runner @web", true, false),
            ("create serviceaccounts/token:default @web", false, false),
            ("get pods:p @web", true, false),
            ("list pods", true, true),
            ("update pods/status:p @web", true, true),
            ("get nodes:n1", true, false),
            ("list nodes", false, false),
            ("list services", true, true),
            ("update coordination.k8s.io/leases:n2 @kube-node-lease", false, true),
            ("update coordination.k8s.io/leases:n2 @kube-system", false, false),
            ("create coordination.k8s.io/leases @kube-node-lease", true, true),
            ("get persistentvolumes:pv", false, false),
            ("create nodes", true, true),
            ("delete nodes:n1", false, false),
            ("watch discovery.k8s.io/endpointslices", true, true),
            ("create authorization.k8s.io/subjectaccessreviews", true, true),
            ("create pods/binding:p @web", false, false),
            ("update services:a @web", false, false),
            ("create rbac.authorization.k8s.io/clusterroles", false, false),
        ] {
            for (user, expected) in [(&one, for_one), (&two, for_two)] {
                let allowed = nodes.authorize(&request(user, text)) == Decision::Allow;
                assert_eq!(allowed, expected, "{}: {text}", user.name);
            }
        }
        let other = UserInfo::new("system:node:n1", ["developers"]);
        assert_eq!(nodes.authorize(&request(&other, "list pods")), Decision::NoOpinion(String::new()));
    }
}
