//! Alarms: conditions that an operator has to look at, and that are kept until then.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An alarm of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alarm {
    /// The member that raised it.
    pub member: u64,
    /// What is wrong.
    pub kind: AlarmKind,
}

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmKind {
    /// The quota is used up, or the disk is full: puts are refused, everything else goes on.
    NoSpace,
    /// Members differ: nothing is written.
    Corrupt,
}

impl AlarmKind {
    /// The number that stands for it, in the log and in etcd's protocol.
    pub fn code(self) -> u8 {
        match self {
            AlarmKind::NoSpace => 1,
            AlarmKind::Corrupt => 2,
        }
    }

    /// What a number stands for.
    pub fn from_code(code: u8) -> Option<AlarmKind> {
        [AlarmKind::NoSpace, AlarmKind::Corrupt].into_iter().find(|kind| kind.code() == code)
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        };
        write!(f, "memberID:{} alarm:{kind}", self.member)
    }
}
