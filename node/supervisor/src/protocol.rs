//! The protocol on a supervisor's socket: frames of a little-endian `u32` length and that much JSON. Descriptors travel
//! with the first byte of the frame that names them. The server speaks first, with [`ServerMessage::Hello`].
//!
//! An agent may be newer than the supervisors it finds: fields are only ever added, with defaults; a change that is
//! more than that raises [`VERSION`].

use crate::types::{ContainerSpec, ContainerState, Event, ExecSpec, StartFailure, Started};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Version of the protocol.
pub(crate) const VERSION: u32 = 1;
/// Largest frame. Container specs are the largest messages; Kubernetes objects are bounded by 3 MB.
pub(crate) const MAX_FRAME: usize = 4 << 20;
/// Most descriptors that come with a frame.
pub(crate) const MAX_FDS: usize = 4;

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Protocol version of the sender.
    pub(crate) v: u32,
    /// Chosen by the sender; the reply carries it.
    pub(crate) id: u64,
    pub(crate) op: Op,
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    Start(Box<ContainerSpec>),
    Kill { container: String, signal: i32 },
    List,
    Exec { container: String, exec: ExecSpec },
    Attach { container: String },
    ReopenLog { container: String },
    Remove { container: String },
    Shutdown,
}

/// From the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServerMessage {
    Hello {
        version: u32,
        pid: u32,
    },
    Reply {
        id: u64,
        /// What the descriptors that come along are, in order.
        fds: Vec<FdRole>,
        body: Reply,
    },
    Event(Event),
    /// The process that request `id` started has ended.
    ExecExited {
        id: u64,
        exit_code: i32,
    },
}

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FdRole {
    Stdin,
    Stdout,
    Stderr,
    Tty,
}

/// The answer to a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Done,
    Started(Started),
    Containers(Vec<ContainerState>),
    Exec { pid: u32 },
    Attached,
    StartFailed(StartFailure),
    NotFound(String),
    Refused(String),
}

/// A message as a frame.
pub(crate) fn encode(message: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "message too large"));
    }
    frame[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    Ok(frame)
}

/// Takes the first frame out of `buffer`, if it is there completely.
pub(crate) fn take_frame(buffer: &mut Vec<u8>) -> std::io::Result<Option<Vec<u8>>> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length > MAX_FRAME {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "frame too large"));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let rest = buffer.split_off(4 + length);
    let mut frame = std::mem::replace(buffer, rest);
    frame.drain(..4);
    Ok(Some(frame))
}

/// Names of the files in a pod's run directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout(pub(crate) PathBuf);

impl Layout {
    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
    pub(crate) fn pid(&self) -> PathBuf {
        self.0.join("pid")
    }
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }
    pub(crate) fn exits(&self) -> PathBuf {
        self.0.join("exits")
    }
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

/// A name for a socket that fits into a socket address (108 bytes) however long the directory's own name is: relative
/// to `/proc/self/fd`. `dir` must stay open while it is used.
pub(crate) fn short_socket_name(dir: &std::fs::File) -> PathBuf {
    use std::os::fd::AsRawFd;
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join("socket")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut buffer = Vec::new();
        for id in 0..3 {
            buffer.extend(encode(&Request { v: VERSION, id, op: Op::List }).unwrap());
        }
        let mut partial = Vec::new();
        let mut seen = Vec::new();
        for byte in buffer {
            partial.push(byte);
            if let Some(frame) = take_frame(&mut partial).unwrap() {
                seen.push(serde_json::from_slice::<Request>(&frame).unwrap().id);
            }
        }
        assert_eq!(seen, [0, 1, 2]);
        assert!(partial.is_empty());
    }

    #[test]
    fn a_giant_frame_is_refused_before_it_is_read() {
        let mut buffer = u32::MAX.to_le_bytes().to_vec();
        assert!(take_frame(&mut buffer).is_err());
    }
}
