//! The netlink messages about an interface's `clsact` queueing discipline and the filters of ours that hang on it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use crate::link::netlink::{Netlink, Request};

/// The kind of discipline that has filters for both directions; it queues nothing.
const CLSACT: &str = "clsact";
/// Our filters' place among those of a direction, and their handle there: lower numbers come first, and where nobody says
/// a number the kernel begins at 49152.
const PRIORITY: u16 = 51_777;
const HANDLE: TcHandle = TcHandle { major: 0, minor: 1 };
/// `ETH_P_ALL`: packets of every protocol.
const ALL_PROTOCOLS: u16 = 3;

/// Which packets of an interface a filter sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

/// Both.
pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

impl Direction {
    fn parent(self) -> TcHandle {
        let minor = match self {
            Direction::Ingress => TcHandle::MIN_INGRESS,
            Direction::Egress => TcHandle::MIN_EGRESS,
        };
        TcHandle { major: u16::MAX, minor }
    }
}

/// Makes the discipline; whether it had to be made.
pub(crate) fn ensure(netlink: &mut Netlink, index: u32) -> io::Result<bool> {
    let make = Request::create(RouteNetlinkMessage::NewQueueDiscipline(discipline(index)?));
    match netlink.one(make) {
        Ok(_) => return Ok(true),
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        Err(_) => {}
    }
    // The older kind `ingress` sits in the same place, and would take filters of both directions for arriving packets.
    let look = Request::echo(RouteNetlinkMessage::GetQueueDiscipline(discipline(index)?));
    let found = netlink.one(look)?;
    let is_clsact = |message: &RouteNetlinkMessage| matches!(message, RouteNetlinkMessage::NewQueueDiscipline(tc) if kind(tc) == Some(CLSACT));
    if found.iter().any(is_clsact) {
        return Ok(false);
    }
    Err(io::Error::other(
        "another queueing discipline is in the place of clsact: remove it with `tc qdisc del dev <uplink> ingress`, \
         or use a kernel of 6.6 or newer, which needs none",
    ))
}

/// Removes the discipline, unless somebody has a filter there.
pub(crate) fn remove_if_empty(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    for direction in DIRECTIONS {
        match netlink.dump(RouteNetlinkMessage::GetTrafficFilter(message(index, direction.parent())?)) {
            Ok(filters) if filters.is_empty() => {}
            Ok(_) => return Ok(()),
            // A filter of somebody's that can not be read is one.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    let remove = RouteNetlinkMessage::DelQueueDiscipline(discipline(index)?);
    absent_is_fine(netlink.one(Request::plain(remove)).map(drop))
}

/// Hangs a program up, in the place of one of ours that is there: no packet passes between the two.
pub(crate) fn put_filter(
    netlink: &mut Netlink,
    index: u32,
    direction: Direction,
    name: &str,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    if let Some(other) = filter_name(netlink, index, direction)?.filter(|found| found != name) {
        return Err(io::Error::other(format!("a filter {other:?} of somebody else has priority {PRIORITY}")));
    }
    let mut message = filter(index, direction)?;
    let fd = u32::try_from(program.as_raw_fd()).map_err(io::Error::other)?;
    let options = [
        TcFilterBpfOption::ProgFd(fd),
        TcFilterBpfOption::ProgName(name.to_owned()),
        // What the program answers is what happens to the packet.
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    message.attributes.push(TcAttribute::Options(options.map(TcOption::Bpf).to_vec()));
    netlink.one(Request::replace(RouteNetlinkMessage::NewTrafficFilter(message))).map(drop)
}

/// Takes a filter of ours away; fine if there is none.
pub(crate) fn remove_filter(
    netlink: &mut Netlink,
    index: u32,
    direction: Direction,
    name: &str,
) -> io::Result<()> {
    if filter_name(netlink, index, direction)?.as_deref() != Some(name) {
        return Ok(());
    }
    let remove = RouteNetlinkMessage::DelTrafficFilter(filter(index, direction)?);
    absent_is_fine(netlink.one(Request::plain(remove)).map(drop))
}

/// The name of the filter in our place, if one is there.
pub(crate) fn filter_name(
    netlink: &mut Netlink,
    index: u32,
    direction: Direction,
) -> io::Result<Option<String>> {
    let look = Request::plain(RouteNetlinkMessage::GetTrafficFilter(filter(index, direction)?));
    match netlink.one(look) {
        Ok(found) => Ok(found.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewTrafficFilter(tc) => Some(program_name(tc)),
            _ => None,
        })),
        Err(error) => absent_is_fine(Err(error)).map(|()| None),
    }
}

/// The kernel says ENOENT where it misses a filter or discipline, EINVAL where it misses what that would hang on.
fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Err(error),
        _ => Ok(()),
    }
}

fn message(index: u32, parent: TcHandle) -> io::Result<TcMessage> {
    let mut message = TcMessage::with_index(i32::try_from(index).map_err(io::Error::other)?);
    message.header.parent = parent;
    Ok(message)
}

fn discipline(index: u32) -> io::Result<TcMessage> {
    let mut message = message(index, TcHandle::CLSACT)?;
    message.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    message.attributes.push(TcAttribute::Kind(CLSACT.to_owned()));
    Ok(message)
}

/// The filter in our place.
fn filter(index: u32, direction: Direction) -> io::Result<TcMessage> {
    let mut message = message(index, direction.parent())?;
    message.header.handle = HANDLE;
    message.header.info = u32::from(PRIORITY) << 16 | u32::from(ALL_PROTOCOLS.to_be());
    message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    Ok(message)
}

fn kind(message: &TcMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    })
}

/// The name that a filter's program was given; empty for filters without a program.
fn program_name(message: &TcMessage) -> String {
    let options = message.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let mut names = options.flatten().filter_map(|option| match option {
        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => Some(name.clone()),
        _ => None,
    });
    names.next().unwrap_or_default()
}
