//! Encoded WebSocket frames.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

/// Encoded output for a client, shared by its receivers: a WebSocket frame, or the HTTP
/// response to the handshake.
///
/// An event is encoded once per channel, WebSocket header included; a subscriber's outbox holds
/// a handle of eight bytes. Frames of a server are not masked, so all receivers get the same bytes.
#[derive(Clone, Debug)]
pub struct Frame(Arc<Encoded>);

/// A weak handle of a frame, which does not keep it in memory.
#[derive(Clone, Debug)]
pub struct WeakFrame(Weak<Encoded>);

impl WeakFrame {
    /// The frame, if it is still in use.
    #[must_use]
    pub fn upgrade(&self) -> Option<Frame> {
        self.0.upgrade().map(Frame)
    }
}

#[derive(Debug)]
struct Encoded {
    kind: FrameKind,
    accepted_at: Option<Instant>,
    bytes: Box<[u8]>,
}

/// The kind of message in a frame; a label of the metrics.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FrameKind {
    /// An event that the application published.
    Event,
    /// A client event, on its way to the other subscribers.
    ClientEvent,
    /// An event of the protocol: `pusher:…` and `pusher_internal:…`.
    Protocol,
    /// A ping, pong or close of WebSocket itself, or the response that opened the connection.
    Control,
}

impl FrameKind {
    /// All kinds, in the order of [`FrameKind::index`].
    pub const ALL: [Self; 4] = [Self::Event, Self::ClientEvent, Self::Protocol, Self::Control];

    /// The index in [`FrameKind::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The value of the label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::ClientEvent => "client_event",
            Self::Protocol => "protocol",
            Self::Control => "control",
        }
    }
}

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
/// Maximum payload of a control frame, in bytes (RFC 6455, 5.5).
const CONTROL_PAYLOAD_MAX: usize = 125;

impl Frame {
    /// Encodes a text message.
    #[must_use]
    pub fn text(kind: FrameKind, text: &str) -> Self {
        Self::new(kind, None, encode(TEXT, text.as_bytes()))
    }

    /// Encodes an event that was accepted from a publisher at `accepted_at`; its delivery latency is
    /// measured from then.
    #[must_use]
    pub fn published(kind: FrameKind, text: &str, accepted_at: Instant) -> Self {
        Self::published_parts(kind, &[text], accepted_at)
    }

    /// Like [`Frame::published`], for a text in parts.
    #[must_use]
    pub fn published_parts(kind: FrameKind, text: &[&str], accepted_at: Instant) -> Self {
        Self::new(kind, Some(accepted_at), encode_parts(TEXT, text))
    }

    /// Encodes a close frame. A reason of more than 123 bytes is truncated between characters.
    #[must_use]
    pub fn close(code: u16, reason: &str) -> Self {
        let reason = &reason[..reason.floor_char_boundary(CONTROL_PAYLOAD_MAX - 2)];
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        Self::new(FrameKind::Control, None, encode(CLOSE, &payload))
    }

    /// Encodes a WebSocket ping that contains a number, which its pong repeats.
    #[must_use]
    pub fn numbered_ping(number: u64) -> Self {
        Self::new(FrameKind::Control, None, encode(PING, &number.to_be_bytes()))
    }

    /// Encodes a WebSocket ping without payload.
    #[must_use]
    pub fn ping() -> Self {
        Self::new(FrameKind::Control, None, encode(PING, &[]))
    }

    /// Decodes an event that another node has encoded; `None` if `bytes` are not one text frame.
    #[must_use]
    pub fn from_encoded(kind: FrameKind, bytes: &[u8], accepted_at: Instant) -> Option<Self> {
        let payload = match bytes {
            [TEXT, 127, rest @ ..] => {
                let (len, payload) = rest.split_at_checked(8)?;
                let len = u64::from_be_bytes(len.try_into().ok()?);
                (u64::try_from(payload.len()).ok()? == len).then_some(payload)?
            }
            [TEXT, 126, rest @ ..] => {
                let (len, payload) = rest.split_at_checked(2)?;
                let len = u16::from_be_bytes(len.try_into().ok()?);
                (payload.len() == usize::from(len)).then_some(payload)?
            }
            [TEXT, len @ 0..126, payload @ ..] => {
                (payload.len() == usize::from(*len)).then_some(payload)?
            }
            _ => return None,
        };
        std::str::from_utf8(payload).ok()?;
        Some(Self::new(kind, Some(accepted_at), bytes.to_vec()))
    }

    /// The text of a text frame; `None` for another frame.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        let start = match self.bytes() {
            [TEXT, 127, ..] => 10,
            [TEXT, 126, ..] => 4,
            [TEXT, ..] => 2,
            _ => return None,
        };
        std::str::from_utf8(self.bytes().get(start..)?).ok()
    }

    /// A frame of encoded bytes: replies of the WebSocket layer, or the HTTP response that opened the
    /// connection.
    #[must_use]
    pub fn raw(bytes: Vec<u8>) -> Self {
        Self::new(FrameKind::Control, None, bytes)
    }

    fn new(kind: FrameKind, accepted_at: Option<Instant>, bytes: Vec<u8>) -> Self {
        Self(Arc::new(Encoded { kind, accepted_at, bytes: bytes.into() }))
    }

    /// A weak handle of this frame.
    #[must_use]
    pub fn downgrade(&self) -> WeakFrame {
        WeakFrame(Arc::downgrade(&self.0))
    }

    /// The bytes for the socket.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The kind of the message in the frame.
    #[must_use]
    pub fn kind(&self) -> FrameKind {
        self.0.kind
    }

    /// When the event was accepted from its publisher; `None` for frames of the protocol.
    #[must_use]
    pub fn accepted_at(&self) -> Option<Instant> {
        self.0.accepted_at
    }
}

/// Encodes a frame of a server (RFC 6455, 5.2): final and unmasked.
fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    encode_parts(opcode, &[payload])
}

/// Like [`encode`], for a payload in parts. The frame is allocated once.
fn encode_parts(opcode: u8, parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.as_ref().len()).sum();
    let mut frame;
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..126), _) => {
            frame = Vec::with_capacity(2 + len);
            frame.extend([opcode, short]);
        }
        (_, Ok(medium)) => {
            frame = Vec::with_capacity(4 + len);
            frame.extend([opcode, 126]);
            frame.extend(medium.to_be_bytes());
        }
        (_, Err(_)) => {
            frame = Vec::with_capacity(10 + len);
            frame.extend([opcode, 127]);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    for part in parts {
        frame.extend_from_slice(part.as_ref());
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::{
        Message,
        protocol::{Role, WebSocket},
    };

    /// Reads frames with an independent decoder.
    fn decode(frame: &Frame) -> Message {
        let stream = std::io::Cursor::new(frame.bytes().to_vec());
        WebSocket::from_raw_socket(stream, Role::Client, None).read().unwrap()
    }

    #[test]
    fn text_of_every_length_class_is_decoded() {
        for (len, header) in [(0, 2), (125, 2), (126, 4), (127, 4), (65_535, 4), (65_536, 10)] {
            let text = "x".repeat(len);
            let frame = Frame::text(FrameKind::Event, &text);
            assert_eq!(frame.bytes().len(), header + len, "the header is as short as it can be");
            assert_eq!(decode(&frame), Message::text(text));
        }
    }

    #[test]
    fn a_long_close_reason_is_truncated_between_characters() {
        for (letter, most) in [("é", 61), ("x", 123)] {
            for (letters, left) in [(most, most), (most + 1, most), (200, most)] {
                let frame = Frame::close(4200, &letter.repeat(letters));
                let Message::Close(Some(close)) = decode(&frame) else {
                    panic!("not a close frame")
                };
                assert_eq!(u16::from(close.code), 4200);
                assert_eq!(close.reason.as_str(), letter.repeat(left));
            }
        }
    }

    #[test]
    fn a_handle_is_eight_bytes() {
        assert_eq!(size_of::<Frame>(), 8);
    }

    #[test]
    fn a_weak_handle_does_not_keep_the_bytes() {
        let frame = Frame::ping();
        let weak = frame.downgrade();
        assert_eq!(weak.upgrade().map(|same| same.bytes().as_ptr()), Some(frame.bytes().as_ptr()));
        drop(frame);
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn only_a_whole_frame_is_decoded() {
        let now = Instant::now();
        let take = |bytes: &[u8]| Frame::from_encoded(FrameKind::Event, bytes, now);
        for len in [0, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(len);
            let bytes = Frame::text(FrameKind::Event, &text).bytes().to_vec();
            let taken = take(&bytes).unwrap();
            assert_eq!((taken.bytes(), taken.as_text()), (&*bytes, Some(&*text)));
            assert_eq!((taken.kind(), taken.accepted_at()), (FrameKind::Event, Some(now)));
            let longer = [&*bytes, b"x"].concat();
            for other in [&longer[..], &bytes[..bytes.len() - 1], &bytes[..1], &longer[1..]] {
                assert!(take(other).is_none(), "{len}, {} bytes", other.len());
            }
        }
        for other in [Frame::ping(), Frame::close(4100, "x"), Frame::raw(vec![0x81, 1, 0xff])] {
            assert!(take(other.bytes()).is_none() && other.as_text().is_none(), "{other:?}");
            assert_eq!((other.kind(), other.accepted_at()), (FrameKind::Control, None));
        }
        assert_eq!(decode(&Frame::ping()), Message::Ping(Vec::new().into()));
        let numbered = Message::Ping(vec![0, 0, 0, 0, 0, 0, 1, 2].into());
        assert_eq!(decode(&Frame::numbered_ping(258)), numbered);
    }

    #[test]
    fn kinds_are_in_the_order_of_their_indexes() {
        for (index, kind) in FrameKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
        }
        let names = FrameKind::ALL.map(FrameKind::as_str);
        assert_eq!(names, ["event", "client_event", "protocol", "control"]);
    }
}
