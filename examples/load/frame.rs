//! The client side of WebSocket frames: parses headers, and encodes masked frames.

use crate::number::{index, wide};

/// The opcode of a continuation.
pub(crate) const CONTINUATION: u8 = 0;
/// The opcode of a text message.
pub(crate) const TEXT: u8 = 1;
/// The opcode of a binary message.
pub(crate) const BINARY: u8 = 2;
/// The opcode of a close frame.
pub(crate) const CLOSE: u8 = 8;
/// The opcode of a ping, which is answered with the same payload.
pub(crate) const PING: u8 = 9;
/// The opcode of a pong.
pub(crate) const PONG: u8 = 10;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The header of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// The opcode.
    pub(crate) opcode: u8,
    /// The length of the header, in bytes.
    pub(crate) head_bytes: usize,
    /// The length of the payload, in bytes.
    pub(crate) payload_bytes: usize,
}

/// The error of a frame that a server must not send: reserved bits, or masked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Invalid;

/// The header at the beginning of `bytes`, or `None` if it is incomplete.
pub(crate) fn header(bytes: &[u8]) -> Result<Option<Header>, Invalid> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 || second & MASKED != 0 {
        return Err(Invalid);
    }
    let (head_bytes, length) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        length => (2, u64::from(length)),
    };
    Ok(Some(Header { opcode: first & 0x0f, head_bytes, payload_bytes: index(length) }))
}

/// Appends one complete masked frame.
pub(crate) fn push_masked(bytes: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    bytes.push(FINAL | opcode);
    push_length(bytes, payload.len(), MASKED);
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends one complete unmasked frame, as sent by a server.
pub(crate) fn push_plain(bytes: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    bytes.push(FINAL | opcode);
    push_length(bytes, payload.len(), 0);
    bytes.extend_from_slice(payload);
}

fn push_length(bytes: &mut Vec<u8>, length: usize, flag: u8) {
    if let Ok(length) = u8::try_from(length)
        && length < 126
    {
        bytes.push(flag | length);
    } else if let Ok(length) = u16::try_from(length) {
        bytes.push(flag | 0x7e);
        bytes.extend_from_slice(&length.to_be_bytes());
    } else {
        bytes.push(flag | 0x7f);
        bytes.extend_from_slice(&wide(length).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_when_it_is_whole() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let mut bytes = Vec::new();
            push_plain(&mut bytes, TEXT, &vec![b'x'; length]);
            let whole = header(&bytes).unwrap().unwrap();
            assert_eq!((whole.opcode, whole.payload_bytes), (TEXT, length));
            assert_eq!(whole.head_bytes + length, bytes.len());
            for cut in 0..whole.head_bytes {
                assert_eq!(header(&bytes[..cut]), Ok(None), "{length} {cut}");
            }
        }
    }

    #[test]
    fn invalid_server_frames_are_rejected() {
        let mut bytes = Vec::new();
        push_masked(&mut bytes, TEXT, b"x", [1, 2, 3, 4]);
        assert_eq!(header(&bytes), Err(Invalid));
        assert_eq!(header(&[0xc1, 0]), Err(Invalid));
    }
}
