//! ICMP errors about masqueraded flows: the packet that an error quotes is translated along with the error itself.
//!
//! The quoted header's checksum changes by as much as its address, in the other direction, so that the ICMP checksum,
//! which covers both, stays right; only a changed port has to be reckoned in.

use aya_ebpf::programs::TcContext;
use carrack_ebpf_abi::{Counter, NatTuple, Settings, direction};

use crate::nat;
use crate::packet::{End, Ipv4, Packet, Payload, rewrite_address};

/// Bytes of an ICMP error before the packet it quotes.
const ICMP_HEADER: usize = 8;
const ICMP_CHECKSUM: usize = 2;

/// An error from outside about what a pod sent: it is given to the pod. `Ok(false)`: it is about a flow of the host.
#[inline(always)]
pub fn error_in(ctx: &TcContext, error: &Packet) -> Result<bool, Counter> {
    let Ok((quoted, source_port, destination_port)) = quoted(ctx, error) else { return Ok(false) };
    let answer = NatTuple {
        source: quoted.ip.destination,
        destination: quoted.ip.source,
        source_port: destination_port,
        destination_port: source_port,
        protocol: quoted.ip.protocol,
        direction: direction::IN,
        pad: 0,
    };
    let Some(pod) = nat::known(&answer) else { return Ok(false) };
    rewrite_quoted(ctx, error, &quoted, End::Source, pod.address, (source_port, pod.port))
        .map_err(|_| Counter::NatMalformed)?;
    error.rewrite(ctx, End::Destination, pod.address, None)?;
    Ok(true)
}

/// A pod's error about what it was sent: it goes out in the node's name. `Ok(false)`: it is about a flow that began outside
/// and goes out as it is.
#[inline(always)]
pub fn error_out(ctx: &TcContext, error: &Packet, settings: &Settings) -> Result<bool, Counter> {
    let (quoted, source_port, destination_port) = quoted(ctx, error)?;
    let out = NatTuple {
        source: quoted.ip.destination,
        destination: quoted.ip.source,
        source_port: destination_port,
        destination_port: source_port,
        protocol: quoted.ip.protocol,
        direction: direction::OUT,
        pad: 0,
    };
    let Some(node) = nat::known(&out) else { return Err(Counter::NatErrorUnknown) };
    if node.address == out.source {
        return Ok(false);
    }
    rewrite_quoted(ctx, error, &quoted, End::Destination, node.address, (destination_port, node.port))
        .map_err(|_| Counter::NatMalformed)?;
    error.rewrite(ctx, End::Source, settings.node_address, None)?;
    Ok(true)
}

/// The packet an error quotes, with its ports. An error about anything without ports is about no flow of ours.
#[inline(always)]
fn quoted(ctx: &TcContext, error: &Packet) -> Result<(Packet, u16, u16), Counter> {
    let at = error.payload_at + ICMP_HEADER;
    let ip = Ipv4::read(ctx, at).ok_or(Counter::NatMalformed)?;
    let packet = Packet::read(ctx, ip, at)?;
    match packet.payload {
        Payload::Flow { source_port, destination_port } => Ok((packet, source_port, destination_port)),
        Payload::EchoReply { id } => Ok((packet, 0, id)),
        _ => Err(Counter::NatErrorUnknown),
    }
}

#[inline(always)]
fn rewrite_quoted(
    ctx: &TcContext,
    error: &Packet,
    quoted: &Packet,
    end: End,
    address: u32,
    (old_port, new_port): (u16, u16),
) -> Result<(), i64> {
    if old_port != new_port {
        let checksum_at = error.payload_at + ICMP_CHECKSUM;
        ctx.skb.l4_csum_replace(checksum_at, old_port as u64, new_port as u64, 2)?;
        ctx.store(quoted.port_at(end), &new_port, 0)?;
    }
    let old = match end {
        End::Source => quoted.ip.source,
        End::Destination => quoted.ip.destination,
    };
    rewrite_address(ctx, quoted.ip_at, end, old, address)
}
