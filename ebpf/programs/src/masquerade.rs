//! Masquerade at the uplink: what pods send to the outside leaves in the node's name, and answers find their way back.
//!
//! Three kinds of packets pass as they are: those of the host, those to native prefixes, and those of flows that began
//! outside. The node's own connections never share a port with a masqueraded one: the ranges are disjoint.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::programs::TcContext;
use carrack_ebpf_abi::{Counter, NatTuple, PrefixV4, Settings, direction};

use crate::maps::{NATIVE, SETTINGS, count};
use crate::packet::{End, Ipv4, Packet, Payload};
use crate::{fragments, icmp, nat};

/// `ETH_P_IP`, network order.
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;

/// What a packet counts as; `Err` drops it.
type Outcome = Result<Option<Counter>, Counter>;

/// Counts an outcome and turns it into what tc wants: drop, or ask the next program of the interface.
#[inline(always)]
pub fn verdict(outcome: Outcome) -> i32 {
    match outcome {
        Ok(None) => TC_ACT_UNSPEC,
        Ok(Some(counter)) => {
            count(counter);
            TC_ACT_UNSPEC
        }
        Err(counter) => {
            count(counter);
            TC_ACT_SHOT as i32
        }
    }
}

/// A packet that leaves by the uplink.
#[inline(always)]
pub fn egress(ctx: &TcContext) -> Outcome {
    let Some((settings, ip, ip_at)) = headers(ctx) else { return Ok(None) };
    if ip.source & settings.pod_mask != settings.pod_network || is_native(ip.destination) {
        return Ok(None);
    }
    let packet = Packet::read(ctx, ip, ip_at)?;
    match packet.payload {
        Payload::Flow { source_port, destination_port } => {
            let out = tuple(&ip, source_port, destination_port, direction::OUT);
            let to = nat::outgoing(&out, settings)?;
            fragments::leave(&ip, direction::OUT, to.address);
            if to.address == ip.source {
                return Ok(None);
            }
            packet.rewrite(ctx, End::Source, to.address, Some((source_port, to.port)))?;
            Ok(Some(Counter::NatOut))
        }
        // Answers are never masqueraded: what they answer began outside, or was never asked.
        Payload::EchoReply { id } => match nat::known(&tuple(&ip, 0, id, direction::OUT)) {
            Some(to) if to.address == ip.source => {
                fragments::leave(&ip, direction::OUT, ip.source);
                Ok(None)
            }
            _ => Err(Counter::NatUnsupported),
        },
        Payload::LaterFragment => {
            let address = fragments::find(&ip, direction::OUT).ok_or(Counter::NatFragmentLost)?;
            if address == ip.source {
                return Ok(None);
            }
            packet.rewrite(ctx, End::Source, address, None)?;
            Ok(Some(Counter::NatFragment))
        }
        Payload::IcmpError => Ok(icmp::error_out(ctx, &packet, settings)?.then_some(Counter::NatErrorOut)),
        Payload::Other => Err(Counter::NatUnsupported),
    }
}

/// A packet that arrives by the uplink.
#[inline(always)]
pub fn ingress(ctx: &TcContext) -> Outcome {
    let Some((settings, ip, ip_at)) = headers(ctx) else { return Ok(None) };
    if ip.destination & settings.pod_mask == settings.pod_network {
        return ingress_to_pod(ctx, ip, ip_at);
    }
    if ip.destination != settings.node_address {
        return Ok(None);
    }
    let packet = Packet::read(ctx, ip, ip_at)?;
    match packet.payload {
        Payload::Flow { source_port, destination_port } => {
            answer(ctx, &packet, source_port, destination_port)
        }
        Payload::EchoReply { id } => answer(ctx, &packet, 0, id),
        Payload::LaterFragment => {
            // Without a first fragment of ours it is the host's own.
            let Some(address) = fragments::find(&ip, direction::IN) else { return Ok(None) };
            packet.rewrite(ctx, End::Destination, address, None)?;
            Ok(Some(Counter::NatFragment))
        }
        Payload::IcmpError => Ok(icmp::error_in(ctx, &packet)?.then_some(Counter::NatErrorIn)),
        Payload::Other => Ok(None),
    }
}

/// A packet addressed to a pod itself: its flow began outside, unless it is the answer to one that left unmasqueraded.
#[inline(always)]
fn ingress_to_pod(ctx: &TcContext, ip: Ipv4, ip_at: usize) -> Outcome {
    if let Payload::Flow { source_port, destination_port } = Packet::read(ctx, ip, ip_at)?.payload {
        nat::began_outside(&tuple(&ip, source_port, destination_port, direction::IN));
    }
    Ok(None)
}

/// A packet to the node: given to the pod it answers, if there is one.
#[inline(always)]
fn answer(ctx: &TcContext, packet: &Packet, source_port: u16, destination_port: u16) -> Outcome {
    let ip = &packet.ip;
    let arrived = tuple(ip, source_port, destination_port, direction::IN);
    let Some(pod) = nat::incoming(&arrived) else { return Ok(None) };
    fragments::leave(ip, direction::IN, pod.address);
    packet.rewrite(ctx, End::Destination, pod.address, Some((destination_port, pod.port)))?;
    Ok(Some(Counter::NatIn))
}

/// Settings and IP header, if this is IPv4 and masquerade is set up.
#[inline(always)]
fn headers(ctx: &TcContext) -> Option<(&'static Settings, Ipv4, usize)> {
    if ctx.skb.protocol() != ETH_P_IP {
        return None;
    }
    let settings = SETTINGS.get(0)?;
    let ip_at = if settings.uplink_header == 0 { 0 } else { 14 };
    Ipv4::read(ctx, ip_at).map(|ip| (settings, ip, ip_at))
}

#[inline(always)]
fn is_native(destination: u32) -> bool {
    NATIVE.get(&Key::new(32, PrefixV4(destination))).is_some()
}

#[inline(always)]
fn tuple(ip: &Ipv4, source_port: u16, destination_port: u16, direction: u8) -> NatTuple {
    NatTuple {
        source: ip.source,
        destination: ip.destination,
        source_port,
        destination_port,
        protocol: ip.protocol,
        direction,
        pad: 0,
    }
}
