//! The Node authorizer: a node may do what the role `system:node` lists; objects that pods bring along (Secrets, ConfigMaps,
//! claims, volumes, tokens) it reaches by name alone, and only if a pod on it leads there. Upstream's rules.

use std::sync::{Arc, LazyLock};

use carrack_api::codec::Parts;
use carrack_store::Store;
use serde_json::Value;

use super::bootstrap;
use super::feed::{self, FeedError};
use super::graph::{self, Graph, Kind};
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

    fn parts(resource: usize) -> Option<&'static Parts> {
        // Of pods there are many, and each is written many times.
        static OF_PODS: LazyLock<Parts> = LazyLock::new(graph::parts_of_pods);
        (resource == PODS).then_some(&OF_PODS)
    }

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
        let subresource = request.subresource.as_str();
        match (request.api_group.as_str(), request.resource.as_str()) {
            ("", "secrets") => self.read(node, request, Kind::Secret),
            ("", "configmaps") => self.read(node, request, Kind::ConfigMap),
            ("", "persistentvolumeclaims") if subresource == "status" => self.claim_status(node, request),
            ("", "persistentvolumeclaims") => self.get(node, request, Kind::Claim),
            ("", "persistentvolumes") => {
                get_only(request)?;
                related(node, self.graph.read().has_volume(node, &request.name))
            }
            ("", "serviceaccounts") if subresource == "token" => self.token(node, request),
            ("", "serviceaccounts") => self.get(node, request, Kind::ServiceAccount),
            ("resource.k8s.io", "resourceclaims") => self.get(node, request, Kind::ResourceClaim),
            ("resource.k8s.io", "resourceslices") => slices(node, request),
            ("storage.k8s.io", "volumeattachments") => {
                get_only(request)?;
                related(node, self.graph.read().has_attachment(node, &request.name))
            }
            ("storage.k8s.io", "csinodes") => own_info(node, request),
            ("coordination.k8s.io", "leases") => lease(node, request),
            ("", "nodes") => own_node(node, request),
            ("", "pods") => self.pod(node, request),
            _ => Ok(()),
        }
    }

    /// What is also watched: of one name, which is what a field selector for it amounts to.
    fn read(&self, node: &str, request: &Attributes, kind: Kind) -> Result<(), String> {
        need(
            matches!(request.verb.as_str(), "get" | "list" | "watch"),
            "can only read resources of this type",
        )?;
        self.reach(node, request, kind)
    }

    fn get(&self, node: &str, request: &Attributes, kind: Kind) -> Result<(), String> {
        get_only(request)?;
        self.reach(node, request, kind)
    }

    fn reach(&self, node: &str, request: &Attributes, kind: Kind) -> Result<(), String> {
        need(request.subresource.is_empty(), "cannot read subresource")?;
        need(!request.namespace.is_empty(), "can only read namespaced object of this type")?;
        need(!request.name.is_empty(), "No Object name found")?;
        related(node, self.graph.read().leads_to(node, kind, &request.namespace, &request.name))
    }

    fn claim_status(&self, node: &str, request: &Attributes) -> Result<(), String> {
        need(
            matches!(request.verb.as_str(), "get" | "update" | "patch"),
            "can only get/update/patch this type",
        )?;
        related(node, self.graph.read().leads_to(node, Kind::Claim, &request.namespace, &request.name))
    }

    fn token(&self, node: &str, request: &Attributes) -> Result<(), String> {
        let one = request.verb == "create" && !request.name.is_empty();
        need(one, "can only create tokens for individual service accounts")?;
        related(
            node,
            self.graph.read().leads_to(node, Kind::ServiceAccount, &request.namespace, &request.name),
        )
    }

    /// Pods are read one by one when they are the node's, and together when only the node's are asked for.
    fn pod(&self, node: &str, request: &Attributes) -> Result<(), String> {
        let own = || {
            let name = &request.name;
            let found = !name.is_empty() && self.graph.read().has_pod(node, &request.namespace, name);
            related(node, found)
        };
        match (request.verb.as_str(), request.subresource.as_str()) {
            ("get", "") => own(),
            ("list" | "watch", "") if request.selectors.requires_field("spec.nodeName", node) => Ok(()),
            ("list" | "watch", "") if !request.name.is_empty() => own(),
            ("list" | "watch", "") => {
                Err("can only list/watch pods with spec.nodeName field selector".into())
            }
            // The NodeRestriction plugin looks at what is written.
            _ => Ok(()),
        }
    }
}

fn need(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn get_only(request: &Attributes) -> Result<(), String> {
    need(request.verb == "get", "can only get individual resources of this type")?;
    need(request.subresource.is_empty(), "cannot get subresource")
}

fn related(node: &str, found: bool) -> Result<(), String> {
    if found { Ok(()) } else { Err(format!("no relationship found between node '{node}' and this object")) }
}

/// A Node is created with its name in the body, where the NodeRestriction plugin looks at it, as at all changes.
fn own_node(node: &str, request: &Attributes) -> Result<(), String> {
    if !matches!(request.verb.as_str(), "get" | "list" | "watch") || request.name == node {
        return Ok(());
    }
    Err(match request.name.as_str() {
        "" => format!("node '{node}' cannot read all nodes, only its own Node object"),
        other => format!("node '{node}' cannot read '{other}', only its own Node object"),
    })
}

fn own_info(node: &str, request: &Attributes) -> Result<(), String> {
    let verb = request.verb.as_str();
    let known = matches!(verb, "create" | "delete" | "get" | "update" | "patch");
    need(known, "can only get, create, update, patch, or delete a CSINode")?;
    need(request.subresource.is_empty(), "cannot authorize CSINode subresources")?;
    need(
        verb == "create" || request.name == node,
        "can only access CSINode with the same name as the requesting node",
    )
}

/// Slices say which devices a node has; the name of one says nothing, hence the field.
fn slices(node: &str, request: &Attributes) -> Result<(), String> {
    match request.verb.as_str() {
        "list" | "watch" | "deletecollection" => need(
            request.selectors.requires_field("spec.nodeName", node),
            "can only list/watch/deletecollection resourceslices with spec.nodeName field selector",
        ),
        _ => Ok(()),
    }
}

/// A new lease has its name in the body, where the NodeRestriction plugin looks.
fn lease(node: &str, request: &Attributes) -> Result<(), String> {
    let verb = request.verb.as_str();
    let known = matches!(verb, "get" | "create" | "update" | "patch" | "delete");
    need(known, "can only get, create, update, patch, or delete a node lease")?;
    if request.namespace != LEASES {
        return Err(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    need(
        verb == "create" || request.name == node,
        "can only access node lease with the same name as the requesting node",
    )
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
            ("list pods", false, false),
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
        let mine = Attributes {
            selectors: crate::Selectors::parse("spec.nodeName=n1", ""),
            ..request(&one, "list pods")
        };
        assert_eq!(nodes.authorize(&mine), Decision::Allow);
        let theirs = Attributes { user: two.clone(), ..mine };
        assert_ne!(nodes.authorize(&theirs), Decision::Allow, "another node's pods");
        let other = UserInfo::new("system:node:n1", ["developers"]);
        assert_eq!(nodes.authorize(&request(&other, "list services")), Decision::NoOpinion(String::new()));
    }
}
