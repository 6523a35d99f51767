//! What `cargo xtask fuzz` feeds to this package, and where it begins.

#![allow(clippy::expect_used, clippy::panic, reason = "whatever is wrong is to be seen")]

use crate::daemon::fuzzing::{output, outputs};
use crate::protocol::{Op, Request, ServerMessage, VERSION, encode, take_frame};
use crate::types::ExitRecord;

/// A name, a function that takes anything and never panics, and what it is fed first.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of this package's.
pub const TARGETS: &[Target] =
    &[("supervisor-frames", frames, frame_seeds), ("supervisor-output", output, outputs)];

fn frame_seeds() -> Vec<Vec<u8>> {
    let kill = Op::Kill { container: "c".to_owned(), signal: 15 };
    let requests = [Op::List, kill].map(|op| encode(&Request { v: VERSION, id: 7, op }));
    let hello = encode(&ServerMessage::Hello { version: VERSION, pid: 1 });
    requests.into_iter().chain([hello]).map(|frame| frame.expect("it is small")).collect()
}

/// Frames in either direction, and records of exits. What is read can be written, and is the same again.
fn frames(data: &[u8]) {
    let mut buffer = data.to_vec();
    while let Ok(Some(frame)) = take_frame(&mut buffer) {
        if let Ok(request) = serde_json::from_slice::<Request>(&frame) {
            let mut again = encode(&request).expect("it was in a frame");
            let again = take_frame(&mut again).expect("a frame").expect("the whole of it");
            let again: Request = serde_json::from_slice(&again).expect("the same request");
            assert_eq!(format!("{request:?}"), format!("{again:?}"));
        }
        let _ = serde_json::from_slice::<ServerMessage>(&frame);
    }
    let _ = serde_json::from_slice::<ExitRecord>(data);
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn nothing_that_once_went_wrong_does_so_again() {
    replay::replay("supervisor", TARGETS);
}
