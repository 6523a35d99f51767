//! The kinds of networking.k8s.io.

mod address;
mod ingress;
mod ingress_class;
mod policy;

pub(super) use address::{CIDR, IP};
pub(super) use ingress::RESOURCE as INGRESS;
pub(super) use ingress_class::RESOURCE as INGRESS_CLASS;
pub(super) use policy::RESOURCE as POLICY;
