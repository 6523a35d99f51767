//! Which devices a control group of version 2 may use: a small eBPF program that the kernel asks at each open.
#![allow(unsafe_code)]

use crate::sys;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Access to devices of a class: the rules of `devices.allow` in version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// A block device; otherwise a character device.
    pub block: bool,
    /// Major number, any when absent.
    pub major: Option<u32>,
    /// Minor number, any when absent.
    pub minor: Option<u32>,
    /// Making nodes only; otherwise also reading and writing.
    pub mknod_only: bool,
}

const fn character(major: u32, minor: Option<u32>) -> DeviceRule {
    DeviceRule { block: false, major: Some(major), minor, mknod_only: false }
}

/// What an unprivileged container may use: making any node, and the devices that every container has.
pub const CONTAINER_DEVICES: [DeviceRule; 11] = [
    DeviceRule { block: false, major: None, minor: None, mknod_only: true },
    DeviceRule { block: true, major: None, minor: None, mknod_only: true },
    character(1, Some(3)),
    character(1, Some(5)),
    character(1, Some(7)),
    character(1, Some(8)),
    character(1, Some(9)),
    character(5, Some(0)),
    character(5, Some(1)),
    character(5, Some(2)),
    // Terminals of /dev/pts.
    character(136, None),
];

/// One eBPF instruction: operation, registers (source << 4 | destination), offset, immediate.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    op: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

fn instruction(op: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { op, registers: source << 4 | destination, offset, immediate }
}

/// The program: register 1 points at `struct bpf_cgroup_dev_ctx { access_type, major, minor }`, where the low half of
/// `access_type` is the class (1 block, 2 character) and the high half what is wanted (1 mknod, 2 read, 4 write).
/// It answers 1 for yes.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let mut tests = vec![(2, if rule.block { 1 } else { 2 })];
        if rule.mknod_only {
            tests.push((3, 1));
        }
        tests.extend(rule.major.map(|major| (4, major as i32)));
        tests.extend(rule.minor.map(|minor| (5, minor as i32)));
        // A test that fails skips the tests left and the two instructions of "yes".
        let count = tests.len();
        for (position, (register, value)) in tests.into_iter().enumerate() {
            let skipped = i16::try_from(count - position - 1 + 2).unwrap_or(i16::MAX);
            code.push(instruction(JUMP_NOT_EQUAL, register, 0, skipped, value));
        }
        code.push(instruction(MOVE, 0, 0, 0, 1));
        code.push(instruction(EXIT, 0, 0, 0, 0));
    }
    code.push(instruction(MOVE, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

/// Lets processes of the control group `cgroup` (a directory of the version 2 tree) use only the devices of `rules`,
/// unless such a program is there already. Programs of parents are asked too, and all must say yes.
pub fn restrict(cgroup: impl AsFd, rules: &[DeviceRule]) -> std::io::Result<()> {
    let cgroup = cgroup.as_fd().as_raw_fd();
    if attached(cgroup)? {
        return Ok(());
    }
    let program = load(&program(rules))?;
    let mut attr = Attr::default();
    attr.u32(0, cgroup as u32)
        .u32(4, program.as_raw_fd() as u32)
        .u32(8, BPF_CGROUP_DEVICE)
        .u32(12, BPF_F_ALLOW_MULTI);
    sys::bpf(BPF_PROG_ATTACH, &mut attr.0[..20])?;
    Ok(())
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_QUERY: i32 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// `union bpf_attr`, written by offset as in linux/bpf.h.
struct Attr([u8; 48]);

impl Default for Attr {
    fn default() -> Self {
        Self([0; 48])
    }
}

impl Attr {
    fn u32(&mut self, offset: usize, value: u32) -> &mut Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }
    fn pointer<T>(&mut self, offset: usize, value: *const T) -> &mut Self {
        self.0[offset..offset + 8].copy_from_slice(&(value as u64).to_ne_bytes());
        self
    }
}

fn load(code: &[Instruction]) -> Result<OwnedFd, Errno> {
    let mut attr = Attr::default();
    attr.u32(0, BPF_PROG_TYPE_CGROUP_DEVICE)
        .u32(4, u32::try_from(code.len()).unwrap_or(u32::MAX))
        .pointer(8, code.as_ptr())
        .pointer(16, c"Apache-2.0".as_ptr());
    let fd = sys::bpf(BPF_PROG_LOAD, &mut attr.0)?;
    // SAFETY: the kernel returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(|_| Errno::BADF)?) })
}

/// Whether a device program sits on this very control group.
fn attached(cgroup: i32) -> Result<bool, Errno> {
    let mut attr = Attr::default();
    attr.u32(0, cgroup as u32).u32(4, BPF_CGROUP_DEVICE);
    // With no room for ids the kernel still counts; it says ENOSPC when there are some.
    match sys::bpf(BPF_PROG_QUERY, &mut attr.0[..32]) {
        Ok(_) => Ok(u32::from_ne_bytes([attr.0[24], attr.0[25], attr.0[26], attr.0[27]]) > 0),
        Err(Errno::NOSPC) => Ok(true),
        Err(errno) => Err(errno),
    }
}
