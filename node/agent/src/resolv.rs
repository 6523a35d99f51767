//! What a pod asks of /etc/resolv.conf; the network writes it.

use carrack_network::{DnsConfig, DnsPolicy};
use k8s_openapi::api::core::v1::Pod;

/// The pod's DNS policy and what it adds to it.
pub(crate) fn wanted(pod: &Pod) -> (DnsPolicy, DnsConfig) {
    let Some(spec) = &pod.spec else { return (DnsPolicy::ClusterFirst, DnsConfig::default()) };
    let host_network = spec.host_network.unwrap_or(false);
    let policy = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => DnsPolicy::None,
        "Default" => DnsPolicy::Default,
        "ClusterFirst" if host_network => DnsPolicy::Default,
        _ => DnsPolicy::ClusterFirst,
    };
    let own = spec.dns_config.clone().unwrap_or_default();
    let options = own.options.unwrap_or_default();
    let extra = DnsConfig {
        nameservers: own.nameservers.unwrap_or_default(),
        searches: own.searches.unwrap_or_default(),
        options: options.into_iter().filter_map(|o| Some((o.name?, o.value))).collect(),
    };
    (policy, extra)
}
