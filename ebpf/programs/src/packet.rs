//! Reading and rewriting IPv4 packets: headers are copied out in one helper call each, and checksums change by difference.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::programs::TcContext;
use carrack_ebpf_abi::Counter;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// Where the header checksum, the source and the destination are in an IPv4 header.
const IP_CHECKSUM: usize = 10;
const IP_SOURCE: usize = 12;
const IP_DESTINATION: usize = 16;

/// An IPv4 header without options, fields in network order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    version_and_length: u8,
    _tos: u8,
    _length: u16,
    pub id: u16,
    fragment: u16,
    _ttl: u8,
    pub protocol: u8,
    _checksum: u16,
    pub source: u32,
    pub destination: u32,
}

/// The first bytes of a TCP, UDP or ICMP header: ports, or type and code, checksum, identifier.
#[repr(C)]
#[derive(Clone, Copy)]
struct Transport {
    first: u16,
    second: u16,
    third: u16,
}

/// What stands after the IP header.
#[derive(Clone, Copy)]
pub enum Payload {
    /// TCP, UDP or an ICMP echo request, with ports in network order; a request's identifier is its source port.
    Flow { source_port: u16, destination_port: u16 },
    /// An ICMP echo reply, with its identifier: the same flow as the request, seen from the other side.
    EchoReply { id: u16 },
    /// An ICMP error; the packet it is about follows its header of eight bytes.
    IcmpError,
    /// A fragment that is not the first.
    LaterFragment,
    /// Something without ports.
    Other,
}

/// A packet's headers and where they are.
#[derive(Clone, Copy)]
pub struct Packet {
    pub ip: Ipv4,
    pub ip_at: usize,
    pub payload_at: usize,
    pub payload: Payload,
}

/// Which end of a packet is rewritten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

impl Ipv4 {
    /// Reads the header at `at`; `None` if there is none or it is not IPv4.
    #[inline(always)]
    pub fn read(ctx: &TcContext, at: usize) -> Option<Ipv4> {
        let header: Ipv4 = ctx.load(at).ok()?;
        (header.version_and_length >> 4 == 4).then_some(header)
    }

    /// Whether this is the first of several fragments.
    #[inline(always)]
    pub fn is_first_fragment(&self) -> bool {
        u16::from_be(self.fragment) & 0x3fff == 0x2000
    }

    #[inline(always)]
    fn is_later_fragment(&self) -> bool {
        u16::from_be(self.fragment) & 0x1fff != 0
    }
}

impl Packet {
    /// Reads what follows an IP header at `ip_at`.
    #[inline(always)]
    pub fn read(ctx: &TcContext, ip: Ipv4, ip_at: usize) -> Result<Packet, Counter> {
        let payload_at = ip_at + (((ip.version_and_length & 15) as usize) << 2);
        let payload = if ip.is_later_fragment() {
            Payload::LaterFragment
        } else if matches!(ip.protocol, TCP | UDP | ICMP) {
            let start: Transport = ctx.load(payload_at).map_err(|_| Counter::NatMalformed)?;
            classify(ip.protocol, start)
        } else {
            Payload::Other
        };
        Ok(Packet { ip, ip_at, payload_at, payload })
    }

    /// Rewrites one end: address, port (or echo identifier) and the checksums over them.
    #[inline(always)]
    pub fn rewrite(
        &self,
        ctx: &TcContext,
        end: End,
        address: u32,
        ports: Option<(u16, u16)>,
    ) -> Result<(), Counter> {
        self.rewrite_inner(ctx, end, address, ports).map_err(|_| Counter::NatMalformed)
    }

    #[inline(always)]
    fn rewrite_inner(
        &self,
        ctx: &TcContext,
        end: End,
        address: u32,
        ports: Option<(u16, u16)>,
    ) -> Result<(), i64> {
        let old = match end {
            End::Source => self.ip.source,
            End::Destination => self.ip.destination,
        };
        if let Some((old_port, new_port)) = ports {
            let (checksum_at, flags) = self.transport_checksum();
            if self.ip.protocol != ICMP {
                let pseudo = flags | BPF_F_PSEUDO_HDR as u64 | 4;
                ctx.skb.l4_csum_replace(checksum_at, old as u64, address as u64, pseudo)?;
            }
            if old_port != new_port {
                ctx.skb.l4_csum_replace(checksum_at, old_port as u64, new_port as u64, flags | 2)?;
                ctx.store(self.port_at(end), &new_port, 0)?;
            }
        }
        rewrite_address(ctx, self.ip_at, end, old, address)
    }

    /// Where the transport checksum is, and how it wants to be changed: a UDP checksum of zero means none and stays.
    #[inline(always)]
    fn transport_checksum(&self) -> (usize, u64) {
        match self.ip.protocol {
            TCP => (self.payload_at + 16, 0),
            UDP => (self.payload_at + 6, BPF_F_MARK_MANGLED_0 as u64),
            _ => (self.payload_at + 2, 0),
        }
    }

    /// Where a port, or an echo's identifier, is.
    #[inline(always)]
    pub fn port_at(&self, end: End) -> usize {
        match (self.ip.protocol, end) {
            (ICMP, _) => self.payload_at + 4,
            (_, End::Source) => self.payload_at,
            (_, End::Destination) => self.payload_at + 2,
        }
    }
}

/// Replaces an address in an IP header, and the header's checksum by the difference.
#[inline(always)]
pub fn rewrite_address(ctx: &TcContext, ip_at: usize, end: End, old: u32, new: u32) -> Result<(), i64> {
    ctx.skb.l3_csum_replace(ip_at + IP_CHECKSUM, old as u64, new as u64, 4)?;
    let at = match end {
        End::Source => IP_SOURCE,
        End::Destination => IP_DESTINATION,
    };
    ctx.store(ip_at + at, &new, 0)
}

#[inline(always)]
fn classify(protocol: u8, start: Transport) -> Payload {
    if protocol != ICMP {
        return Payload::Flow { source_port: start.first, destination_port: start.second };
    }
    let [kind, _code] = start.first.to_ne_bytes();
    match kind {
        ECHO_REQUEST => Payload::Flow { source_port: start.third, destination_port: 0 },
        ECHO_REPLY => Payload::EchoReply { id: start.third },
        UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM => Payload::IcmpError,
        _ => Payload::Other,
    }
}
