//! Reviews: questions about identity and rights that are answered and never stored.

use k8s_openapi::api::{authentication, authorization};

use super::{BASE, POST};
use crate::resource::{Resource, Scope};
use crate::schema::TypeRef;

/// The row of tokenreviews.
pub(super) const TOKEN_REVIEW: Resource = Resource {
    group: "authentication.k8s.io",
    api_version: "authentication.k8s.io/v1",
    kind: "TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    scope: Scope::Cluster,
    verbs: POST,
    storage: super::gvk("authentication.k8s.io", "v1", "TokenReview"),
    schema: TypeRef::of::<authentication::v1::TokenReview>("io.k8s.api.authentication.v1.TokenReview"),
    ..BASE
};

/// The row of selfsubjectreviews.
pub(super) const SELF_SUBJECT_REVIEW: Resource = Resource {
    group: "authentication.k8s.io",
    api_version: "authentication.k8s.io/v1",
    kind: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    scope: Scope::Cluster,
    verbs: POST,
    storage: super::gvk("authentication.k8s.io", "v1", "SelfSubjectReview"),
    schema: TypeRef::of::<authentication::v1::SelfSubjectReview>(
        "io.k8s.api.authentication.v1.SelfSubjectReview",
    ),
    ..BASE
};

/// The row of subjectaccessreviews.
pub(super) const SUBJECT_ACCESS_REVIEW: Resource = Resource {
    group: "authorization.k8s.io",
    api_version: "authorization.k8s.io/v1",
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    scope: Scope::Cluster,
    verbs: POST,
    storage: super::gvk("authorization.k8s.io", "v1", "SubjectAccessReview"),
    schema: TypeRef::of::<authorization::v1::SubjectAccessReview>(
        "io.k8s.api.authorization.v1.SubjectAccessReview",
    ),
    ..BASE
};

/// The row of selfsubjectaccessreviews.
pub(super) const SELF_SUBJECT_ACCESS_REVIEW: Resource = Resource {
    group: "authorization.k8s.io",
    api_version: "authorization.k8s.io/v1",
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    scope: Scope::Cluster,
    verbs: POST,
    storage: super::gvk("authorization.k8s.io", "v1", "SelfSubjectAccessReview"),
    schema: TypeRef::of::<authorization::v1::SelfSubjectAccessReview>(
        "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    ),
    ..BASE
};

/// The row of selfsubjectrulesreviews.
pub(super) const SELF_SUBJECT_RULES_REVIEW: Resource = Resource {
    group: "authorization.k8s.io",
    api_version: "authorization.k8s.io/v1",
    kind: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    scope: Scope::Cluster,
    verbs: POST,
    storage: super::gvk("authorization.k8s.io", "v1", "SelfSubjectRulesReview"),
    schema: TypeRef::of::<authorization::v1::SelfSubjectRulesReview>(
        "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    ),
    ..BASE
};

/// The row of localsubjectaccessreviews.
pub(super) const LOCAL_SUBJECT_ACCESS_REVIEW: Resource = Resource {
    group: "authorization.k8s.io",
    api_version: "authorization.k8s.io/v1",
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    verbs: POST,
    storage: super::gvk("authorization.k8s.io", "v1", "LocalSubjectAccessReview"),
    schema: TypeRef::of::<authorization::v1::LocalSubjectAccessReview>(
        "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
    ),
    ..BASE
};
