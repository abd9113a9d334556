//! Validates the frames of a stream byte by byte, and finds where messages end.
//!
//! tungstenite reports an invalid frame only once it is complete. This module detects an invalid
//! header, and text that cannot become valid UTF-8, at the first invalid byte.

/// The reason why a client's input can't be decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FrameError {
    TooBig,
    NotUtf8,
    NotWebSocket,
}

/// Validates the frames of one connection.
#[derive(Debug, Default)]
pub(super) struct FrameValidator {
    /// The header of the frame.
    header: [u8; HEADER_MAX],
    /// The number of bytes of an incomplete header; 0 once it is complete.
    header_received: usize,
    /// Bytes of payload that are still missing.
    payload_left: u64,
    /// Bytes of the frame's payload that were received.
    payload_received: u64,
    is_fragmented: bool,
    /// Whether the current message is text.
    is_text: bool,
    /// The UTF-8 state of a text message that is received in parts.
    text: Utf8,
    /// The error in the stream, after which all bytes are ignored.
    error: Option<FrameError>,
}

/// The result of checking the bytes of one read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Advance {
    /// The number of bytes before the first invalid one.
    pub(super) valid_len: usize,
    /// The number of frames that began and do not end a message.
    pub(super) fragments: usize,
}

/// Two bytes, eight of length, four of mask (RFC 6455, 5.2).
const HEADER_MAX: usize = 14;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl FrameValidator {
    /// Whether neither a frame nor a message has begun, and there is no error.
    pub(super) fn is_between_messages(&self) -> bool {
        self.header_received == 0
            && self.payload_left == 0
            && !self.is_fragmented
            && self.error.is_none()
    }

    /// The error in the stream. Bytes after it are ignored.
    pub(super) fn error(&self) -> Option<FrameError> {
        self.error
    }

    /// Checks the bytes of the next read.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Advance {
        let (mut at, mut fragments) = (0, 0);
        while at < bytes.len() && self.error.is_none() {
            let rest = &bytes[at..];
            if 0 < self.payload_left {
                let len = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(rest.len());
                at += self.take_payload(&rest[..len]);
            } else {
                match self.take_header_byte(rest[0]) {
                    Ok(begins_fragment) => {
                        at += 1;
                        fragments += usize::from(begins_fragment);
                    }
                    Err(error) => self.error = Some(error),
                }
            }
        }
        Advance { valid_len: at, fragments }
    }

    /// Checks a part of a frame's payload; returns how many bytes of it are valid.
    fn take_payload(&mut self, bytes: &[u8]) -> usize {
        let is_whole = self.payload_received == 0 && bytes.len() as u64 == self.payload_left;
        let is_message = self.opcode() < CLOSE;
        let mut valid_len = bytes.len();
        // tungstenite checks text that is already complete.
        if is_message && self.is_text && !(is_whole && self.is_unfragmented()) {
            valid_len = self.text.take(bytes, self.mask(), self.payload_received);
            if valid_len < bytes.len() {
                self.error = Some(FrameError::NotUtf8);
            }
        }
        self.payload_received += bytes.len() as u64;
        self.payload_left -= bytes.len() as u64;
        valid_len
    }

    /// Whether the frame is a whole message.
    fn is_unfragmented(&self) -> bool {
        self.header[0] & FIN != 0 && self.opcode() != CONTINUATION
    }

    fn opcode(&self) -> u8 {
        self.header[0] & 0x0f
    }

    /// Takes a byte of a header. True if the header is complete and its frame does not end a
    /// message.
    fn take_header_byte(&mut self, byte: u8) -> Result<bool, FrameError> {
        self.header[self.header_received] = byte;
        self.header_received += 1;
        match self.header_received {
            1 if !self.may_begin() => return Err(FrameError::NotWebSocket),
            2 if !self.fits_length() => return Err(FrameError::NotWebSocket),
            // The first bit of a 64-bit length must be 0.
            3 if self.header[1] & !MASKED == 127 && byte & 0x80 != 0 => {
                return Err(FrameError::NotWebSocket);
            }
            _ => {}
        }
        if self.header_received < 2 || self.header_received < self.header_len() {
            return Ok(false);
        }
        self.header_received = 0;
        (self.payload_left, self.payload_received) = (self.payload_len(), 0);
        let opcode = self.opcode();
        if CLOSE <= opcode {
            return Ok(false);
        }
        if opcode != CONTINUATION {
            (self.is_text, self.text) = (opcode == TEXT, Utf8::default());
        }
        self.is_fragmented = self.header[0] & FIN == 0;
        Ok(self.is_fragmented)
    }

    /// Whether a frame may have this first byte in the current state.
    fn may_begin(&self) -> bool {
        let is_final = self.header[0] & FIN != 0;
        self.header[0] & RESERVED == 0
            && match self.opcode() {
                CONTINUATION => self.is_fragmented,
                TEXT | BINARY => !self.is_fragmented,
                CLOSE | PING | PONG => is_final,
                _ => false,
            }
    }

    /// Whether a frame may have this second byte after its first.
    fn fits_length(&self) -> bool {
        let len = self.header[1] & !MASKED;
        self.header[1] & MASKED != 0
            && match self.opcode() {
                // A close reason follows two bytes of code.
                CLOSE => len != 1 && len < 126,
                PING | PONG => len < 126,
                _ => true,
            }
    }

    fn header_len(&self) -> usize {
        2 + 4
            + match self.header[1] & !MASKED {
                126 => 2,
                127 => 8,
                _ => 0,
            }
    }

    fn payload_len(&self) -> u64 {
        let extended = &self.header[2..10];
        match self.header[1] & !MASKED {
            126 => u64::from(u16::from_be_bytes([extended[0], extended[1]])),
            127 => extended.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
            len => u64::from(len),
        }
    }

    /// The mask of the frame, whose header is complete.
    fn mask(&self) -> [u8; 4] {
        let end = self.header_len();
        self.header[end - 4..end].try_into().expect("four bytes")
    }
}

/// Incremental UTF-8 validation of text that is received in parts.
#[derive(Clone, Copy, Debug, Default)]
struct Utf8 {
    /// The first bytes of a character whose last bytes are not received yet.
    incomplete_char: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Checks masked bytes, the first of which is the payload's byte `offset`; returns how many are
    /// valid.
    fn take(&mut self, masked: &[u8], mask: [u8; 4], offset: u64) -> usize {
        let mut at = 0;
        let mut unmasked = [0; 1_024];
        for piece in masked.chunks(unmasked.len() - self.incomplete_char.len()) {
            // The rest of the previous piece precedes this one.
            let begun = self.len;
            unmasked[..begun].copy_from_slice(&self.incomplete_char[..begun]);
            let end = begun + piece.len();
            for (index, byte) in piece.iter().enumerate() {
                let mask_index =
                    usize::try_from((offset + (at + index) as u64) % 4).expect("below 4");
                unmasked[begun + index] = byte ^ mask[mask_index];
            }
            match std::str::from_utf8(&unmasked[..end]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_none() => {
                    let open = &unmasked[error.valid_up_to()..end];
                    self.incomplete_char[..open.len()].copy_from_slice(open);
                    self.len = open.len();
                }
                Err(error) => {
                    let wrong = error.valid_up_to() + error.error_len().unwrap_or_default();
                    return at + (wrong - 1).saturating_sub(begun);
                }
            }
            at += piece.len();
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        if let Ok(len @ 0..126) = u8::try_from(payload.len()) {
            bytes.push(MASKED | len);
        } else {
            bytes.push(MASKED | 0x7e);
            bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// Returns how many bytes precede the error in a stream, and the error. Every split in two pieces
    /// must find the same error.
    fn found(stream: &[u8]) -> Option<(usize, FrameError)> {
        let follow = |pieces: &[&[u8]]| {
            let (mut validator, mut taken) = (FrameValidator::default(), 0);
            for piece in pieces {
                taken += validator.advance(piece).valid_len;
            }
            validator.error().map(|invalid| (taken, invalid))
        };
        let byte_by_byte = follow(&stream.chunks(1).collect::<Vec<_>>());
        for cut in 1..stream.len() {
            let (head, tail) = stream.split_at(cut);
            let in_two = follow(&[head, tail]);
            let kind = |found: Option<(usize, FrameError)>| found.map(|(_, invalid)| invalid);
            assert_eq!(kind(in_two), kind(byte_by_byte), "cut at {cut}");
        }
        byte_by_byte
    }

    #[test]
    fn an_invalid_header_is_detected_at_its_byte() {
        let begun = frame(TEXT, b"{");
        let behind = |stream: &[u8], more: &[u8]| [stream, more].concat();
        let first = |byte: u8| (vec![byte], 0);
        let second = |opcode: u8, byte: u8| (vec![FIN | opcode, byte], 1);
        let cases = [
            first(0xc1),
            first(0xa1),
            first(0x91),
            first(FIN | 0x3),
            first(FIN | 0x7),
            first(FIN | 0xb),
            first(FIN | 0xf),
            // Fragmented control frames, and a continuation without a message.
            first(PING),
            first(PONG),
            first(CLOSE),
            first(CONTINUATION),
            first(FIN | CONTINUATION),
            // A message within another.
            (behind(&begun, &[FIN | TEXT]), begun.len()),
            (behind(&begun, &[BINARY]), begun.len()),
            // Not masked.
            second(TEXT, 5),
            second(PING, 0),
            // A control frame of more than 125 bytes, a close frame with half a code.
            second(PING, MASKED | 0x7e),
            second(PONG, MASKED | 0x7f),
            second(CLOSE, MASKED | 0x7e),
            second(CLOSE, MASKED | 1),
            (vec![FIN | TEXT, MASKED | 0x7f, 0x80], 2),
        ];
        for (stream, at) in cases {
            assert_eq!(found(&stream), Some((at, FrameError::NotWebSocket)), "{stream:x?}");
        }
    }

    #[test]
    fn invalid_utf_8_is_detected_at_its_byte() {
        // The text, and the index of its invalid byte.
        let cases: [(&[u8], usize); 9] = [
            (b"\xff", 0),
            (b"a\x80", 1),
            (b"\xc0\x80", 0),
            (b"\xc3x", 1),
            (b"\xed\xa0\x80", 1),
            (b"\xe2\x82x", 2),
            (b"\xf8\x88\x80", 0),
            (b"\xf0\x9f\x98x", 3),
            (b"\xf4\x90\x80\x80", 1),
        ];
        for (wrong, invalid) in cases {
            for before in [0, 1, 3, 1_018, 1_019, 1_020, 2_041] {
                let text = [&vec![b'x'; before], wrong, &[b'x'; 50]].concat();
                let message = frame(FIN | TEXT, &text);
                let at = message.len() - text.len() + before + invalid;
                let follow = |len: usize| {
                    let mut validator = FrameValidator::default();
                    let advance = validator.advance(&message[..len]);
                    assert!(advance.valid_len <= at, "{wrong:x?} at {before}");
                    validator.error()
                };
                assert_eq!(follow(at), None, "{wrong:x?} at {before}");
                assert_eq!(follow(at + 1), Some(FrameError::NotUtf8), "{wrong:x?} at {before}");
                if before < 5 {
                    let found = found(&message[..message.len() - 1]);
                    assert_eq!(found, Some((at, FrameError::NotUtf8)), "{wrong:x?} at {before}");
                }
            }
        }
    }

    #[test]
    fn characters_may_be_split_anywhere_with_pings_in_between() {
        let ping = frame(FIN | PING, b"\xff");
        let letters = "é€😀".as_bytes();
        let mut stream = Vec::new();
        for (at, byte) in letters.iter().enumerate() {
            let first = if at == 0 { TEXT } else { CONTINUATION };
            stream.extend([frame(first, &[*byte]), ping.clone()].concat());
        }
        let end = frame(FIN | CONTINUATION, b"");
        let whole = [&stream[..], &end, &frame(FIN | BINARY, b"\xff\xfe")].concat();
        assert_eq!(found(&whole), None);
        // Without the last byte of a character, the next byte is invalid.
        let wrong = [&stream[..stream.len() - ping.len() - 7], &frame(CONTINUATION, b"x")].concat();
        let (at, invalid) = found(&wrong).unwrap();
        assert_eq!((at, invalid), (wrong.len() - 1, FrameError::NotUtf8));
    }

    #[test]
    fn a_message_ends_with_its_last_frame() {
        let mut validator = FrameValidator::default();
        let mut ends = |bytes: &[u8]| {
            let fragments = validator.advance(bytes).fragments;
            (fragments, validator.is_between_messages())
        };
        assert_eq!(ends(&frame(FIN | TEXT, &[b'x'; 300])), (0, true));
        assert_eq!(ends(&frame(TEXT, b"a")), (1, false));
        assert_eq!(ends(&frame(CONTINUATION, b"").repeat(3)), (3, false));
        assert_eq!(ends(&frame(FIN | PING, b"p")), (0, false));
        assert_eq!(ends(&frame(FIN | CONTINUATION, b"b")), (0, true));
        assert_eq!(ends(&[FIN | TEXT]), (0, false));
    }

    #[test]
    fn a_length_of_64_bits_is_read_to_its_last_byte() {
        const LEN: usize = 70_000;
        let header =
            [&[FIN | BINARY, MASKED | 127][..], &(LEN as u64).to_be_bytes(), &MASK].concat();
        let message = [header, vec![0; LEN]].concat();
        for piece in [1_000, LEN, message.len()] {
            let mut validator = FrameValidator::default();
            let (last, all) = message.split_last().unwrap();
            for piece in all.chunks(piece) {
                assert_eq!(validator.advance(piece).valid_len, piece.len());
                assert!(!validator.is_between_messages());
            }
            validator.advance(&[*last]);
            assert!(validator.is_between_messages());
        }
    }
}
