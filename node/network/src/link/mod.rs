//! Pods' links: a veth pair between the host and the pod's network namespace, with all that both ends need to know.
//!
//! The pod has its address as /32 and reaches everything through 169.254.1.1, which is nobody: a permanent neighbour
//! entry leads to the host's end. The host has a /32 route and a permanent neighbour entry back. Nothing ever asks by ARP.

mod messages;
pub(crate) mod netlink;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressScope;

pub(crate) use messages::LinkState;
use messages::{End, Mac};
use netlink::{Answer, Netlink, Request};

use crate::error::AttachError;
use crate::types::PodRef;

/// Where pods send everything: an address that nobody has.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The pod's end of its link.
const POD_LINK: &str = "eth0";
/// How long the kernel may take to notice that both ends of a link are up.
const CARRIER_LIMIT: Duration = Duration::from_secs(5);
/// The loopback interface has this index in every namespace.
const LOOPBACK: u32 = 1;
/// What the alias of every link of ours begins with.
const ALIAS: &str = "carrack";

/// Everything about a pod's link that follows from the pod and its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) host_link: String,
    pub(crate) mtu: u32,
    pub(crate) pod_mac: Mac,
    host_mac: Mac,
    alias: String,
}

impl Plan {
    pub(crate) fn new(pod: &PodRef, ip: Ipv4Addr, mtu: u32) -> Self {
        let [a, b, c, d] = ip.octets();
        let [.., v, w, x, y, z] = fnv1a(pod.id.as_bytes()).to_be_bytes();
        Plan {
            id: pod.id.clone(),
            ip,
            host_link: link_name(&pod.id),
            mtu,
            // 0x02 in the first octet marks addresses that are made up locally.
            pod_mac: [0x0a, 0x58, a, b, c, d],
            host_mac: [0x0e, v, w, x, y, z],
            alias: format!("{ALIAS} {} {}/{}", pod.id, pod.namespace, pod.name),
        }
    }
}

/// The name of the host's end: `ck` and ten digits of a hash of the id. Interfaces have names of at most 15 characters.
pub(crate) fn link_name(id: &str) -> String {
    format!("ck{:010x}", fnv1a(id.as_bytes()) & 0xff_ffff_ffff)
}

/// Text of a hardware address.
pub(crate) fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// FNV-1a. Two pods of a node whose names collide (one in 10¹² pairs) are told apart by the link's alias.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Makes and removes links in the network namespace of the calling thread.
///
/// Each operation has a socket of its own: removing a link takes the kernel milliseconds, in which others are made.
#[derive(Debug)]
pub(crate) struct Links {
    /// The source of the host's own connections to pods.
    source: Option<Ipv4Addr>,
}

impl Links {
    /// `source` is used if this host has that address.
    pub(crate) fn open(source: Ipv4Addr) -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        let addresses = messages::ipv4_addresses(&netlink.dump(messages::all_addresses())?);
        let ours = !source.is_loopback() && addresses.iter().any(|(_, ip)| *ip == source);
        Ok(Links { source: ours.then_some(source) })
    }

    /// Makes the link that `plan` describes, or completes the one that is there.
    pub(crate) fn ensure(&self, plan: &Plan, netns: &Path) -> Result<(), AttachError> {
        let namespace = netlink::open_netns(netns)
            .map_err(|source| AttachError::Namespace { path: netns.to_owned(), source })?;
        let mut pod = Netlink::open_in(&namespace)
            .map_err(|source| AttachError::Namespace { path: netns.to_owned(), source })?;
        let failed =
            |action: &str, source| AttachError::Link { ip: plan.ip, action: action.to_owned(), source };
        let host = self.ensure_pair(plan, namespace.as_fd(), &mut pod)?;
        // While the host's end is down: from a pod it shall take neither router advertisements nor forged sources.
        self.set_host_sysctls(plan).map_err(|error| failed("set net.*.conf of the host's end", error))?;
        self.connect_host(plan, host.index).map_err(|error| failed("set up the host's end", error))?;
        connect_pod(plan, &mut pod).map_err(|error| failed("set up the pod's end", error))?;
        wait_for_carrier(&plan.host_link, &mut pod).map_err(|error| failed("look at the link", error))
    }

    /// The pair itself. One that leads somewhere else than to this namespace is replaced.
    fn ensure_pair(
        &self,
        plan: &Plan,
        namespace: BorrowedFd<'_>,
        pod: &mut Netlink,
    ) -> Result<LinkState, AttachError> {
        let failed =
            |action: &str, source| AttachError::Link { ip: plan.ip, action: action.to_owned(), source };
        let host_end = End { name: &plan.host_link, mac: plan.host_mac };
        let pod_end = End { name: POD_LINK, mac: plan.pod_mac };
        let create = || Request::create(messages::new_pair(&host_end, &pod_end, namespace, plan.mtu));
        let look = || Request::plain(messages::get_link(&plan.host_link));
        let mut netlink = Netlink::open().map_err(|error| failed("ask the kernel", error))?;
        let mut attempt = |requests| -> Result<(Answer, LinkState), AttachError> {
            let answers = netlink.batch(requests).map_err(|error| failed("ask the kernel", error))?;
            let [made, found] = <[Answer; 2]>::try_from(answers)
                .map_err(|_| failed("ask the kernel", io::ErrorKind::InvalidData.into()))?;
            match found.as_deref().ok().and_then(<[_]>::first).and_then(messages::link_state) {
                Some(state) => Ok((made, state)),
                None => Err(failed("make the pair", made.err().unwrap_or(io::ErrorKind::NotFound.into()))),
            }
        };
        let (made, state) = attempt(vec![create(), look()])?;
        let Err(error) = made else { return Ok(state) };
        if error.raw_os_error() != Some(libc::EEXIST) {
            return Err(failed("make the pair", error));
        }
        if state.alias.is_some() && owner_of(&state) != Some(&plan.id) {
            let (link, owner) = (plan.host_link.clone(), state.alias.unwrap_or_default());
            return Err(AttachError::LinkTaken { link, owner });
        }
        if leads_to(&state, pod, plan) {
            return Ok(state);
        }
        drop(attempt(vec![Request::plain(messages::delete_link(&plan.host_link)), look()]));
        let (made, state) = attempt(vec![create(), look()])?;
        made.map_err(|error| failed("make the pair again", error))?;
        Ok(state)
    }

    /// Settings of the host's end alone; the host's global ones are nobody's business here.
    fn set_host_sysctls(&self, plan: &Plan) -> io::Result<()> {
        let key = |family, name| format!("{family}/conf/{}/{name}", plan.host_link);
        match sysctl_write(&key("ipv6", "disable_ipv6"), "1") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // Not found: the host has no IPv6 at all.
            _ => {}
        }
        sysctl_write(&key("ipv4", "rp_filter"), "1")?;
        sysctl_write(&key("ipv4", "forwarding"), "1")
    }

    fn connect_host(&self, plan: &Plan, index: u32) -> io::Result<()> {
        let requests = vec![
            Request::plain(messages::set_up(index, Some(&plan.alias), Some(plan.mtu))),
            Request::replace(messages::route_to_host(index, plan.ip, self.source)),
            Request::replace(messages::neighbour(index, plan.ip, plan.pod_mac)),
        ];
        all(Netlink::open()?.batch(requests)?)
    }

    /// Removes the link of `id`; fine if there is none.
    pub(crate) fn remove(id: &str) -> io::Result<()> {
        Links::remove_named(&link_name(id))
    }

    /// Removes a link by name; fine if there is none.
    pub(crate) fn remove_named(name: &str) -> io::Result<()> {
        let answer = Netlink::open()?.one(Request::plain(messages::delete_link(name)));
        answer.map(drop).or_else(|error| unless(error, libc::ENODEV))
    }

    /// The names of all links of pods in this namespace.
    pub(crate) fn list() -> io::Result<Vec<String>> {
        let messages = Netlink::open()?.dump(messages::all_links())?;
        let links = messages.iter().filter_map(messages::link_state);
        Ok(links.filter(is_ours).map(|link| link.name).collect())
    }

    /// Looks at an interface.
    pub(crate) fn find(name: &str) -> io::Result<Option<LinkState>> {
        match Netlink::open()?.one(Request::plain(messages::get_link(name))) {
            Ok(messages) => Ok(messages.first().and_then(messages::link_state)),
            Err(error) => unless(error, libc::ENODEV).map(|()| None),
        }
    }

    /// The IPv4 addresses of this namespace.
    pub(crate) fn addresses() -> io::Result<Vec<Ipv4Addr>> {
        let messages = Netlink::open()?.dump(messages::all_addresses())?;
        Ok(messages::ipv4_addresses(&messages).into_iter().map(|(_, ip)| ip).collect())
    }

    /// Gives the loopback interface an address that only this host can reach.
    pub(crate) fn add_local_address(ip: Ipv4Addr) -> io::Result<()> {
        let address = RouteNetlinkMessage::NewAddress(messages::address(LOOPBACK, ip, AddressScope::Host));
        let requests =
            vec![Request::plain(messages::set_up(LOOPBACK, None, None)), Request::replace(address)];
        all(Netlink::open()?.batch(requests)?)
    }

    /// Takes it away; fine if it is not there.
    pub(crate) fn remove_local_address(ip: Ipv4Addr) -> io::Result<()> {
        let address = RouteNetlinkMessage::DelAddress(messages::address(LOOPBACK, ip, AddressScope::Host));
        let answer = Netlink::open()?.one(Request::plain(address));
        answer.map(drop).or_else(|error| unless(error, libc::EADDRNOTAVAIL))
    }
}

fn connect_pod(plan: &Plan, pod: &mut Netlink) -> io::Result<()> {
    let answer = pod.one(Request::plain(messages::get_link(POD_LINK)))?;
    let link = answer.first().and_then(messages::link_state).ok_or(io::ErrorKind::NotFound)?;
    let address =
        RouteNetlinkMessage::NewAddress(messages::address(link.index, plan.ip, AddressScope::Universe));
    let requests = vec![
        Request::plain(messages::set_up(LOOPBACK, None, None)),
        Request::plain(messages::set_up(link.index, None, Some(plan.mtu))),
        Request::replace(address),
        Request::replace(messages::neighbour(link.index, GATEWAY, plan.host_mac)),
        Request::replace(messages::route_to_host(link.index, GATEWAY, None)),
        Request::replace(messages::default_route(link.index, GATEWAY)),
    ];
    all(pod.batch(requests)?)
}

/// An end sends only after the kernel has noticed, on a thread of its own, that the other end is up; what is sent before is
/// dropped. Looking at a link waits for that from Linux 6.8 on; before, one has to look again.
fn wait_for_carrier(host_link: &str, pod: &mut Netlink) -> io::Result<()> {
    let began = Instant::now();
    let mut host = Netlink::open()?;
    for (netlink, name) in [(&mut host, host_link), (pod, POD_LINK)] {
        let mut look = || {
            let found = netlink.one(Request::plain(messages::get_link(name)))?;
            io::Result::Ok(found.first().and_then(messages::link_state).is_some_and(|link| link.running))
        };
        while !look()? {
            if began.elapsed() > CARRIER_LIMIT {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{name} has no carrier")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// The id a link's alias names.
fn owner_of(link: &LinkState) -> Option<&str> {
    let mut words = link.alias.as_deref()?.split(' ');
    if words.next() != Some(ALIAS) { None } else { words.next() }
}

/// Whether a link was made here. One without an alias was left by a crash before it got one.
fn is_ours(link: &LinkState) -> bool {
    let digits = link.name.strip_prefix("ck").unwrap_or_default();
    let named = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    named && (link.alias.is_none() || owner_of(link).is_some())
}

/// Whether the pod's end of `host` is in the namespace of `pod`.
fn leads_to(host: &LinkState, pod: &mut Netlink, plan: &Plan) -> bool {
    let Ok(messages) = pod.one(Request::plain(messages::get_link(POD_LINK))) else { return false };
    let Some(eth0) = messages.first().and_then(messages::link_state) else { return false };
    eth0.mac == plan.pod_mac && host.peer == Some(eth0.index) && eth0.peer == Some(host.index)
}

/// The first error of several answers.
fn all(answers: Vec<Answer>) -> io::Result<()> {
    answers.into_iter().try_for_each(|answer| answer.map(drop))
}

/// Takes one error for success.
fn unless(error: io::Error, errno: i32) -> io::Result<()> {
    if error.raw_os_error() == Some(errno) { Ok(()) } else { Err(error) }
}

/// Writes `/proc/sys/net/<key>` of this thread's network namespace.
pub(crate) fn sysctl_write(key: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys/net").join(key), value)
}

/// Reads `/proc/sys/net/<key>` of this thread's network namespace.
pub(crate) fn sysctl_read(key: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Path::new("/proc/sys/net").join(key))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_follow_from_the_pod() {
        let pod = PodRef { id: "uid-1".into(), namespace: "shop".into(), name: "web".into() };
        let plan = Plan::new(&pod, Ipv4Addr::new(10, 244, 3, 7), 1500);
        assert_eq!(plan.host_link.len(), 12);
        assert!(plan.host_link.starts_with("ck"));
        assert_eq!(mac_text(plan.pod_mac), "0a:58:0a:f4:03:07");
        assert_eq!(plan.alias, "carrack uid-1 shop/web");
        assert_eq!(plan, Plan::new(&pod, plan.ip, 1500));
        assert_ne!(link_name("uid-1"), link_name("uid-2"));
    }

    #[test]
    fn an_alias_names_its_owner() {
        let mut link = LinkState {
            index: 1,
            name: "ck".into(),
            alias: Some("carrack uid-1 shop/web".into()),
            mac: vec![],
            mtu: 0,
            up: true,
            running: true,
            ethernet: true,
            peer: None,
        };
        assert_eq!(owner_of(&link), Some("uid-1"));
        for other in [None, Some("something else"), Some("carrack")] {
            link.alias = other.map(str::to_owned);
            assert_eq!(owner_of(&link), None, "{other:?}");
        }
        let cases =
            [("ck0123456789", None, true), ("ck0123456789", Some("mine"), false), ("ckx", None, false)];
        for (name, alias, ours) in cases {
            link.name = name.to_owned();
            link.alias = alias.map(str::to_owned);
            assert_eq!(is_ours(&link), ours, "{name} {alias:?}");
        }
    }
}
