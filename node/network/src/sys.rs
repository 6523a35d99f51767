//! The system calls that no crate wraps: bpf(2) on pinned links, and the cookie of a network namespace.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_OBJ_GET: i32 = 7;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
const BPF_LINK_UPDATE: i32 = 29;
const BPF_LINK_TYPE_CGROUP: u32 = 3;
const BPF_LINK_TYPE_TCX: u32 = 11;
/// `SO_NETNS_COOKIE` of asm-generic/socket.h.
const SO_NETNS_COOKIE: i32 = 71;

/// What a BPF link is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkTarget {
    /// A cgroup by its id, which is its directory's inode number; 0 once it is removed.
    Cgroup(u64),
    /// tcx on an interface by index; 0 once it is removed.
    Tcx(u32),
    /// Some other kind of link.
    Other,
}

fn bpf<T>(command: i32, attributes: &mut T) -> io::Result<i64> {
    // SAFETY: `attributes` is a live, writable `repr(C)` value of the size given, and the pointers it holds are to memory
    // that outlives the call; the kernel checks everything else.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), std::mem::size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Opens the BPF object pinned at `path`.
pub(crate) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = bpf(BPF_OBJ_GET, &mut Attributes { path: path.as_ptr() as u64, fd: 0, flags: 0 })?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Replaces the program of a link in place: no packet or call meets the hook without a program.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        link: i32,
        program: i32,
        flags: u32,
        old_program: u32,
    }
    let (link, program) = (link.as_raw_fd(), program.as_raw_fd());
    bpf(BPF_LINK_UPDATE, &mut Attributes { link, program, flags: 0, old_program: 0 }).map(drop)
}

/// What a link is attached to.
pub(crate) fn link_target(link: BorrowedFd<'_>) -> io::Result<LinkTarget> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        pad: u32,
        /// The cgroup's id, or the interface's index in the first half.
        target: [u32; 2],
        rest: [u64; 5],
    }
    #[repr(C)]
    struct Attributes {
        fd: i32,
        length: u32,
        info: u64,
    }
    let mut info = Info::default();
    let length = u32::try_from(std::mem::size_of::<Info>()).map_err(io::Error::other)?;
    let pointer = std::ptr::from_mut(&mut info) as u64;
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut Attributes { fd: link.as_raw_fd(), length, info: pointer })?;
    let [first, second] = info.target;
    Ok(match info.kind {
        BPF_LINK_TYPE_CGROUP => LinkTarget::Cgroup(u64::from(second) << 32 | u64::from(first)),
        BPF_LINK_TYPE_TCX => LinkTarget::Tcx(first),
        _ => LinkTarget::Other,
    })
}

/// The cookie of the network namespace a socket is in, as `bpf_get_netns_cookie` sees it.
pub(crate) fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(std::mem::size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: the pointers are to live values of the sizes given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}
