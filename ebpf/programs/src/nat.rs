//! The table of masqueraded flows.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use carrack_ebpf_abi::{Counter, NatEntry, NatTuple, Settings, direction};

use crate::maps::{NAT, count};

/// How many ports are tried before a flow is given up. With nine in ten ports taken, one flow in 29 million fails.
const ATTEMPTS: u32 = 32;
/// How often, in nanoseconds, a flow in use looks after its entry for the other direction.
const REFRESH: u64 = 1_000_000_000;

/// The same flow as the other side sees it: `tuple` with its ends exchanged.
#[inline(always)]
fn flipped(tuple: &NatTuple, direction: u8) -> NatTuple {
    NatTuple {
        source: tuple.destination,
        destination: tuple.source,
        source_port: tuple.destination_port,
        destination_port: tuple.source_port,
        direction,
        ..*tuple
    }
}

/// The entry under which answers to `out` arrive, if its source is masqueraded as `address` and `port`.
#[inline(always)]
fn answer_to(out: &NatTuple, address: u32, port: u16) -> NatTuple {
    NatTuple { destination: address, destination_port: port, ..flipped(out, direction::IN) }
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a plain helper call.
    unsafe { bpf_ktime_get_ns() }
}

/// What an outgoing flow's source becomes: as before, or newly claimed.
#[inline(always)]
pub fn outgoing(out: &NatTuple, settings: &Settings) -> Result<NatEntry, Counter> {
    let Some(entry) = NAT.get_ptr_mut(out) else { return claim(out, settings) };
    // SAFETY: elements of an LRU map stay readable while the program runs; the worst a race does is a second refresh.
    let known = unsafe { *entry };
    let now = now();
    if known.address != out.source && now.wrapping_sub(known.refreshed) > REFRESH {
        let back = NatEntry { refreshed: now, address: out.source, port: out.source_port, pad: 0 };
        repair(&answer_to(out, known.address, known.port), &back);
        // SAFETY: as above.
        unsafe { (*entry).refreshed = now };
    }
    Ok(known)
}

/// The entry of a tuple, if there is one.
#[inline(always)]
pub fn known(tuple: &NatTuple) -> Option<NatEntry> {
    // SAFETY: the entry is copied at once.
    unsafe { NAT.get(tuple) }.copied()
}

/// What the destination of an arriving packet becomes; `None` if it belongs to no masqueraded flow.
#[inline(always)]
pub fn incoming(arrived: &NatTuple) -> Option<NatEntry> {
    let entry = NAT.get_ptr_mut(arrived)?;
    // SAFETY: as in `outgoing`.
    let known = unsafe { *entry };
    let now = now();
    if now.wrapping_sub(known.refreshed) > REFRESH {
        let out =
            NatTuple { source: known.address, source_port: known.port, ..flipped(arrived, direction::OUT) };
        let forth =
            NatEntry { refreshed: now, address: arrived.destination, port: arrived.destination_port, pad: 0 };
        repair(&out, &forth);
        // SAFETY: as above.
        unsafe { (*entry).refreshed = now };
    }
    Some(known)
}

/// Remembers that a flow to a pod began outside, so that the pod's answers keep their source.
#[inline(always)]
pub fn began_outside(arrived: &NatTuple) {
    let out = flipped(arrived, direction::OUT);
    // SAFETY: only the presence of the entry counts.
    if unsafe { NAT.get(&out) }.is_none() {
        let same = NatEntry { refreshed: now(), address: out.source, port: out.source_port, pad: 0 };
        let _ = NAT.insert(&out, &same, BPF_NOEXIST as u64);
    }
}

/// Puts an entry back that the LRU evicted. Looking it up keeps it from being evicted.
#[inline(always)]
fn repair(key: &NatTuple, entry: &NatEntry) {
    // SAFETY: only the presence of the entry counts.
    if unsafe { NAT.get(key) }.is_none() && NAT.insert(key, entry, BPF_NOEXIST as u64).is_ok() {
        count(Counter::NatRepaired);
    }
}

/// Claims a port for a new flow. Creating the incoming entry is the claim: of two processors one fails.
///
/// The first port tried follows from the flow, so that a flow whose outgoing entry was evicted finds its incoming one.
#[inline(always)]
fn claim(out: &NatTuple, settings: &Settings) -> Result<NatEntry, Counter> {
    let back = NatEntry { refreshed: now(), address: out.source, port: out.source_port, pad: 0 };
    let mut port = in_range(hash(out), settings);
    for _ in 0..ATTEMPTS {
        let forth = NatEntry { address: settings.node_address, port: port.to_be(), ..back };
        let answer = answer_to(out, forth.address, forth.port);
        if NAT.insert(&answer, &back, BPF_NOEXIST as u64).is_ok() || is_ours(&answer, &back) {
            return Ok(settle(out, forth, &answer));
        }
        count(Counter::NatPortTaken);
        // SAFETY: a plain helper call.
        port = in_range(unsafe { bpf_get_prandom_u32() }, settings);
    }
    Err(Counter::NatExhausted)
}

#[inline(always)]
fn is_ours(answer: &NatTuple, back: &NatEntry) -> bool {
    // SAFETY: compared at once.
    unsafe { NAT.get(answer) }.is_some_and(|held| held.address == back.address && held.port == back.port)
}

/// Completes a claim, unless another processor has mapped the same flow in the meantime: then its choice stands.
#[inline(always)]
fn settle(out: &NatTuple, forth: NatEntry, answer: &NatTuple) -> NatEntry {
    if NAT.insert(out, &forth, BPF_NOEXIST as u64).is_ok() {
        count(Counter::NatFlow);
        return forth;
    }
    // SAFETY: the entry is copied at once.
    match unsafe { NAT.get(out) }.copied() {
        Some(theirs) => {
            if theirs.port != forth.port {
                let _ = NAT.remove(answer);
            }
            theirs
        }
        None => forth,
    }
}

/// Maps 32 random bits to a port of the range, by multiplication: a division could panic.
#[inline(always)]
fn in_range(random: u32, settings: &Settings) -> u16 {
    let span = settings.nat_port_max.wrapping_sub(settings.nat_port_min) as u64 + 1;
    settings.nat_port_min.wrapping_add(((random as u64 * span) >> 32) as u16)
}

#[inline(always)]
fn hash(tuple: &NatTuple) -> u32 {
    let ends = ((tuple.source as u64) << 32) | tuple.destination as u64;
    let ports =
        ((tuple.source_port as u64) << 32) | ((tuple.destination_port as u64) << 8) | tuple.protocol as u64;
    let mixed = (ends ^ ports.wrapping_mul(0xff51_afd7_ed55_8ccd)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}
