//! Services: what a connection is addressed to, and what it is turned into.
//!
//! A connection's address, port and protocol select a [`Service`], which names a generation and a number of slots; a slot
//! of that generation names a back end. A change writes back ends first, then the slots of a new generation, then flips
//! the [`Service`]: whoever looks sees all of the old or all of the new. The old generation is deleted later, when
//! nobody can still be reading it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv6 address as four words in network order; IPv4 addresses are mapped into it (`::ffff:a.b.c.d`).
///
/// Four fields rather than an array: an array is compared as one integer of 128 bits, and LLVM 22 crashes on a copy of
/// what it has aligned for that.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub u32, pub u32, pub u32, pub u32);

impl Address {
    /// The third word of every IPv4 address.
    pub const V4_PREFIX: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

    /// An IPv4 address given in network order.
    #[inline(always)]
    pub const fn v4(address: u32) -> Self {
        Address(0, 0, Self::V4_PREFIX, address)
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0 == 0 && self.1 == 0 && self.2 == Self::V4_PREFIX
    }

    /// The unspecified address of the same family, under which node ports are kept.
    #[inline(always)]
    pub const fn wildcard(&self) -> Self {
        if self.is_v4() { Self::v4(0) } else { Address(0, 0, 0, 0) }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let word = |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Address(word(0), word(4), word(8), word(12))
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        if address.is_v4() {
            return Ipv4Addr::from(address.3.to_ne_bytes()).into();
        }
        let mut octets = [0; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip([address.0, address.1, address.2, address.3]) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        Ipv6Addr::from(octets).into()
    }
}

/// What a connection is addressed to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Cluster IP, or [`Address::wildcard`] for a node port.
    pub address: Address,
    /// Network order.
    pub port: u16,
    /// IPPROTO_TCP or IPPROTO_UDP.
    pub protocol: u8,
    /// 0; room for the external and internal scopes of traffic policies.
    pub scope: u8,
}

/// The current state of a service's port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Joins the slots and the affinity entries to the service; shared by all its keys.
    pub id: u32,
    /// Which slots are current.
    pub generation: u32,
    /// How many slots there are; 0 refuses connections.
    pub count: u32,
    /// How long a client keeps its back end after its last connection, in seconds; 0 for not at all.
    pub affinity_seconds: u32,
}

/// Names one slot of a service; its value is a back end's id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotKey {
    /// [`Service::id`].
    pub service: u32,
    /// [`Service::generation`].
    pub generation: u32,
    /// 0 to [`Service::count`] - 1.
    pub index: u32,
}

/// Bits of [`Backend::flags`].
pub mod backend_flags {
    /// No longer in the slots: clients with affinity to it get another.
    pub const DRAINING: u16 = 1;
}

/// Where connections go. A back end belongs to one service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Address.
    pub address: Address,
    /// Network order.
    pub port: u16,
    /// See [`backend_flags`].
    pub flags: u16,
}

/// A socket and the back end it speaks to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReverseKey {
    /// The socket's cookie.
    pub cookie: u64,
    /// The back end's address.
    pub address: Address,
    /// The back end's port, network order.
    pub port: u16,
    /// 0.
    pub pad: [u16; 3],
}

/// What the socket believes it speaks to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReverseValue {
    /// The service's address.
    pub address: Address,
    /// Network order.
    pub port: u16,
    /// 0.
    pub pad: u16,
}

/// A client of a service with session affinity.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffinityKey {
    /// [`Service::id`].
    pub service: u32,
    /// 0: the client is a network namespace, its cookie in the first two words of `client`.
    pub kind: u32,
    /// Who the client is: a pod is one client, and so is the host.
    pub client: [u32; 4],
}

/// The back end a client keeps.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffinityEntry {
    /// When it last connected, by the kernel's monotonic clock in nanoseconds.
    pub last_used: u64,
    /// Back end's id.
    pub backend: u32,
    /// 0.
    pub pad: u32,
}
