//! HorizontalPodAutoscalers, served as v2 and v1 over one storage, in v2's form.

mod convert;
mod metrics;
mod print;
mod rules;

use k8s_openapi::api::autoscaling as api;

use super::prelude::*;
use crate::resource::Conversion;
use rules::AutoscalerRules;

/// The row of autoscaling/v2, which is also how they are stored.
pub(super) const V2: Resource = Resource {
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[status(gvk("autoscaling", "v2", "HorizontalPodAutoscaler"))],
    printer: print::V2,
    ..row!(
        "autoscaling" / "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscaler",
        "horizontalpodautoscalers",
        "autoscaling",
        api::v2::HorizontalPodAutoscaler,
        AutoscalerRules
    )
};

/// The row of autoscaling/v1.
pub(super) const V1: Resource = Resource {
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[status(gvk("autoscaling", "v1", "HorizontalPodAutoscaler"))],
    printer: print::V1,
    storage: gvk("autoscaling", "v2", "HorizontalPodAutoscaler"),
    conversion: Some(Conversion {
        to_storage: convert::to_v2,
        from_storage: convert::to_v1,
        rules: V2.strategy,
    }),
    ..row!(
        "autoscaling" / "v1",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscaler",
        "horizontalpodautoscalers",
        "autoscaling",
        api::v1::HorizontalPodAutoscaler,
        V1Rules
    )
};

/// The form of v1 is converted before it is judged, so that its own rules say nothing.
pub(super) struct V1Rules;

impl Rules for V1Rules {
    type Object = api::v1::HorizontalPodAutoscaler;

    const HAS_STATUS: bool = true;
}
