//! WebSocket frames as a client sees them: headers in, masked frames out.

use crate::number::{index, wide};

/// A part of a message that an earlier frame began.
pub(crate) const CONTINUATION: u8 = 0;
/// A text message.
pub(crate) const TEXT: u8 = 1;
/// A binary message.
pub(crate) const BINARY: u8 = 2;
/// The end of the connection, with a code.
pub(crate) const CLOSE: u8 = 8;
/// A ping, to be answered with the same payload.
pub(crate) const PING: u8 = 9;
/// The answer to a ping.
pub(crate) const PONG: u8 = 10;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The beginning of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// What kind of frame it is.
    pub(crate) opcode: u8,
    /// Bytes of the header itself.
    pub(crate) head_bytes: usize,
    /// Bytes that follow it.
    pub(crate) payload_bytes: usize,
}

/// A frame that no server may send: reserved bits, or masked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Invalid;

/// The header that `bytes` begin with, or `None` while it is not whole.
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

/// Appends one whole masked frame.
pub(crate) fn push_masked(bytes: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    bytes.push(FINAL | opcode);
    push_length(bytes, payload.len(), MASKED);
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends one whole frame as a server sends it.
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
    fn what_no_server_sends_is_refused() {
        let mut bytes = Vec::new();
        push_masked(&mut bytes, TEXT, b"x", [1, 2, 3, 4]);
        assert_eq!(header(&bytes), Err(Invalid));
        assert_eq!(header(&[0xc1, 0]), Err(Invalid));
    }
}
