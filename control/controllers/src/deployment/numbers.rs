//! The numbers of a deployment: how many pods it may have too many or too few.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// `progressDeadlineSeconds` that stands for "none".
const NO_DEADLINE: i32 = i32::MAX;

/// The replicas wanted.
pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1).max(0)
}

/// Whether all old pods go before new ones come.
pub(super) fn recreates(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref());
    strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

/// Whether its rollout is paused.
pub(super) fn paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().is_some_and(|s| s.paused == Some(true))
}

/// How long a rollout may go without progress.
pub(super) fn deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    if seconds == NO_DEADLINE {
        return None;
    }
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Pods above and below the wanted number that a rolling update may make: (surge, unavailable).
///
/// Percentages of the replicas round up for surge and down for unavailable; if both come to nothing, one may be
/// unavailable, since no step would be possible otherwise.
pub(super) fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    if recreates(deployment) {
        return (0, 0);
    }
    let wanted = replicas(deployment);
    let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref());
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    // The API server fills both in; these are its values.
    let quarter = IntOrString::String("25%".into());
    let surge = rolling.and_then(|r| r.max_surge.as_ref()).unwrap_or(&quarter);
    let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref()).unwrap_or(&quarter);
    let surge = share(surge, wanted, true);
    match (surge, share(unavailable, wanted, false)) {
        (0, 0) => (0, 1),
        both => both,
    }
}

/// Pods above the wanted number that may exist.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    fenceposts(deployment).0
}

/// Pods below the wanted number that may be unavailable.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    let wanted = replicas(deployment);
    if recreates(deployment) || wanted == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(wanted)
}

/// A number, or a part of `of`, rounded up or down.
pub(crate) fn share(value: &IntOrString, of: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            // Validation let only percentages through; what is none counts as nothing.
            let percent: i64 = text.strip_suffix('%').and_then(|n| n.parse().ok()).unwrap_or(0);
            let hundredths = i64::from(of) * percent.max(0);
            let rounded = if up { (hundredths + 99) / 100 } else { hundredths / 100 };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> IntOrString {
        IntOrString::String(value.into())
    }

    #[test]
    fn percentages_round_up_for_surge_and_down_for_unavailable() {
        assert_eq!(share(&text("25%"), 10, true), 3);
        assert_eq!(share(&text("25%"), 10, false), 2);
        assert_eq!(share(&text("100%"), 7, false), 7);
        assert_eq!(share(&text("0%"), 7, true), 0);
        assert_eq!(share(&IntOrString::Int(4), 7, true), 4);
        assert_eq!(share(&text("nonsense"), 7, true), 0);
    }
}
