//! Masquerade: which port of the node stands for which port of a pod.
//!
//! One LRU map holds both directions of a flow. Either entry can be rebuilt from the other, and is while packets pass.

/// Values of [`NatTuple::direction`].
pub mod direction {
    /// As the pod sends it.
    pub const OUT: u8 = 0;
    /// As the answer arrives at the node.
    pub const IN: u8 = 1;
}

/// One direction of a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NatTuple {
    /// Network order.
    pub source: u32,
    /// Network order.
    pub destination: u32,
    /// Network order; the identifier of an echo request.
    pub source_port: u16,
    /// Network order; the identifier of an echo reply.
    pub destination_port: u16,
    /// IPPROTO_TCP, IPPROTO_UDP or IPPROTO_ICMP.
    pub protocol: u8,
    /// See [`direction`].
    pub direction: u8,
    /// 0.
    pub pad: u16,
}

/// What the translated end of a flow becomes: the node's address and port on the way out, the pod's on the way in. An
/// outgoing entry with the flow's own source marks a flow that began outside and is left as it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatEntry {
    /// When the other direction's entry was last seen to be there, by the kernel's monotonic clock in nanoseconds.
    pub refreshed: u64,
    /// Network order.
    pub address: u32,
    /// Network order.
    pub port: u16,
    /// 0.
    pub pad: u16,
}

/// The fragments of one datagram. Later fragments carry no ports; the first leaves here what they need.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentKey {
    /// As in the packet before translation, network order.
    pub source: u32,
    /// As in the packet before translation, network order.
    pub destination: u32,
    /// The IP header's identification.
    pub id: u16,
    /// The IP header's protocol.
    pub protocol: u8,
    /// See [`direction`].
    pub direction: u8,
}

/// The address part of an LPM key.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixV4(pub u32);
