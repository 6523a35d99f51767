//! Narrows what nodes may read: the objects that their pods name, one at a time, and never a whole namespace of them.
//! Upstream's Node authorizer does this too, and looks at which pods are on the node besides.

use crate::{Attributes, Authorizer, Decision};

/// The group of all nodes.
const NODES: &str = "system:nodes";
/// What a node reads by name alone.
const BY_NAME: [&str; 2] = ["configmaps", "secrets"];

/// Refuses nodes lists and watches of Secrets and ConfigMaps that are not of one name (`fieldSelector=metadata.name=x`,
/// which is how the node agent follows an object). Says nothing about anything else; to be asked before RBAC.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeReads;

impl Authorizer for NodeReads {
    fn authorize(&self, attributes: &Attributes) -> Decision {
        let narrow = attributes.api_group.is_empty()
            && BY_NAME.contains(&attributes.resource.as_str())
            && attributes.user.in_group(NODES);
        if narrow && attributes.name.is_empty() {
            return Decision::Deny(format!(
                "nodes may only read {} by name (fieldSelector metadata.name)",
                attributes.resource
            ));
        }
        Decision::NoOpinion(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UserInfo;

    #[test]
    fn nodes_read_secrets_by_name_alone() {
        let ask = |group: &str, verb: &str, resource: &str, name: &str| {
            NodeReads.authorize(&Attributes {
                user: UserInfo::new("someone", [group]),
                verb: verb.to_owned(),
                resource: resource.to_owned(),
                name: name.to_owned(),
                ..Attributes::default()
            })
        };
        for verb in ["list", "watch", "deletecollection"] {
            assert!(matches!(ask(NODES, verb, "secrets", ""), Decision::Deny(_)), "{verb}");
            assert!(matches!(ask(NODES, verb, "secrets", "one"), Decision::NoOpinion(_)), "{verb}");
        }
        assert!(matches!(ask(NODES, "list", "pods", ""), Decision::NoOpinion(_)));
        assert!(matches!(ask("admins", "list", "secrets", ""), Decision::NoOpinion(_)));
    }
}
