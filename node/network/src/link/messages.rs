//! The netlink messages that make, look at and remove pods' links.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, State,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// One end of a pair as it is made.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
}

/// What is known of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkState {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    pub(crate) mac: Vec<u8>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    /// It is up and so is its other end, and the kernel has noticed: packets go out. (Its flag of that name is set
    /// before, too, while the state is unknown.)
    pub(crate) running: bool,
    pub(crate) ethernet: bool,
    /// Index of the other end of a pair, in its namespace.
    pub(crate) peer: Option<u32>,
}

/// A pair of links: `host` here, `pod` in the namespace `netns`. Both are down: the kernel cannot open an end before the
/// other is there.
pub(crate) fn new_pair(
    host: &End<'_>,
    pod: &End<'_>,
    netns: BorrowedFd<'_>,
    mtu: u32,
) -> RouteNetlinkMessage {
    let mut peer = end(pod, mtu);
    peer.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    let mut message = end(host, mtu);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    RouteNetlinkMessage::NewLink(message)
}

fn end(end: &End<'_>, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(end.name.to_owned()),
        LinkAttribute::Address(end.mac.to_vec()),
        LinkAttribute::Mtu(mtu),
    ];
    message
}

fn by_name(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// Looks at one link.
pub(crate) fn get_link(name: &str) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(by_name(name))
}

/// Looks at all links.
pub(crate) fn all_links() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(LinkMessage::default())
}

/// Removes a link, and its other end with it.
pub(crate) fn delete_link(name: &str) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelLink(by_name(name))
}

/// Brings a link up and says whose it is.
pub(crate) fn set_up(index: u32, alias: Option<&str>, mtu: Option<u32>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.extend(alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned())));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    RouteNetlinkMessage::SetLink(message)
}

/// An address of one host on a link. Host scope: never chosen as the source of a connection elsewhere.
pub(crate) fn address(index: u32, ip: Ipv4Addr, scope: AddressScope) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.scope = scope;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(ip.into()), AddressAttribute::Address(ip.into())];
    message
}

/// All addresses.
pub(crate) fn all_addresses() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}

/// A route to one host through a link, with the source that answers should go to.
pub(crate) fn route_to_host(index: u32, ip: Ipv4Addr, source: Option<Ipv4Addr>) -> RouteNetlinkMessage {
    let mut message = route(index, RouteScope::Link);
    message.header.destination_prefix_length = 32;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(ip)));
    message.attributes.extend(source.map(|ip| RouteAttribute::PrefSource(RouteAddress::Inet(ip))));
    RouteNetlinkMessage::NewRoute(message)
}

/// The route to everywhere else.
pub(crate) fn default_route(index: u32, gateway: Ipv4Addr) -> RouteNetlinkMessage {
    let mut message = route(index, RouteScope::Universe);
    message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    RouteNetlinkMessage::NewRoute(message)
}

fn route(index: u32, scope: RouteScope) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = scope;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

/// A neighbour that is never asked for: both ends of a pair know each other's hardware address.
pub(crate) fn neighbour(index: u32, ip: Ipv4Addr, mac: Mac) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    RouteNetlinkMessage::NewNeighbour(message)
}

/// What a message says of a link; `None` if it is about something else.
pub(crate) fn link_state(message: &RouteNetlinkMessage) -> Option<LinkState> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let mut state = LinkState {
        index: link.header.index,
        name: String::new(),
        alias: None,
        mac: Vec::new(),
        mtu: 0,
        up: link.header.flags.contains(LinkFlags::Up),
        running: false,
        ethernet: link.header.link_layer_type == LinkLayerType::Ether,
        peer: None,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => state.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => state.alias = Some(alias.clone()),
            LinkAttribute::Address(mac) => state.mac.clone_from(mac),
            LinkAttribute::Mtu(mtu) => state.mtu = *mtu,
            LinkAttribute::OperState(operational) => state.running = *operational == State::Up,
            LinkAttribute::Link(peer) => state.peer = Some(*peer),
            _ => {}
        }
    }
    Some(state)
}

/// The IPv4 addresses that messages speak of, with the index of their link.
pub(crate) fn ipv4_addresses(messages: &[RouteNetlinkMessage]) -> Vec<(u32, Ipv4Addr)> {
    let addresses = messages.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewAddress(address) => Some(address),
        _ => None,
    });
    addresses
        .filter_map(|message| {
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(std::net::IpAddr::V4(ip)) => Some((message.header.index, *ip)),
                _ => None,
            })
        })
        .collect()
}
