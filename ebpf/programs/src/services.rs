//! Service load balancing when a socket connects or sends: once for each connection, nothing for each packet.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_set_retval};
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_ktime_get_ns};
use aya_ebpf::programs::SockAddrContext;
use carrack_ebpf_abi::{
    Address, AffinityEntry, AffinityKey, Backend, Counter, NO_BACKEND_ERRNO, ReverseKey, ReverseValue,
    Service, ServiceKey, Settings, SlotKey, backend_flags,
};

use crate::maps::{AFFINITY, BACKENDS, NODE_ADDRESSES, REVERSE, SERVICES, SETTINGS, SLOTS, count};
use crate::sock_addr::{self, Family};
use crate::{ALLOW, REFUSE, TCP};

const SECOND: u64 = 1_000_000_000;

/// Turns a call to a service's address into one to a back end; leaves other calls alone.
#[inline(always)]
pub fn translate<F: Family>(ctx: &SockAddrContext, protocol: u8, done: Counter) -> i32 {
    let wanted = ServiceKey { address: F::address(ctx), port: sock_addr::port(ctx), protocol, scope: 0 };
    let Some(service) = find_service(ctx, &wanted) else { return ALLOW };
    match connect_to_backend::<F>(ctx, &wanted, &service) {
        Ok(()) => {
            count(done);
            ALLOW
        }
        Err(reason) => {
            count(reason);
            // SAFETY: a plain helper call.
            unsafe { bpf_set_retval(-NO_BACKEND_ERRNO) };
            REFUSE
        }
    }
}

/// Turns the address of a back end into the one the socket asked for.
#[inline(always)]
pub fn restore<F: Family>(ctx: &SockAddrContext, counted: bool) -> i32 {
    let key = ReverseKey {
        cookie: socket_cookie(ctx),
        address: F::address(ctx),
        port: sock_addr::port(ctx),
        pad: [0; 3],
    };
    // SAFETY: the entry is copied at once.
    if let Some(asked) = unsafe { REVERSE.get(&key) }.copied() {
        F::set_address(ctx, &asked.address);
        sock_addr::set_port(ctx, asked.port);
        if counted {
            count(Counter::Restored);
        }
    }
    ALLOW
}

/// The service behind an address: an exact match, or a node port if the address is one of this node's.
#[inline(always)]
fn find_service(ctx: &SockAddrContext, wanted: &ServiceKey) -> Option<Service> {
    // SAFETY: the entry is copied at once.
    if let Some(service) = unsafe { SERVICES.get(wanted) } {
        return Some(*service);
    }
    let settings = SETTINGS.get(0)?;
    let port = u16::from_be(wanted.port);
    if port < settings.node_port_min || port > settings.node_port_max {
        return None;
    }
    if !is_node_address(ctx, settings, &wanted.address) {
        return None;
    }
    let wildcard = ServiceKey { address: wanted.address.wildcard(), ..*wanted };
    // SAFETY: as above.
    unsafe { SERVICES.get(&wildcard) }.copied()
}

/// Whether node ports answer on `address`: the node's addresses from anywhere, loopback from the host itself only.
#[inline(always)]
fn is_node_address(ctx: &SockAddrContext, settings: &Settings, address: &Address) -> bool {
    if is_loopback(address) {
        return netns_cookie(ctx) == settings.host_netns_cookie;
    }
    // SAFETY: only the presence of the entry counts.
    unsafe { NODE_ADDRESSES.get(address) }.is_some()
}

#[inline(always)]
fn is_loopback(address: &Address) -> bool {
    const V6_LOOPBACK: Address = Address(0, 0, 0, u32::from_ne_bytes([0, 0, 0, 1]));
    (address.is_v4() && address.3 & 0xff == 127) || *address == V6_LOOPBACK
}

/// Picks a back end, records what the socket asked for and rewrites the call. The error is what to count it as.
#[inline(always)]
fn connect_to_backend<F: Family>(
    ctx: &SockAddrContext,
    wanted: &ServiceKey,
    service: &Service,
) -> Result<(), Counter> {
    if service.count == 0 {
        return Err(Counter::NoBackend);
    }
    let cookie = socket_cookie(ctx);
    let backend = if service.affinity_seconds != 0 {
        backend_with_affinity(ctx, wanted, service, cookie)?
    } else {
        let id = pick_slot(wanted, service, cookie)?;
        backend_by_id(id)?
    };
    if !F::reaches(&wanted.address, &backend.address) {
        return Err(Counter::BackendMissing);
    }
    remember(cookie, wanted, &backend)?;
    F::set_address(ctx, &backend.address);
    sock_addr::set_port(ctx, backend.port);
    Ok(())
}

/// Any slot of the current generation. TCP connections are spread at random. A UDP socket keeps its slot while the slots
/// stay the same, so that what it sends with several calls goes to one place.
#[inline(always)]
fn pick_slot(wanted: &ServiceKey, service: &Service, cookie: u64) -> Result<u32, Counter> {
    let random = if wanted.protocol as u32 == TCP {
        // SAFETY: a plain helper call.
        unsafe { bpf_get_prandom_u32() }
    } else {
        // Fibonacci hashing: cookies are handed out in sequence.
        (cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    };
    let index = ((random as u64 * service.count as u64) >> 32) as u32;
    let key = SlotKey { service: service.id, generation: service.generation, index };
    // SAFETY: the entry is copied at once.
    unsafe { SLOTS.get(&key) }.copied().ok_or(Counter::SlotMissing)
}

#[inline(always)]
fn backend_by_id(id: u32) -> Result<Backend, Counter> {
    // SAFETY: the entry is copied at once.
    unsafe { BACKENDS.get(&id) }.copied().ok_or(Counter::BackendMissing)
}

/// The back end this client had within the last `affinity_seconds`, if it still takes connections; else any, kept from now.
#[inline(always)]
fn backend_with_affinity(
    ctx: &SockAddrContext,
    wanted: &ServiceKey,
    service: &Service,
    cookie: u64,
) -> Result<Backend, Counter> {
    let client = netns_cookie(ctx);
    let key =
        AffinityKey { service: service.id, kind: 0, client: [client as u32, (client >> 32) as u32, 0, 0] };
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the entry is copied at once.
    let kept = unsafe { AFFINITY.get(&key) }.copied();
    let fresh = kept.filter(|e| now.wrapping_sub(e.last_used) < service.affinity_seconds as u64 * SECOND);
    if let Some(entry) = fresh
        && let Ok(backend) = backend_by_id(entry.backend)
        && backend.flags & backend_flags::DRAINING == 0
    {
        let _ = AFFINITY.insert(&key, &AffinityEntry { last_used: now, ..entry }, 0);
        count(Counter::AffinityHit);
        return Ok(backend);
    }
    let id = pick_slot(wanted, service, cookie)?;
    let backend = backend_by_id(id)?;
    let _ = AFFINITY.insert(&key, &AffinityEntry { last_used: now, backend: id, pad: 0 }, 0);
    Ok(backend)
}

/// Records what the socket asked for, unless that is there already: an unconnected socket sends often.
///
/// A socket that speaks to a service and also, by its own address, to the very back end it got there sees all answers come from
/// the service: the two cannot be told apart.
#[inline(always)]
fn remember(cookie: u64, wanted: &ServiceKey, backend: &Backend) -> Result<(), Counter> {
    let key = ReverseKey { cookie, address: backend.address, port: backend.port, pad: [0; 3] };
    let value = ReverseValue { address: wanted.address, port: wanted.port, pad: 0 };
    // SAFETY: compared at once.
    if let Some(known) = unsafe { REVERSE.get(&key) }
        && *known == value
    {
        return Ok(());
    }
    REVERSE.insert(&key, &value, 0).map_err(|_| Counter::ReverseFull)
}

#[inline(always)]
fn socket_cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the context is valid while the program runs.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

#[inline(always)]
fn netns_cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: as above.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}
