//! WebSocket frames, byte by byte. Sent frames may be invalid on purpose; received frames must be valid.

use crate::is_event;

/// The first byte of a frame: the FIN flag, and the opcodes.
pub const FIN: u8 = 0x80;
/// The opcode of a fragment after the first.
pub const CONTINUATION: u8 = 0x0;
/// The opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// The opcode of a binary frame.
pub const BINARY: u8 = 0x2;
/// The opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// The opcode of a ping.
pub const PING: u8 = 0x9;
/// The opcode of a pong.
pub const PONG: u8 = 0xA;

/// The second byte: the MASK flag, and the two values for an extended length.
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 0x7E;
const LENGTH_64: u8 = 0x7F;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A frame that a server is allowed to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// A text frame.
    Text(String),
    /// A ping with its payload.
    Ping(Vec<u8>),
    /// A pong with its payload.
    Pong(Vec<u8>),
    /// A close frame with its code and reason.
    Close(u16, String),
}

impl Frame {
    /// Whether the server expects a pong: a ping of the WebSocket or of the protocol.
    pub fn is_ping(&self) -> bool {
        match self {
            Self::Ping(_) => true,
            Self::Text(text) => is_event(text, "pusher:ping"),
            Self::Pong(_) | Self::Close(..) => false,
        }
    }
}

/// A complete text message in one masked frame.
pub fn text(message: impl AsRef<[u8]>) -> Vec<u8> {
    masked(FIN | TEXT, message.as_ref())
}

/// A masked frame, as clients must send it.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, MASKED, payload.len());
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// An unmasked frame, as clients must not send it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, 0, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

/// The head of a masked frame, without the payload of `length` bytes.
pub fn announced(first: u8, length: usize) -> Vec<u8> {
    let mut bytes = head(first, MASKED, length);
    bytes.extend_from_slice(&MASK);
    bytes
}

/// The payload of a close frame.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// Removes the frame at the front of the received bytes, once it is complete.
pub fn take(received: &mut Vec<u8>) -> Option<Frame> {
    let (&first, &second) = (received.first()?, received.get(1)?);
    assert_eq!(first & 0x70, 0, "reserved bits are set: {first:#x}");
    assert_eq!(first & FIN, FIN, "the server sends whole messages: {first:#x}");
    assert_eq!(second & MASKED, 0, "a server's frames are not masked");
    let (length, start) = match second {
        LENGTH_16 => (usize::from(u16::from_be_bytes(received.get(2..4)?.try_into().ok()?)), 4),
        LENGTH_64 => {
            (usize::try_from(u64::from_be_bytes(received.get(2..10)?.try_into().ok()?)).ok()?, 10)
        }
        short => (usize::from(short), 2),
    };
    let shortest = if length < 126 {
        2
    } else if length < 65_536 {
        4
    } else {
        10
    };
    assert_eq!(start, shortest, "a length of {length} is written in its shortest form");
    if received.len() < start + length {
        return None;
    }
    let payload = received[start..start + length].to_vec();
    received.drain(..start + length);
    Some(parse(first & 0x0F, payload))
}

fn parse(opcode: u8, payload: Vec<u8>) -> Frame {
    assert!(opcode < CLOSE || payload.len() <= 125, "a control frame of {} bytes", payload.len());
    match opcode {
        TEXT => Frame::Text(String::from_utf8(payload).expect("text is UTF-8")),
        PING => Frame::Ping(payload),
        PONG => Frame::Pong(payload),
        // RFC 6455: 1005 stands for a close frame without a code.
        CLOSE if payload.is_empty() => Frame::Close(1005, String::new()),
        CLOSE => {
            let (code, reason) = payload.split_first_chunk().expect("a code has two bytes");
            Frame::Close(
                u16::from_be_bytes(*code),
                String::from_utf8(reason.to_vec()).expect("a reason is UTF-8"),
            )
        }
        other => panic!("the server sent a frame with opcode {other:#x}"),
    }
}

fn head(first: u8, mask: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    if length < 126 {
        bytes.push(mask | u8::try_from(length).expect("it is below 126"));
    } else if let Ok(length) = u16::try_from(length) {
        bytes.push(mask | LENGTH_16);
        bytes.extend_from_slice(&length.to_be_bytes());
    } else {
        bytes.push(mask | LENGTH_64);
        bytes.extend_from_slice(&u64::try_from(length).expect("usize fits").to_be_bytes());
    }
    bytes
}
