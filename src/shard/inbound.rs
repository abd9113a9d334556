//! Decodes the input of clients into messages, with tungstenite.
//!
//! When a read holds whole frames only, one context per shard serves all connections. A
//! connection has a context of its own only while a frame or message of its own is incomplete,
//! so an idle one holds no buffer.

use super::framing::{FrameError, Framing};
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

/// The decoder for all connections of a shard.
#[derive(Debug)]
pub(super) struct Inbound {
    config: WebSocketConfig,
    /// For reads that contain only whole frames. Absent while in use, or after a failure.
    shared: Option<Box<WebSocketContext>>,
}

/// An incomplete frame or message, or messages that are not read yet, with the decoder that holds
/// their first bytes.
#[derive(Debug)]
pub(super) struct Partial {
    framing: Framing,
    began_at: Instant,
    context: Box<WebSocketContext>,
    /// Bytes that the decoder has not received yet, because reading was paused.
    rest: Option<Vec<u8>>,
}

/// Reads the messages out of one piece of input.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    framing: Framing,
    /// When the incomplete message began; `None` if it begins with this piece.
    began_at: Option<Instant>,
    context: Box<WebSocketContext>,
    feed: Feed<'a>,
    pieces: usize,
}

/// Input of a client.
#[derive(Debug)]
pub(super) enum Received {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A ping, to which the reply is queued already, or a pong.
    SignOfLife,
    /// A close frame with this code. The reply is among the replies of the reader.
    Close(u16),
}

/// Read buffer of a context, in bytes. Larger frames grow it while they arrive.
const READ_BUFFER: usize = 4 * 1024;
/// A piece of a frame below this many bytes counts as a message: a stream in very small pieces
/// costs a read for each of them.
const SMALL_PIECE: usize = 512;
/// Maximum number of reply bytes of a context, for pings and closes, after which it fails.
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

    /// Changes the limit for messages that begin later.
    pub(super) fn set_max(&mut self, max_message_bytes: usize) {
        if self.config.max_message_size != Some(max_message_bytes) {
            *self = Self::new(max_message_bytes);
        }
    }

    fn context(&self) -> Box<WebSocketContext> {
        Box::new(WebSocketContext::new(Role::Server, Some(self.config)))
    }

    /// Starts to read `bytes`, which follow those of `partial`.
    pub(super) fn open<'a>(
        &mut self,
        partial: Option<Box<Partial>>,
        bytes: &'a [u8],
        replies: &'a mut Vec<u8>,
    ) -> Reader<'a> {
        let (mut framing, began_at, context) = match partial {
            Some(partial) => (partial.framing, Some(partial.began_at), Some(partial.context)),
            None => (Framing::default(), None, None),
        };
        let advance = framing.advance(bytes);
        let is_small_piece = bytes.len() < SMALL_PIECE && !framing.is_between_messages();
        let context = context
            .or_else(|| if framing.is_between_messages() { self.shared.take() } else { None })
            .unwrap_or_else(|| self.context());
        let feed = Feed { bytes: &bytes[..advance.legal], replies };
        let pieces = advance.fragments.max(usize::from(is_small_piece));
        Reader { framing, began_at, context, feed, pieces }
    }

    /// Resumes a paused reading, if there is one: `rest` is the result of [`Partial::take_rest`].
    pub(super) fn resume<'a>(
        partial: Partial,
        rest: &'a [u8],
        replies: &'a mut Vec<u8>,
    ) -> Reader<'a> {
        let Partial { framing, context, .. } = partial;
        Reader { framing, began_at: None, context, feed: Feed { bytes: rest, replies }, pieces: 0 }
    }

    /// Finishes reading a piece at `now`. Returns the state to keep if the last frame or message is
    /// incomplete.
    pub(super) fn close(&mut self, reader: Reader<'_>, now: Instant) -> Option<Box<Partial>> {
        let Reader { framing, began_at, context, .. } = reader;
        if framing.is_between_messages() {
            // A decoder with another limit is replaced.
            let is_current = context.get_config().max_message_size == self.config.max_message_size;
            self.shared = is_current.then_some(context).or_else(|| self.shared.take());
            return None;
        }
        let began_at = began_at.unwrap_or(now);
        Some(Box::new(Partial { framing, began_at, context, rest: None }))
    }

    /// Pauses the reading, and keeps the unread bytes for [`Inbound::resume`].
    pub(super) fn pause(reader: Reader<'_>, now: Instant) -> Partial {
        let Reader { framing, began_at, context, feed, .. } = reader;
        let rest = Some(feed.bytes.to_vec());
        Partial { framing, began_at: began_at.unwrap_or(now), context, rest }
    }
}

impl Partial {
    /// When the incomplete message began. Pings and pongs between its fragments do not extend its
    /// deadline. None if the reading is paused: then the server does not wait for the client.
    pub(super) fn began_at(&self) -> Option<Instant> {
        self.rest.is_none().then_some(self.began_at)
    }

    /// Takes the bytes that were kept when the reading was paused.
    pub(super) fn take_rest(&mut self) -> Option<Vec<u8>> {
        self.rest.take()
    }
}

impl Reader<'_> {
    /// Counts received pieces that take work without being a message: fragments of messages, and a
    /// small piece of a frame.
    pub(super) fn pieces(&self) -> usize {
        self.pieces
    }

    /// The next message, or `None` at the end of the piece.
    pub(super) fn next(&mut self) -> Result<Option<Received>, FrameError> {
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
                // The reply is written by the next call, which then reports the end.
                let _ = self.context.flush(&mut self.feed);
                Ok(Some(Received::Close(frame.map_or(1005, |frame| frame.code.into()))))
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                // The bytes before the illegal one were already read.
                self.framing.illegal().map_or(Ok(None), Err)
            }
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Err(FrameError::TooBig),
            Err(Error::Utf8(_)) => Err(FrameError::NotUtf8),
            Err(_) => Err(FrameError::NotWebSocket),
        }
    }

    /// The replies so far: pongs, and the reply to a close frame.
    pub(super) fn take_replies(&mut self) -> Option<Vec<u8>> {
        (!self.feed.replies.is_empty()).then(|| std::mem::take(self.feed.replies))
    }
}

/// A stream that ends with the input, and records the output.
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

    /// Feeds the pieces, and returns the texts and the replies.
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

    fn failure(bytes: &[u8]) -> FrameError {
        let mut inbound = Inbound::new(1_000);
        let mut replies = Vec::new();
        let mut reader = inbound.open(None, bytes, &mut replies);
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no failure"),
                Err(error) => return error,
            }
        }
    }

    #[test]
    fn each_failure_has_its_cause() {
        assert_eq!(failure(&text(&"x".repeat(1_001), Data::Text, true)), FrameError::TooBig);
        let halves = [
            text(&"x".repeat(600), Data::Text, false),
            text(&"x".repeat(600), Data::Continue, true),
        ];
        assert_eq!(failure(&halves.concat()), FrameError::TooBig);
        // Rejected by its announced length, before it is sent.
        assert_eq!(failure(&[0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]), FrameError::TooBig);
        let not_utf8 = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
        assert_eq!(failure(&encode(not_utf8)), FrameError::NotUtf8);
        assert_eq!(failure(&[0x81, 0x01, b'x']), FrameError::NotWebSocket);
        assert_eq!(failure(&[0xf1, 0x80, 1, 2, 3, 4]), FrameError::NotWebSocket);
    }

    #[test]
    fn fragments_and_small_pieces_of_frames_are_counted() {
        let mut inbound = Inbound::new(100_000);
        let mut pieces = |partial, bytes: &[u8]| {
            let mut replies = Vec::new();
            let mut reader = inbound.open(partial, bytes, &mut replies);
            while reader.next().unwrap().is_some() {}
            (reader.pieces(), inbound.close(reader, Instant::now()))
        };
        let whole = [text("one", Data::Text, true), ping("p"), text("two", Data::Text, true)];
        assert_eq!(pieces(None, &whole.concat()).0, 0);
        let (count, partial) = pieces(None, &text("", Data::Text, false));
        assert_eq!(count, 1);
        let (count, partial) = pieces(partial, &text("", Data::Continue, false).repeat(7));
        assert_eq!(count, 7);
        let (count, partial) = pieces(partial, &text("end", Data::Continue, true));
        assert_eq!((count, partial.is_none()), (0, true));

        let long = text(&"x".repeat(60_000), Data::Text, true);
        let (count, partial) = pieces(None, &long[..10_000]);
        assert_eq!(count, 0, "large pieces are what the network makes");
        let (count, partial) = pieces(partial, &long[10_000..10_100]);
        assert_eq!(count, 1);
        assert_eq!(pieces(partial, &long[10_100..]).0, 0);
    }

    #[test]
    fn a_paused_reading_resumes_where_it_stopped() {
        let stream = [
            text("one", Data::Text, true),
            text("two", Data::Text, true),
            text("frag", Data::Text, false),
            text("ment", Data::Continue, true),
            text("begun", Data::Text, true),
        ]
        .concat();
        let (now_there, later) = stream.split_at(stream.len() - 3);
        let mut inbound = Inbound::new(1_000);
        let now = Instant::now();
        let mut texts = Vec::new();
        let mut replies = Vec::new();
        let mut kept = Inbound::pause(inbound.open(None, now_there, &mut replies), now);
        // Reading is paused again after each message.
        let mut partial = loop {
            assert_eq!(kept.began_at(), None, "the client is not waited for");
            let rest = kept.take_rest().unwrap();
            let mut replies = Vec::new();
            let mut reader = Inbound::resume(kept, &rest, &mut replies);
            match reader.next().unwrap() {
                Some(Received::Text(text)) => texts.push(text.to_string()),
                Some(other) => panic!("{other:?}"),
                None => break inbound.close(reader, now),
            }
            kept = Inbound::pause(reader, now);
        };
        assert!(partial.as_ref().unwrap().began_at().is_some(), "one has begun");
        let mut replies = Vec::new();
        let mut reader = inbound.open(partial.take(), later, &mut replies);
        let Some(Received::Text(text)) = reader.next().unwrap() else { panic!("no text") };
        texts.push(text.to_string());
        assert_eq!(texts, ["one", "two", "fragment", "begun"]);
    }

    #[test]
    fn a_message_of_the_maximum_length_is_accepted_whole_or_in_fragments() {
        let longest = "x".repeat(1_000);
        assert_eq!(read(&[&text(&longest, Data::Text, true)]).0, [&*longest]);
        let halves =
            [text(&longest[..600], Data::Text, false), text(&longest[600..], Data::Continue, true)];
        assert_eq!(read(&[&halves.concat()]).0, [longest]);
        let one_more = [
            text(&"x".repeat(600), Data::Text, false),
            text(&"x".repeat(401), Data::Continue, true),
        ];
        assert_eq!(failure(&one_more.concat()), FrameError::TooBig);
    }

    #[test]
    fn a_new_limit_applies_to_messages_that_begin_later() {
        let mut inbound = Inbound::new(1_000);
        let result = |inbound: &mut Inbound, partial, bytes: &[u8]| {
            let mut replies = Vec::new();
            let mut reader = inbound.open(partial, bytes, &mut replies);
            let outcome = loop {
                match reader.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            (outcome, inbound.close(reader, Instant::now()))
        };
        let message = text(&"x".repeat(900), Data::Text, true);
        assert_eq!(result(&mut inbound, None, &message).0, Ok(()));
        let (_, begun) = result(&mut inbound, None, &message[..100]);
        inbound.set_max(500);
        inbound.set_max(500);
        assert_eq!(result(&mut inbound, begun, &message[100..]).0, Ok(()), "it began before");
        assert_eq!(result(&mut inbound, None, &message).0, Err(FrameError::TooBig));
        inbound.set_max(2_000);
        assert_eq!(result(&mut inbound, None, &message.repeat(2)).0, Ok(()));
    }

    #[test]
    fn a_piece_is_small_below_512_bytes() {
        let long = text(&"x".repeat(900), Data::Text, true);
        for (len, pieces) in [(1, 1), (511, 1), (512, 0), (long.len(), 0)] {
            let mut replies = Vec::new();
            let reader = Inbound::new(1_000).open(None, &long[..len], &mut replies).pieces();
            assert_eq!(reader, pieces, "{len}");
        }
    }

    #[test]
    fn the_deadline_of_a_message_starts_at_its_first_byte() {
        let mut inbound = Inbound::new(1_000);
        let start = Instant::now();
        let at = |seconds| start + std::time::Duration::from_secs(seconds);
        let long = text(&"x".repeat(100), Data::Text, true);
        let mut go_on = |partial, bytes: &[u8], now| {
            let mut replies = Vec::new();
            let mut reader = inbound.open(partial, bytes, &mut replies);
            while reader.next().unwrap().is_some() {}
            inbound.close(reader, now)
        };
        let mut partial = go_on(None, &long[..1], at(1));
        for (seconds, byte) in (2..).zip(&long[1..50]) {
            partial = go_on(partial, &[*byte], at(seconds));
        }
        assert_eq!(partial.as_ref().unwrap().began_at(), Some(at(1)));
        // One message ends and the next begins in one piece.
        let piece = [&long[50..], &long[..9]].concat();
        let partial = go_on(partial, &piece, at(99));
        assert_eq!(partial.unwrap().began_at(), Some(at(99)));
        // A ping between fragments does not extend the deadline.
        let partial = go_on(None, &text("a", Data::Text, false), at(200));
        let partial = go_on(partial, &ping("p"), at(210));
        assert_eq!(partial.unwrap().began_at(), Some(at(200)));
    }
}
