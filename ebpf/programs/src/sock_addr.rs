//! The two address families of the socket hooks behind one trait. An IPv4 address in an IPv6 socket is the same
//! [`Address`] as in an IPv4 socket, so that both meet the same services.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::programs::SockAddrContext;
use carrack_ebpf_abi::Address;

/// How a hook's context holds an address. Every access is volatile and of one word: the verifier takes only accesses at
/// constant offsets, and must not see two merged into one.
pub trait Family {
    /// The address the call is about.
    fn address(ctx: &SockAddrContext) -> Address;
    /// Replaces it.
    fn set_address(ctx: &SockAddrContext, address: &Address);
    /// Whether a socket of this family that named `from` can be led to `to`.
    fn reaches(from: &Address, to: &Address) -> bool;
}

/// Sockets of AF_INET.
pub struct V4;
/// Sockets of AF_INET6, to IPv6 or to mapped IPv4 addresses.
pub struct V6;

impl Family for V4 {
    #[inline(always)]
    fn address(ctx: &SockAddrContext) -> Address {
        // SAFETY: the context is valid while the program runs.
        Address::v4(unsafe { read_volatile(&raw const (*ctx.sock_addr).user_ip4) })
    }

    #[inline(always)]
    fn set_address(ctx: &SockAddrContext, address: &Address) {
        // SAFETY: as above; the field may be written at every hook this is used from.
        unsafe { write_volatile(&raw mut (*ctx.sock_addr).user_ip4, address.3) }
    }

    #[inline(always)]
    fn reaches(_from: &Address, to: &Address) -> bool {
        to.is_v4()
    }
}

impl Family for V6 {
    #[inline(always)]
    fn address(ctx: &SockAddrContext) -> Address {
        let words = ctx.sock_addr;
        // SAFETY: as above.
        unsafe {
            Address(
                read_volatile(&raw const (*words).user_ip6[0]),
                read_volatile(&raw const (*words).user_ip6[1]),
                read_volatile(&raw const (*words).user_ip6[2]),
                read_volatile(&raw const (*words).user_ip6[3]),
            )
        }
    }

    #[inline(always)]
    fn set_address(ctx: &SockAddrContext, address: &Address) {
        let words = ctx.sock_addr;
        // SAFETY: as above.
        unsafe {
            write_volatile(&raw mut (*words).user_ip6[0], address.0);
            write_volatile(&raw mut (*words).user_ip6[1], address.1);
            write_volatile(&raw mut (*words).user_ip6[2], address.2);
            write_volatile(&raw mut (*words).user_ip6[3], address.3);
        }
    }

    #[inline(always)]
    fn reaches(from: &Address, to: &Address) -> bool {
        from.is_v4() == to.is_v4()
    }
}

/// The port the call is about, network order.
#[inline(always)]
pub fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: the context is valid while the program runs.
    unsafe { read_volatile(&raw const (*ctx.sock_addr).user_port) as u16 }
}

/// Replaces the port, network order.
#[inline(always)]
pub fn set_port(ctx: &SockAddrContext, port: u16) {
    // SAFETY: as above.
    unsafe { write_volatile(&raw mut (*ctx.sock_addr).user_port, port as u32) }
}

/// The socket's IP protocol.
#[inline(always)]
pub fn protocol(ctx: &SockAddrContext) -> u32 {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const (*ctx.sock_addr).protocol) }
}
