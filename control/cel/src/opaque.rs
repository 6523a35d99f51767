//! The values of Kubernetes' libraries.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use carrack_api::quantity::Quantity;
use ipnet::IpNet;

use crate::functions::named_format::NamedFormat;
use crate::url::Url;

/// The type of such a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpaqueKind {
    /// `url()`.
    Url,
    /// `ip()`.
    Ip,
    /// `cidr()`.
    Cidr,
    /// `quantity()`.
    Quantity,
    /// `semver()`.
    Semver,
    /// `format.named()`.
    Format,
    /// The variable `authorizer`.
    Authorizer,
    /// A path to be checked.
    PathCheck,
    /// A group to be checked.
    GroupCheck,
    /// A resource to be checked.
    ResourceCheck,
    /// What an authorizer said.
    Decision,
}

impl OpaqueKind {
    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            OpaqueKind::Url => "kubernetes.URL",
            OpaqueKind::Ip => "net.IP",
            OpaqueKind::Cidr => "net.CIDR",
            OpaqueKind::Quantity => "kubernetes.Quantity",
            OpaqueKind::Semver => "kubernetes.Semver",
            OpaqueKind::Format => "kubernetes.NamedFormat",
            OpaqueKind::Authorizer => "kubernetes.authorization.Authorizer",
            OpaqueKind::PathCheck => "kubernetes.authorization.PathCheck",
            OpaqueKind::GroupCheck => "kubernetes.authorization.GroupCheck",
            OpaqueKind::ResourceCheck => "kubernetes.authorization.ResourceCheck",
            OpaqueKind::Decision => "kubernetes.authorization.Decision",
        }
    }
}

/// Such a value.
#[derive(Clone, Debug)]
pub enum Opaque {
    /// A URL.
    Url(Arc<Url>),
    /// An address.
    Ip(IpAddr),
    /// A network: its address as written, and its prefix.
    Cidr(IpNet),
    /// A quantity.
    Quantity(Quantity),
    /// A version.
    Semver(Arc<semver::Version>),
    /// A format.
    Format(&'static NamedFormat),
    /// Who may do what: nothing named yet.
    Authorizer(Query),
    /// A path was named.
    PathCheck(Query),
    /// A group was named.
    GroupCheck(Query),
    /// A resource was named.
    ResourceCheck(Query),
    /// The answer.
    Decision(Arc<Verdict>),
}

impl Opaque {
    /// Its type.
    pub fn kind(&self) -> OpaqueKind {
        match self {
            Opaque::Url(_) => OpaqueKind::Url,
            Opaque::Ip(_) => OpaqueKind::Ip,
            Opaque::Cidr(_) => OpaqueKind::Cidr,
            Opaque::Quantity(_) => OpaqueKind::Quantity,
            Opaque::Semver(_) => OpaqueKind::Semver,
            Opaque::Format(_) => OpaqueKind::Format,
            Opaque::Authorizer(_) => OpaqueKind::Authorizer,
            Opaque::PathCheck(_) => OpaqueKind::PathCheck,
            Opaque::GroupCheck(_) => OpaqueKind::GroupCheck,
            Opaque::ResourceCheck(_) => OpaqueKind::ResourceCheck,
            Opaque::Decision(_) => OpaqueKind::Decision,
        }
    }

    /// What costs are by: the bytes of an address, and those of a network's prefix.
    pub(crate) fn size(&self) -> usize {
        match self {
            Opaque::Ip(IpAddr::V4(_)) => 4,
            Opaque::Ip(IpAddr::V6(_)) => 16,
            Opaque::Cidr(net) => usize::from(net.prefix_len()).div_ceil(8),
            _ => 1,
        }
    }

    /// Whether two values are the same.
    pub(crate) fn same(&self, other: &Opaque) -> bool {
        match (self, other) {
            (Opaque::Url(a), Opaque::Url(b)) => a == b,
            (Opaque::Ip(a), Opaque::Ip(b)) => a == b,
            (Opaque::Cidr(a), Opaque::Cidr(b)) => a == b,
            (Opaque::Quantity(a), Opaque::Quantity(b)) => a == b,
            (Opaque::Semver(a), Opaque::Semver(b)) => a.cmp_precedence(b).is_eq(),
            (Opaque::Format(a), Opaque::Format(b)) => a.name == b.name,
            _ => false,
        }
    }
}

/// What an expression asks about: who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Another than the one who makes the request: a ServiceAccount's namespace and name.
    pub service_account: Option<(String, String)>,
    /// A path that is no resource; the rest is empty then.
    pub path: Option<String>,
    /// The API group.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace; empty for all, or for the cluster.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// What is done.
    pub verb: String,
    /// A selector by fields.
    pub field_selector: String,
    /// A selector by labels.
    pub label_selector: String,
}

/// What an authorizer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// Why nothing can be said.
    pub error: Option<String>,
}

/// Answers what expressions ask of `authorizer`.
pub trait Authorize: Send + Sync {
    /// Whether this may be done.
    fn authorize(&self, check: &Check) -> Verdict;
}

/// A question in the making and who answers it.
#[derive(Clone)]
pub struct Query {
    /// Who answers.
    pub authorizer: Arc<dyn Authorize>,
    /// The question.
    pub check: Arc<Check>,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.check.fmt(f)
    }
}
