//! The client side of a connection: encodes and decodes frames.

use super::*;

/// The timeout of a wait. It passes only if there is a fault.
pub(super) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;
pub(super) const CLOSE: u8 = 0x88;

/// A text frame of a server, 127 bytes long.
pub(super) fn text_frame() -> Frame {
    Frame::raw([&[0x81, 125][..], &[b'z'; 125]].concat())
}

/// Encodes a control frame without payload, as sent by a client.
pub(super) fn control(first_byte: u8) -> [u8; 6] {
    [first_byte, 0x80, 0, 0, 0, 0]
}

/// The first byte and the payload of each frame.
pub(super) type Frames = Vec<(u8, Vec<u8>)>;

/// Removes complete frames from the front of `bytes`.
pub(super) fn take_frames(bytes: &mut Vec<u8>) -> Frames {
    let mut frames = Vec::new();
    loop {
        let (len, header) = match bytes.as_slice() {
            [_, 127, long @ ..] if 8 <= long.len() => {
                (usize::try_from(u64::from_be_bytes(long[..8].try_into().unwrap())).unwrap(), 10)
            }
            [_, 126, high, low, ..] => (usize::from(u16::from_be_bytes([*high, *low])), 4),
            [_, len @ 0..=125, ..] => (usize::from(*len), 2),
            _ => return frames,
        };
        if bytes.len() < header + len {
            return frames;
        }
        frames.push((bytes[0], bytes[header..header + len].to_vec()));
        bytes.drain(..header + len);
    }
}

/// The frames that the client has received and not read yet.
pub(super) fn read_frames(client: &TcpStream) -> Frames {
    let mut received = ReceivedFrames::by(client);
    received.read();
    assert!(received.bytes.is_empty(), "a part of a frame");
    received.frames
}

pub(super) fn close_code((first, payload): &(u8, Vec<u8>)) -> Option<u16> {
    (*first == CLOSE).then(|| u16::from_be_bytes([payload[0], payload[1]]))
}

pub(super) fn is_event((_, payload): &(u8, Vec<u8>), name: &str) -> bool {
    serde_json::from_slice::<serde_json::Value>(payload).is_ok_and(|text| text["event"] == name)
}

/// The bytes that the client has received and not read yet.
pub(super) fn read_all(mut client: &TcpStream) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 8_192]);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => all.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

pub(super) fn has_something(client: &TcpStream) -> bool {
    client.peek(&mut [0]).is_ok()
}

/// The data that a client has received, read incrementally.
pub(super) struct ReceivedFrames<'a> {
    client: &'a TcpStream,
    pub(super) frames: Frames,
    /// The incomplete frame at the end.
    bytes: Vec<u8>,
    give_up_at: Instant,
}

impl<'a> ReceivedFrames<'a> {
    pub(super) fn by(client: &'a TcpStream) -> Self {
        let give_up_at = Instant::now() + TEST_TIMEOUT;
        Self { client, frames: Vec::new(), bytes: Vec::new(), give_up_at }
    }

    /// Reads new data. Fails after the timeout.
    pub(super) fn read(&mut self) {
        let count = self.frames.len();
        assert!(Instant::now() < self.give_up_at, "{count} frames within {TEST_TIMEOUT:?}");
        let mut buffer = [0; 8_192];
        while let Ok(len @ 1..) = self.client.read(&mut buffer) {
            self.bytes.extend_from_slice(&buffer[..len]);
        }
        self.frames.append(&mut take_frames(&mut self.bytes));
    }
}
