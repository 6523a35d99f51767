//! The kernel side of Carrack's network: services at the socket, masquerade at the uplink.
//!
//! Built by `cargo xtask ebpf`. Rules that keep the verifier content and the object free of panics: no slicing, no
//! indexing by a value, no division by a value (multiply and shift instead), loops with constant bounds.
#![no_std]
#![no_main]

mod fragments;
mod icmp;
mod maps;
mod masquerade;
mod nat;
mod packet;
mod services;
mod sock_addr;

use aya_ebpf::macros::{cgroup_sock_addr, classifier};
use aya_ebpf::programs::{SockAddrContext, TcContext};
use carrack_ebpf_abi::Counter;
use services::{restore, translate};
use sock_addr::{V4, V6};

const TCP: u32 = 6;
const UDP: u32 = 17;
/// A cgroup hook's answer: let the call go on.
const ALLOW: i32 = 1;
/// A cgroup hook's answer: fail the call, with the error set by `bpf_set_retval`.
const REFUSE: i32 = 0;

/// What a connect of `protocol` counts as; `None` for protocols without services.
#[inline(always)]
fn connect_counter(ctx: &SockAddrContext) -> Option<(u8, Counter)> {
    match sock_addr::protocol(ctx) {
        TCP => Some((TCP as u8, Counter::TcpConnect)),
        UDP => Some((UDP as u8, Counter::UdpConnect)),
        _ => None,
    }
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    connect_counter(&ctx).map_or(ALLOW, |(protocol, counter)| translate::<V4>(&ctx, protocol, counter))
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    connect_counter(&ctx).map_or(ALLOW, |(protocol, counter)| translate::<V6>(&ctx, protocol, counter))
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    translate::<V4>(&ctx, UDP as u8, Counter::UdpSend)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    translate::<V6>(&ctx, UDP as u8, Counter::UdpSend)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    restore::<V4>(&ctx, true)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    restore::<V6>(&ctx, true)
}

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    restore::<V4>(&ctx, false)
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    restore::<V6>(&ctx, false)
}

#[classifier]
pub fn masquerade_out(ctx: TcContext) -> i32 {
    masquerade::verdict(masquerade::egress(&ctx))
}

#[classifier]
pub fn masquerade_in(ctx: TcContext) -> i32 {
    masquerade::verdict(masquerade::ingress(&ctx))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Helpers such as `bpf_set_retval` are for programs under the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
