//! The channel protocols: each message is a channel's number and what goes to or comes from it.
//!
//! As in Kubernetes' `remotecommand` and `wsstream` packages. The versions differ in how the end is told: from v4 on as a
//! Status object on the error channel; before, only an error, as text. v5 lets the client close its input.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::Message;

/// The client's input.
pub(super) const STDIN: u8 = 0;
/// The process's output, or its terminal's.
pub(super) const STDOUT: u8 = 1;
/// The process's other output.
pub(super) const STDERR: u8 = 2;
/// How it ended.
pub(super) const ERROR: u8 = 3;
/// New sizes of the client's terminal.
pub(super) const RESIZE: u8 = 4;
/// Not a channel: says that the one that is named next is closed.
const CLOSE: u8 = 255;

/// One version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Protocol {
    /// Messages are text: the channel as a digit, and base64.
    is_base64: bool,
    /// The end is told as a Status object.
    pub(super) has_status: bool,
    /// The client can close its input.
    has_close: bool,
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum Said {
    Input(Bytes),
    CloseInput,
    Resize(u16, u16),
    /// Something without a meaning here; ignored, as upstream does.
    Nothing,
}

impl Protocol {
    /// What clients mean that name no protocol.
    pub(super) const UNNAMED: Protocol = Protocol { is_base64: false, has_status: false, has_close: false };

    /// All names that are known.
    pub(in crate::http) const NAMES: [&str; 5] = [
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "channel.k8s.io",
        "base64.channel.k8s.io",
    ];

    /// The protocol of a name.
    pub(in crate::http) fn named(name: &str) -> Option<Protocol> {
        let (is_base64, has_status, has_close) = match name {
            "v5.channel.k8s.io" => (false, true, true),
            "v4.channel.k8s.io" => (false, true, false),
            "v4.base64.channel.k8s.io" => (true, true, false),
            "channel.k8s.io" => (false, false, false),
            "base64.channel.k8s.io" => (true, false, false),
            _ => return None,
        };
        Some(Protocol { is_base64, has_status, has_close })
    }

    /// A message to the client.
    pub(super) fn message(self, channel: u8, data: &[u8]) -> Message {
        if self.is_base64 {
            return Message::text(format!("{channel}{}", STANDARD.encode(data)));
        }
        let mut bytes = BytesMut::with_capacity(data.len() + 1);
        bytes.put_u8(channel);
        bytes.put_slice(data);
        Message::binary(bytes)
    }

    /// The channel of a client's message and what goes to it. `Err` if it does not follow the protocol.
    pub(super) fn parts(self, message: Message) -> Result<Option<(u8, Bytes)>, String> {
        match message {
            Message::Text(text) if self.is_base64 => {
                let bytes = Bytes::from(text);
                let Some((digit, data)) = bytes.split_first() else { return Ok(None) };
                let data =
                    STANDARD.decode(data).map_err(|error| format!("a message is not base64: {error}"))?;
                Ok(Some((digit.wrapping_sub(b'0'), Bytes::from(data))))
            }
            // Some clients send what a person typed as text.
            Message::Binary(_) | Message::Text(_) => {
                let bytes = message.into_data();
                Ok((!bytes.is_empty()).then(|| (bytes[0], bytes.slice(1..))))
            }
            // Answered by the library.
            _ => Ok(None),
        }
    }

    /// Reads a message of the client. `Err` if it does not follow the protocol.
    pub(in crate::http) fn read(self, message: Message) -> Result<Said, String> {
        let Some((channel, data)) = self.parts(message)? else { return Ok(Said::Nothing) };
        Ok(match channel {
            STDIN if data.is_empty() => Said::Nothing,
            STDIN => Said::Input(data),
            CLOSE if self.has_close && data.first() == Some(&STDIN) => Said::CloseInput,
            RESIZE => resize(&data).map_or(Said::Nothing, |(width, height)| Said::Resize(width, height)),
            _ => Said::Nothing,
        })
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

fn resize(data: &[u8]) -> Option<(u16, u16)> {
    let size: Size = serde_json::from_slice(data).ok()?;
    Some((size.width, size.height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v5() -> Protocol {
        Protocol::named("v5.channel.k8s.io").unwrap()
    }

    #[test]
    fn frames_in_binary_and_in_base64() {
        assert_eq!(v5().message(STDOUT, b"hi"), Message::binary(&b"\x01hi"[..]));
        let base64 = Protocol::named("base64.channel.k8s.io").unwrap();
        assert_eq!(base64.message(STDERR, b"hi"), Message::text("2aGk="));
        assert_eq!(base64.read(Message::text("0aGk=")), Ok(Said::Input(Bytes::from_static(b"hi"))));
        assert!(base64.read(Message::text("0!")).is_err());
        assert_eq!(v5().read(Message::binary(&b"\x00hi"[..])), Ok(Said::Input(Bytes::from_static(b"hi"))));
    }

    #[test]
    fn only_v5_closes_its_input() {
        let close = || Message::binary(&[255, 0][..]);
        assert_eq!(v5().read(close()), Ok(Said::CloseInput));
        assert_eq!(Protocol::named("v4.channel.k8s.io").unwrap().read(close()), Ok(Said::Nothing));
    }

    #[test]
    fn reads_sizes() {
        let size = |text: &str| v5().read(Message::binary([b"\x04", text.as_bytes()].concat()));
        assert_eq!(size("{\"Width\":80,\"Height\":24}\n"), Ok(Said::Resize(80, 24)));
        assert_eq!(size("{\"Width\":-1,\"Height\":24}"), Ok(Said::Nothing));
        assert_eq!(size(""), Ok(Said::Nothing));
    }

    #[test]
    fn ignores_what_means_nothing() {
        for bytes in [&b""[..], b"\x01x", b"\x07x", b"\x00", b"\xff", b"\xff\x01"] {
            assert_eq!(v5().read(Message::binary(bytes.to_vec())), Ok(Said::Nothing), "{bytes:?}");
        }
    }
}
