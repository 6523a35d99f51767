//! Who asks, and what is asked: the facts that authorization and admission judge.

use std::collections::BTreeMap;

use carrack_api::select::{FieldSelector, LabelSelector, Operator};

/// Who a request comes from, as established by authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UserInfo {
    /// The name: a certificate's common name, or `system:serviceaccount:<namespace>:<name>`.
    pub name: String,
    /// Identifies the user across time; empty when the way of authenticating knows none.
    #[serde(default)]
    pub uid: String,
    /// Groups, `system:authenticated` included.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Further facts from the authenticator, such as the pod that a token is bound to.
    #[serde(default)]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with a name and groups; `system:authenticated` is added.
    pub fn new<'a>(name: impl Into<String>, groups: impl IntoIterator<Item = &'a str>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(str::to_owned).collect();
        if !groups.iter().any(|g| g == "system:authenticated") {
            groups.push("system:authenticated".to_owned());
        }
        UserInfo { name: name.into(), groups, ..UserInfo::default() }
    }

    /// Whether the user is in `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// What a request wants to do: exactly what an authorizer may look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Who asks.
    pub user: UserInfo,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for
    /// paths that name no resource the HTTP method in lower case.
    pub verb: String,
    /// The API group; empty for the core group.
    pub api_group: String,
    /// The API version, for instance `v1`.
    pub version: String,
    /// The plural name of the resource; empty for paths that name no resource.
    pub resource: String,
    /// `status`, `log`, … or empty.
    pub subresource: String,
    /// The object's name; empty for collections (and for creations whose name is in the body).
    pub name: String,
    /// The namespace; empty for cluster-scoped resources and for lists across namespaces.
    pub namespace: String,
    /// The request path: what counts when `resource` is empty.
    pub path: String,
    /// What a `list`, `watch` or `deletecollection` is limited to.
    pub selectors: Selectors,
}

/// What the selectors of a request limit it to, as authorizers see it: all requirements hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selectors {
    /// Of the field selector, with the operators `In` and `NotIn`.
    pub fields: Vec<Requirement>,
    /// Of the label selector.
    pub labels: Vec<Requirement>,
}

/// One requirement of a selector, in the form of the authorization API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Requirement {
    /// The field or label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// The values; none for the two that ask for existence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

impl Selectors {
    /// Reads the string forms. One that cannot be read limits nothing: whoever carries the request out refuses it.
    pub fn parse(fields: &str, labels: &str) -> Self {
        let requirement = |key: &str, operator: &str, values: &[String]| Requirement {
            key: key.into(),
            operator: operator.into(),
            values: values.to_vec(),
        };
        let fields = FieldSelector::parse(fields).unwrap_or_default();
        let fields = fields.terms().iter().map(|term| {
            let operator = if term.equal { "In" } else { "NotIn" };
            requirement(&term.field, operator, std::slice::from_ref(&term.value))
        });
        let labels = LabelSelector::parse(labels).unwrap_or_else(|_| LabelSelector::everything());
        let labels = labels.requirements().iter().filter_map(|term| {
            let operator = match term.operator {
                Operator::In => "In",
                Operator::NotIn => "NotIn",
                Operator::Exists => "Exists",
                Operator::DoesNotExist => "DoesNotExist",
                // The API has no word for them; without them the request counts as wider than it is.
                Operator::GreaterThan | Operator::LessThan => return None,
            };
            Some(requirement(&term.key, operator, &term.values))
        });
        Self { fields: fields.collect(), labels: labels.collect() }
    }

    /// Whether only objects are meant whose field has exactly this value.
    pub fn requires_field(&self, field: &str, value: &str) -> bool {
        self.fields.iter().any(|term| term.key == field && term.operator == "In" && term.values == [value])
    }
}

impl Attributes {
    /// Whether this is about a resource (and not about a path such as `/healthz`).
    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// `resource` or `resource/subresource`, the form that RBAC rules use.
    pub fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}
