//! The content of a pod's `/etc/resolv.conf`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::types::{DnsConfig, DnsPolicy};

/// How many name servers resolvers look at.
const SERVERS: usize = 3;
/// How many search domains a pod may have, and how many characters together: what Kubernetes allows.
const SEARCHES: usize = 32;
const SEARCH_LENGTH: usize = 2048;

/// What the host's own resolver is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostResolver {
    pub(crate) nameservers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl HostResolver {
    /// Reads the host's resolv.conf; that of systemd-resolved, if the usual one names only its stub, which pods cannot reach.
    pub(crate) fn read() -> Self {
        let read = |path: &str| {
            fs::read_to_string(Path::new(path)).map(|text| Self::parse(&text)).unwrap_or_default()
        };
        let usual = read("/etc/resolv.conf");
        let is_stub = |server: &String| server.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !usual.nameservers.iter().all(is_stub) {
            return usual;
        }
        let upstream = read("/run/systemd/resolve/resolv.conf");
        if upstream.nameservers.is_empty() { usual } else { upstream }
    }

    fn parse(text: &str) -> Self {
        let mut host = HostResolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => host.nameservers.extend(words.next().map(str::to_owned)),
                // The last line counts.
                Some("search" | "domain") => host.searches = words.map(str::to_owned).collect(),
                Some("options") => host.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        host
    }
}

/// What every pod's resolver is told.
pub(crate) struct ClusterResolver<'a> {
    pub(crate) dns_address: Ipv4Addr,
    pub(crate) domain: &'a str,
    pub(crate) upstream: &'a [SocketAddr],
}

/// The content of the file of a pod in `namespace`.
pub(crate) fn resolv_conf(
    cluster: &ClusterResolver<'_>,
    host: &HostResolver,
    namespace: &str,
    policy: DnsPolicy,
    extra: &DnsConfig,
) -> String {
    let (mut servers, mut searches, mut options) = match policy {
        DnsPolicy::None => Default::default(),
        DnsPolicy::Default => {
            let upstream = cluster.upstream.iter().filter(|server| server.port() == 53);
            let upstream: Vec<_> = upstream.map(|server| server.ip().to_string()).collect();
            let servers = if upstream.is_empty() { host.nameservers.clone() } else { upstream };
            (servers, host.searches.clone(), host.options.clone())
        }
        DnsPolicy::ClusterFirst => {
            let domain = cluster.domain;
            let mut searches =
                vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
            searches.extend(host.searches.iter().cloned());
            (vec![cluster.dns_address.to_string()], searches, vec!["ndots:5".to_owned()])
        }
    };
    extend_new(&mut servers, &extra.nameservers);
    extend_new(&mut searches, &extra.searches);
    for (name, value) in &extra.options {
        // What the pod says of an option replaces what the policy says.
        options.retain(|option| option.split(':').next() != Some(name));
        options.push(value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}")));
    }
    servers.truncate(SERVERS);
    cut_searches(&mut searches);
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (key, words) in [("search", searches), ("options", options)] {
        if !words.is_empty() {
            text += &format!("{key} {}\n", words.join(" "));
        }
    }
    text
}

fn extend_new(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn cut_searches(searches: &mut Vec<String>) {
    searches.truncate(SEARCHES);
    let mut length = 0;
    let fits = searches.iter().take_while(|search| {
        length += search.len() + 1;
        length <= SEARCH_LENGTH + 1
    });
    let fits = fits.count();
    searches.truncate(fits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(policy: DnsPolicy, extra: &DnsConfig) -> String {
        let upstream = ["192.0.2.53:53".parse().unwrap()];
        let cluster = ClusterResolver {
            dns_address: Ipv4Addr::new(10, 96, 0, 10),
            domain: "cluster.local",
            upstream: &upstream,
        };
        let host = HostResolver::parse(
            "# comment\nnameserver 127.0.0.53\nsearch old\nsearch example.com corp\noptions edns0 trust-ad\n",
        );
        resolv_conf(&cluster, &host, "shop", policy, extra)
    }

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn policies() {
        let none = DnsConfig::default();
        let expected = "nameserver 10.96.0.10\n\
            search shop.svc.cluster.local svc.cluster.local cluster.local example.com corp\noptions ndots:5\n";
        assert_eq!(text(DnsPolicy::ClusterFirst, &none), expected);
        let expected = "nameserver 192.0.2.53\nsearch example.com corp\noptions edns0 trust-ad\n";
        assert_eq!(text(DnsPolicy::Default, &none), expected);
        assert_eq!(text(DnsPolicy::None, &none), "");
    }

    #[test]
    fn what_the_pod_says_is_added_and_its_options_win() {
        let extra = DnsConfig {
            nameservers: strings(&["10.96.0.10", "9.9.9.9"]),
            searches: strings(&["cluster.local", "my.domain"]),
            options: vec![("ndots".into(), Some("2".into())), ("edns0".into(), None)],
        };
        let expected = "nameserver 10.96.0.10\nnameserver 9.9.9.9\n\
            search shop.svc.cluster.local svc.cluster.local cluster.local example.com corp my.domain\n\
            options ndots:2 edns0\n";
        assert_eq!(text(DnsPolicy::ClusterFirst, &extra), expected);
        let expected = "nameserver 10.96.0.10\nnameserver 9.9.9.9\nsearch cluster.local my.domain\noptions ndots:2 edns0\n";
        assert_eq!(text(DnsPolicy::None, &extra), expected);
    }

    #[test]
    fn no_more_than_resolvers_take() {
        let extra = DnsConfig {
            nameservers: strings(&["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]),
            searches: (0..40).map(|n| format!("{}{n}.example", "x".repeat(100))).collect(),
            options: vec![],
        };
        let text = text(DnsPolicy::None, &extra);
        assert_eq!(text.lines().filter(|line| line.starts_with("nameserver")).count(), SERVERS);
        let search = text.lines().find_map(|line| line.strip_prefix("search ")).unwrap();
        assert!(search.len() <= SEARCH_LENGTH && search.split(' ').count() == 18, "{}", search.len());
    }
}
