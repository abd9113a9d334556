//! Bytes from clients, made into messages by tungstenite.
//!
//! When a read holds whole frames only, one context per shard serves all connections. A
//! connection has a context of its own only while a frame or message of its own is incomplete,
//! so an idle one holds no buffer.

use bytes::Bytes;
use std::{
    io::{self, Read, Write},
    time::Instant,
};
use tokio_tungstenite::tungstenite::{
    Error, Message, Utf8Bytes,
    error::CapacityError,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

/// Makes bytes into messages for all connections of a shard.
#[derive(Debug)]
pub(super) struct Inbound {
    config: WebSocketConfig,
    /// For reads that hold whole frames only. Absent while lent out, or after a failure.
    shared: Option<Box<WebSocketContext>>,
}

/// A frame or message that has not arrived whole, and the decoder that holds its beginning.
#[derive(Debug)]
pub(super) struct Partial {
    boundary: Boundary,
    began_at: Instant,
    context: Box<WebSocketContext>,
}

/// Reads the messages out of one piece of input.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    boundary: Boundary,
    /// When what is incomplete began; nothing if that is only now.
    began_at: Option<Instant>,
    context: Box<WebSocketContext>,
    feed: Feed<'a>,
}

/// What a client sent.
#[derive(Debug)]
pub(super) enum Received {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A ping, which is answered already, or a pong.
    SignOfLife,
    /// The client closes, with this code; the answer to it is among the replies.
    Close(u16),
}

/// Why a client's bytes can't be read on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unreadable {
    TooBig,
    NotUtf8,
    NotWebSocket,
}

/// Read buffer of a context, in bytes. Larger frames grow it while they arrive.
const READ_BUFFER: usize = 4 * 1024;
/// What the replies of a context to pings and closes may take before it gives up, in bytes.
const REPLIES_MAX: usize = 1 << 20;

impl Inbound {
    /// `max_message_bytes` bounds a message, and each frame of it.
    pub(super) fn new(max_message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(REPLIES_MAX)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        Self { config, shared: None }
    }

    /// Sets another bound for messages that begin.
    pub(super) fn set_max(&mut self, max_message_bytes: usize) {
        if self.config.max_message_size != Some(max_message_bytes) {
            *self = Self::new(max_message_bytes);
        }
    }

    fn context(&self) -> Box<WebSocketContext> {
        Box::new(WebSocketContext::new(Role::Server, Some(self.config)))
    }

    /// Begins to read `bytes`, which continue what `partial` holds.
    pub(super) fn open<'a>(
        &mut self,
        partial: Option<Box<Partial>>,
        bytes: &'a [u8],
        replies: &'a mut Vec<u8>,
    ) -> Reader<'a> {
        let (mut boundary, began_at, context) = match partial {
            Some(partial) => (partial.boundary, Some(partial.began_at), Some(partial.context)),
            None => (Boundary::default(), None, None),
        };
        boundary.advance(bytes);
        let context = context
            .or_else(|| if boundary.is_reached() { self.shared.take() } else { None })
            .unwrap_or_else(|| self.context());
        Reader { boundary, began_at, context, feed: Feed { bytes, replies } }
    }

    /// Ends the reading of a piece at `now`. Gives back what the connection must keep, if its
    /// last frame or message is incomplete.
    pub(super) fn close(&mut self, reader: Reader<'_>, now: Instant) -> Option<Box<Partial>> {
        let Reader { boundary, began_at, context, .. } = reader;
        if boundary.is_reached() {
            // One that began under another bound has done its work.
            let is_current = context.get_config().max_message_size == self.config.max_message_size;
            self.shared = is_current.then_some(context).or_else(|| self.shared.take());
            return None;
        }
        Some(Box::new(Partial { boundary, began_at: began_at.unwrap_or(now), context }))
    }
}

impl Partial {
    /// When the message began. Pings and pongs between its fragments do not put that off.
    pub(super) fn began_at(&self) -> Instant {
        self.began_at
    }
}

impl Reader<'_> {
    /// The next message, or nothing when the piece is used up.
    pub(super) fn next(&mut self) -> Result<Option<Received>, Unreadable> {
        match self.context.read(&mut self.feed) {
            Ok(Message::Text(text)) => {
                self.began_at = None;
                Ok(Some(Received::Text(text)))
            }
            Ok(Message::Binary(bytes)) => {
                self.began_at = None;
                Ok(Some(Received::Binary(bytes)))
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                Ok(Some(Received::SignOfLife))
            }
            Ok(Message::Close(frame)) => {
                // The reply is written by the next call, which then says that all is over.
                let _ = self.context.flush(&mut self.feed);
                Ok(Some(Received::Close(frame.map_or(1005, |frame| frame.code.into()))))
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Err(Unreadable::TooBig),
            Err(Error::Utf8(_)) => Err(Unreadable::NotUtf8),
            Err(_) => Err(Unreadable::NotWebSocket),
        }
    }

    /// What is to be sent in reply so far: pongs, and the answer to a close.
    pub(super) fn take_replies(&mut self) -> Option<Vec<u8>> {
        (!self.feed.replies.is_empty()).then(|| std::mem::take(self.feed.replies))
    }
}

/// A stream that ends where the input does, and collects what is written.
#[derive(Debug)]
struct Feed<'a> {
    bytes: &'a [u8],
    replies: &'a mut Vec<u8>,
}

impl Read for Feed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes.read(buffer)
    }
}

impl Write for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Follows the frames of a stream just far enough to know whether it stands between messages.
/// Whether the frames are right is tungstenite's business.
#[derive(Debug, Default)]
struct Boundary {
    /// The first bytes of a frame whose header is incomplete.
    header: [u8; HEADER_MAX],
    have: usize,
    /// Bytes of payload that are still to come.
    payload: u64,
    is_fragmented: bool,
}

/// Two bytes, eight of length, four of mask (RFC 6455, 5.2).
const HEADER_MAX: usize = 14;

impl Boundary {
    fn is_reached(&self) -> bool {
        self.have == 0 && self.payload == 0 && !self.is_fragmented
    }

    fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            bytes = &bytes[skipped..];
            self.payload -= skipped as u64;
            if let [byte, rest @ ..] = bytes {
                bytes = rest;
                self.take_header_byte(*byte);
            }
        }
    }

    fn take_header_byte(&mut self, byte: u8) {
        self.header[self.have] = byte;
        self.have += 1;
        if self.have < 2 || self.have < self.header_len() {
            return;
        }
        self.have = 0;
        self.payload = self.payload_len();
        let (is_final, opcode) = (self.header[0] & 0x80 != 0, self.header[0] & 0x0f);
        if opcode < 8 {
            self.is_fragmented = !is_final;
        }
    }

    fn header_len(&self) -> usize {
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn payload_len(&self) -> u64 {
        let extended = &self.header[2..10];
        match self.header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([extended[0], extended[1]])),
            127 => extended.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
            len => u64::from(len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };

    /// Encodes frames as a client does: masked.
    fn encode(frame: Frame) -> Vec<u8> {
        let mut frame = frame;
        frame.header_mut().mask = Some([1, 2, 3, 4]);
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        bytes
    }

    fn text(text: &str, data: Data, is_final: bool) -> Vec<u8> {
        encode(Frame::message(text.to_owned(), OpCode::Data(data), is_final))
    }

    fn ping(payload: &'static str) -> Vec<u8> {
        encode(Frame::ping(payload))
    }

    /// Feeds the pieces, and gives the texts and the replies.
    fn read(pieces: &[&[u8]]) -> (Vec<String>, Vec<u8>, bool) {
        let mut inbound = Inbound::new(1_000);
        let (mut texts, mut replies, mut partial) = (Vec::new(), Vec::new(), None);
        for piece in pieces {
            let mut written = Vec::new();
            let mut reader = inbound.open(partial.take(), piece, &mut written);
            while let Some(received) = reader.next().unwrap() {
                if let Received::Text(text) = received {
                    texts.push(text.to_string());
                }
                replies.extend(reader.take_replies().into_iter().flatten());
            }
            replies.extend(reader.take_replies().into_iter().flatten());
            partial = inbound.close(reader, Instant::now());
        }
        (texts, replies, partial.is_none())
    }

    #[test]
    fn a_stream_cut_at_any_byte_gives_the_same_messages() {
        let stream = [
            text("one", Data::Text, true),
            text(&"x".repeat(200), Data::Text, true),
            text("frag", Data::Text, false),
            ping("p"),
            text("ment", Data::Continue, true),
            text("last", Data::Text, true),
        ]
        .concat();
        let expected = vec!["one".to_owned(), "x".repeat(200), "fragment".into(), "last".into()];
        let pong = vec![0x8a, 1, b'p'];
        assert_eq!(read(&[&stream]), (expected.clone(), pong.clone(), true));
        for cut in 0..stream.len() {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(read(&[head, tail]), (expected.clone(), pong.clone(), true), "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read(&bytes), (expected, pong, true));
    }

    #[test]
    fn a_connection_holds_a_context_only_within_a_message() {
        let message = text("one", Data::Text, true);
        assert!(read(&[&message]).2);
        assert!(!read(&[&message[..3]]).2);
        assert!(!read(&[&text("frag", Data::Text, false)]).2);
    }

    #[test]
    fn every_ping_is_answered() {
        let stream = [ping("a"), ping("b"), ping("c")].concat();
        assert_eq!(read(&[&stream]).1, [0x8a, 1, b'a', 0x8a, 1, b'b', 0x8a, 1, b'c']);
    }

    fn failure(bytes: &[u8]) -> Unreadable {
        let mut inbound = Inbound::new(1_000);
        let mut replies = Vec::new();
        let mut reader = inbound.open(None, bytes, &mut replies);
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no failure"),
                Err(unreadable) => return unreadable,
            }
        }
    }

    #[test]
    fn each_failure_has_its_cause() {
        assert_eq!(failure(&text(&"x".repeat(1_001), Data::Text, true)), Unreadable::TooBig);
        let halves = [
            text(&"x".repeat(600), Data::Text, false),
            text(&"x".repeat(600), Data::Continue, true),
        ];
        assert_eq!(failure(&halves.concat()), Unreadable::TooBig);
        // Only announced: refused before it is sent.
        assert_eq!(failure(&[0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]), Unreadable::TooBig);
        let not_utf8 = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
        assert_eq!(failure(&encode(not_utf8)), Unreadable::NotUtf8);
        assert_eq!(failure(&[0x81, 0x01, b'x']), Unreadable::NotWebSocket);
        assert_eq!(failure(&[0xf1, 0x80, 1, 2, 3, 4]), Unreadable::NotWebSocket);
    }
}
