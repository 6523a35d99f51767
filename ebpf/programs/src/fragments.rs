//! Fragments: only the first has ports. It leaves the address its datagram is translated to for those that follow.

use carrack_ebpf_abi::FragmentKey;

use crate::maps::FRAGMENTS;
use crate::packet::Ipv4;

#[inline(always)]
fn key(ip: &Ipv4, direction: u8) -> FragmentKey {
    FragmentKey {
        source: ip.source,
        destination: ip.destination,
        id: ip.id,
        protocol: ip.protocol,
        direction,
    }
}

/// Leaves `address` for the later fragments, if this is the first of several.
#[inline(always)]
pub fn leave(ip: &Ipv4, direction: u8, address: u32) {
    if ip.is_first_fragment() {
        let _ = FRAGMENTS.insert(&key(ip, direction), &address, 0);
    }
}

/// The address the first fragment left.
#[inline(always)]
pub fn find(ip: &Ipv4, direction: u8) -> Option<u32> {
    // SAFETY: the entry is copied at once.
    unsafe { FRAGMENTS.get(&key(ip, direction)) }.copied()
}
