//! What the programs count, by reason.

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// An index into the counters' array.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[doc = $doc])* $variant,)* }

        impl Counter {
            /// Every counter, in order.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)*];

            /// The name that people and metrics see.
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name,)* }
            }
        }
    };
}

counters! {
    /// TCP connects turned to a back end.
    TcpConnect = "service_tcp_connects",
    /// UDP connects turned to a back end.
    UdpConnect = "service_udp_connects",
    /// Datagrams of unconnected sockets turned to a back end.
    UdpSend = "service_udp_sends",
    /// Source addresses of datagrams turned back.
    Restored = "service_replies_restored",
    /// Back ends chosen by session affinity.
    AffinityHit = "service_affinity_hits",
    /// Refused: the service has no back end.
    NoBackend = "service_no_backend",
    /// Refused: a slot of the current generation was not there. Never happens if the order of writes is kept.
    SlotMissing = "service_slot_missing",
    /// Refused: a slot's back end was not there, or is of the other address family.
    BackendMissing = "service_backend_missing",
    /// Refused: what the socket believes it speaks to could not be recorded.
    ReverseFull = "service_reverse_full",
    /// Flows masqueraded.
    NatFlow = "masquerade_flows",
    /// Packets masqueraded on their way out.
    NatOut = "masquerade_packets_out",
    /// Packets given back to a pod.
    NatIn = "masquerade_packets_in",
    /// ICMP errors given back to a pod.
    NatErrorIn = "masquerade_icmp_errors_in",
    /// ICMP errors of a pod sent out.
    NatErrorOut = "masquerade_icmp_errors_out",
    /// Ports tried that another flow held.
    NatPortTaken = "masquerade_ports_taken",
    /// Entries rebuilt from the other direction's.
    NatRepaired = "masquerade_entries_repaired",
    /// Later fragments translated.
    NatFragment = "masquerade_fragments",
    /// Dropped: no free port.
    NatExhausted = "dropped_masquerade_ports_exhausted",
    /// Dropped: a later fragment whose first never came.
    NatFragmentLost = "dropped_fragment_without_first",
    /// Dropped: a protocol without ports to masquerade.
    NatUnsupported = "dropped_protocol_not_masqueraded",
    /// Dropped: an ICMP error about a flow that is not there.
    NatErrorUnknown = "dropped_icmp_error_without_flow",
    /// Dropped: headers cut short or a packet that could not be rewritten.
    NatMalformed = "dropped_malformed",
}

impl Counter {
    /// How many there are.
    pub const COUNT: u32 = Self::ALL.len() as u32;
}
