//! Types shared by the kernel and the user side of every map.
//!
//! Every type is `repr(C)`, has no hidden padding (keys are compared as bytes) and is pinned by a size assertion. Whoever
//! changes a layout, a map's kind or the meaning of a field raises [`VERSION`]: maps live in `v<VERSION>/` of the pin
//! directory and outlive the process, so that two layouts never meet.
//!
//! Byte order: addresses and ports are kept as they stand in packets (network order); everything else is host order.
#![no_std]

mod counter;
mod nat;
mod service;

pub use counter::Counter;
pub use nat::{FragmentKey, NatEntry, NatTuple, PrefixV4, direction};
pub use service::{
    Address, AffinityEntry, AffinityKey, Backend, ReverseKey, ReverseValue, Service, ServiceKey, SlotKey,
    backend_flags,
};

/// The layout of everything in this crate.
pub const VERSION: u32 = 1;

/// What a connection to a service without back ends fails with: `ECONNREFUSED`, for TCP and UDP alike, since that is what
/// kube-proxy's REJECT gives and what clients and Kubernetes' conformance tests look for.
pub const NO_BACKEND_ERRNO: i32 = 111;

/// Names of the maps and the programs, as they stand in the object and in the pin directory.
pub mod names {
    /// [`ServiceKey`](crate::ServiceKey) to [`Service`](crate::Service).
    pub const SERVICES: &str = "SERVICES";
    /// [`SlotKey`](crate::SlotKey) to a back end's id.
    pub const SLOTS: &str = "SLOTS";
    /// A back end's id to [`Backend`](crate::Backend).
    pub const BACKENDS: &str = "BACKENDS";
    /// [`ReverseKey`](crate::ReverseKey) to [`ReverseValue`](crate::ReverseValue), LRU.
    pub const REVERSE: &str = "REVERSE";
    /// [`AffinityKey`](crate::AffinityKey) to [`AffinityEntry`](crate::AffinityEntry), LRU.
    pub const AFFINITY: &str = "AFFINITY";
    /// [`Address`](crate::Address) of this node to 1.
    pub const NODE_ADDRESSES: &str = "NODE_ADDRESSES";
    /// Index 0: [`Settings`](crate::Settings).
    pub const SETTINGS: &str = "SETTINGS";
    /// [`Counter`](crate::Counter) to a count for each processor.
    pub const COUNTERS: &str = "COUNTERS";
    /// [`NatTuple`](crate::NatTuple) to [`NatEntry`](crate::NatEntry), LRU.
    pub const NAT: &str = "NAT";
    /// [`FragmentKey`](crate::FragmentKey) to the address that replaces the translated one, LRU.
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// Prefixes that pods reach with their own address.
    pub const NATIVE: &str = "NATIVE";

    /// Every map.
    pub const MAPS: [&str; 11] = [
        SERVICES,
        SLOTS,
        BACKENDS,
        REVERSE,
        AFFINITY,
        NODE_ADDRESSES,
        SETTINGS,
        COUNTERS,
        NAT,
        FRAGMENTS,
        NATIVE,
    ];
    /// The programs at the socket hooks of a cgroup.
    pub const SOCKET_PROGRAMS: [&str; 8] = [
        "connect4",
        "connect6",
        "sendmsg4",
        "sendmsg6",
        "recvmsg4",
        "recvmsg6",
        "getpeername4",
        "getpeername6",
    ];
    /// At tc egress of the uplink.
    pub const MASQUERADE_OUT: &str = "masquerade_out";
    /// At tc ingress of the uplink.
    pub const MASQUERADE_IN: &str = "masquerade_in";
}

/// What the programs need to know of this node; one entry, written before a program is attached.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `SO_NETNS_COOKIE` of the host's network namespace: there alone loopback addresses stand for the node.
    pub host_netns_cookie: u64,
    /// Network order: what pods are masqueraded to.
    pub node_address: u32,
    /// Network order, masked.
    pub pod_network: u32,
    /// Network order.
    pub pod_mask: u32,
    /// Bytes before the IP header on the uplink: 14 on Ethernet, 0 on a plain IP tunnel.
    pub uplink_header: u32,
    /// First port a masqueraded flow may get, host order.
    pub nat_port_min: u16,
    /// Last such port, host order.
    pub nat_port_max: u16,
    /// First node port, host order.
    pub node_port_min: u16,
    /// Last node port, host order.
    pub node_port_max: u16,
}

const _: () = {
    assert!(size_of::<Settings>() == 32);
    assert!(size_of::<Address>() == 16);
    assert!(size_of::<ServiceKey>() == 20);
    assert!(size_of::<Service>() == 16);
    assert!(size_of::<SlotKey>() == 12);
    assert!(size_of::<Backend>() == 20);
    assert!(size_of::<ReverseKey>() == 32);
    assert!(size_of::<ReverseValue>() == 20);
    assert!(size_of::<AffinityKey>() == 24);
    assert!(size_of::<AffinityEntry>() == 16);
    assert!(size_of::<NatTuple>() == 16);
    assert!(size_of::<NatEntry>() == 16);
    assert!(size_of::<FragmentKey>() == 12);
    assert!(size_of::<PrefixV4>() == 4);
};

/// What lets user space copy these types in and out of maps.
#[cfg(feature = "user")]
#[allow(unsafe_code)]
mod user {
    macro_rules! pod {
        ($($name:ident)*) => { $(
            // SAFETY: the type is `repr(C)`, made of integers and arrays of them, valid for any bytes, and the size
            // assertions of this crate leave no room for padding.
            unsafe impl aya::Pod for crate::$name {}
        )* };
    }
    pod!(Settings Address ServiceKey Service SlotKey Backend ReverseKey ReverseValue AffinityKey AffinityEntry);
    pod!(NatTuple NatEntry FragmentKey PrefixV4);
}
