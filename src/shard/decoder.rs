//! Decodes the input of clients into messages, with tungstenite.
//!
//! When a read holds whole frames only, one context per shard serves all connections. A
//! connection has a context of its own only while a frame or message of its own is incomplete,
//! so an idle one holds no buffer.

use super::frame_validator::{FrameError, FrameValidator};
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

/// Decodes the input of all connections of a shard.
#[derive(Debug)]
pub(super) struct Decoder {
    config: WebSocketConfig,
    /// For reads that contain only whole frames. Absent while in use, or after a failure.
    shared: Option<Box<WebSocketContext>>,
}

/// The state of a connection between two reads: an incomplete frame or message, or messages that
/// are not handled yet because reading was paused.
#[derive(Debug)]
pub(super) struct IncompleteMessage {
    validator: FrameValidator,
    began_at: Instant,
    context: Box<WebSocketContext>,
    /// Bytes that the context has not received yet, because reading was paused.
    paused_bytes: Option<Vec<u8>>,
}

/// Reads the messages in the bytes of one read from the socket.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    validator: FrameValidator,
    /// When the incomplete message began; `None` if it begins in these bytes.
    began_at: Option<Instant>,
    context: Box<WebSocketContext>,
    stream: InputStream<'a>,
    /// The value of [`Reader::fragments`].
    fragments: usize,
}

/// A message or a control frame of a client.
#[derive(Debug)]
pub(super) enum Received {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A ping, to which the reply is queued already.
    Ping,
    /// A pong, with the number that the ping had, if it had one.
    Pong(Option<u64>),
    /// A close frame with this code. The reply is among the replies of the reader.
    Close(u16),
}

/// Read buffer of a context, in bytes: it is zeroed for each read, and most messages fit. Larger frames grow it while they
/// arrive.
const READ_BUFFER: usize = 1024;
/// A part of a frame below this many bytes counts as a message, since it costs a read.
const SMALL_FRAGMENT_BYTES: usize = 512;
/// Maximum number of reply bytes of a context, for pings and closes, after which it fails.
const REPLY_BYTES_MAX: usize = 1 << 20;

impl Decoder {
    /// `max_message_bytes` bounds a message, and each frame of it.
    pub(super) fn new(max_message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(REPLY_BYTES_MAX)
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

    /// Starts to read `bytes`, which follow those of `incomplete`.
    pub(super) fn start_read<'a>(
        &mut self,
        incomplete: Option<Box<IncompleteMessage>>,
        bytes: &'a [u8],
        replies: &'a mut Vec<u8>,
    ) -> Reader<'a> {
        let (mut validator, began_at, context) = match incomplete {
            Some(incomplete) => {
                (incomplete.validator, Some(incomplete.began_at), Some(incomplete.context))
            }
            None => (FrameValidator::default(), None, None),
        };
        let advance = validator.advance(bytes);
        let is_small = bytes.len() < SMALL_FRAGMENT_BYTES && !validator.is_between_messages();
        let context = context
            .or_else(|| if validator.is_between_messages() { self.shared.take() } else { None })
            .unwrap_or_else(|| self.context());
        let stream = InputStream { bytes: &bytes[..advance.valid_len], replies };
        let fragments = advance.fragments.max(usize::from(is_small));
        Reader { validator, began_at, context, stream, fragments }
    }

    /// Resumes a paused reading; `paused_bytes` is the result of
    /// [`IncompleteMessage::take_paused_bytes`].
    pub(super) fn resume<'a>(
        incomplete: IncompleteMessage,
        paused_bytes: &'a [u8],
        replies: &'a mut Vec<u8>,
    ) -> Reader<'a> {
        let IncompleteMessage { validator, context, .. } = incomplete;
        let stream = InputStream { bytes: paused_bytes, replies };
        Reader { validator, began_at: None, context, stream, fragments: 0 }
    }

    /// Finishes reading at `now`. Returns the state to keep if the last frame or message is
    /// incomplete.
    pub(super) fn finish_read(
        &mut self,
        reader: Reader<'_>,
        now: Instant,
    ) -> Option<Box<IncompleteMessage>> {
        let Reader { validator, began_at, context, .. } = reader;
        if validator.is_between_messages() {
            // A decoder with another limit is replaced.
            let is_current = context.get_config().max_message_size == self.config.max_message_size;
            self.shared = is_current.then_some(context).or_else(|| self.shared.take());
            return None;
        }
        let began_at = began_at.unwrap_or(now);
        Some(Box::new(IncompleteMessage { validator, began_at, context, paused_bytes: None }))
    }

    /// Pauses the reading, and keeps the remaining bytes for [`Decoder::resume`].
    pub(super) fn pause(reader: Reader<'_>, now: Instant) -> IncompleteMessage {
        let Reader { validator, began_at, context, stream, .. } = reader;
        let paused_bytes = Some(stream.bytes.to_vec());
        IncompleteMessage { validator, began_at: began_at.unwrap_or(now), context, paused_bytes }
    }
}

impl IncompleteMessage {
    /// When the incomplete message began. Pings and pongs between its fragments do not extend its
    /// deadline. None if the reading is paused: then the server does not wait for the client.
    pub(super) fn began_at(&self) -> Option<Instant> {
        self.paused_bytes.is_none().then_some(self.began_at)
    }

    /// Takes the bytes that were kept when the reading was paused.
    pub(super) fn take_paused_bytes(&mut self) -> Option<Vec<u8>> {
        self.paused_bytes.take()
    }
}

impl Reader<'_> {
    /// The number of inputs that cost work and complete no message: fragments of messages, and one
    /// if the bytes are a small part of a frame.
    pub(super) fn fragments(&self) -> usize {
        self.fragments
    }

    /// The next message or control frame; `None` at the end of the bytes.
    pub(super) fn next(&mut self) -> Result<Option<Received>, FrameError> {
        match self.context.read(&mut self.stream) {
            Ok(Message::Text(text)) => {
                self.began_at = None;
                Ok(Some(Received::Text(text)))
            }
            Ok(Message::Binary(bytes)) => {
                self.began_at = None;
                Ok(Some(Received::Binary(bytes)))
            }
            Ok(Message::Ping(_) | Message::Frame(_)) => Ok(Some(Received::Ping)),
            Ok(Message::Pong(payload)) => {
                let number = payload.as_ref().try_into().ok().map(u64::from_be_bytes);
                Ok(Some(Received::Pong(number)))
            }
            Ok(Message::Close(frame)) => {
                // The reply is written by the next call, which then reports the end.
                let _ = self.context.flush(&mut self.stream);
                Ok(Some(Received::Close(frame.map_or(1005, |frame| frame.code.into()))))
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                // The bytes before the invalid one were already read.
                self.validator.error().map_or(Ok(None), Err)
            }
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Err(FrameError::TooBig),
            Err(Error::Utf8(_)) => Err(FrameError::NotUtf8),
            Err(_) => Err(FrameError::NotWebSocket),
        }
    }

    /// The replies so far: pongs, and the reply to a close frame.
    pub(super) fn take_replies(&mut self) -> Option<Vec<u8>> {
        (!self.stream.replies.is_empty()).then(|| std::mem::take(self.stream.replies))
    }
}

/// A stream that would block after the input, and that records the output.
#[derive(Debug)]
struct InputStream<'a> {
    bytes: &'a [u8],
    replies: &'a mut Vec<u8>,
}

impl Read for InputStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes.read(buffer)
    }
}

impl Write for InputStream<'_> {
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
        let mut decoder = Decoder::new(1_000);
        let (mut texts, mut replies, mut incomplete) = (Vec::new(), Vec::new(), None);
        for piece in pieces {
            let mut written = Vec::new();
            let mut reader = decoder.start_read(incomplete.take(), piece, &mut written);
            while let Some(received) = reader.next().unwrap() {
                if let Received::Text(text) = received {
                    texts.push(text.to_string());
                }
                replies.extend(reader.take_replies().into_iter().flatten());
            }
            replies.extend(reader.take_replies().into_iter().flatten());
            incomplete = decoder.finish_read(reader, Instant::now());
        }
        (texts, replies, incomplete.is_none())
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
    fn every_ping_has_a_reply() {
        let stream = [ping("a"), ping("b"), ping("c")].concat();
        assert_eq!(read(&[&stream]).1, [0x8a, 1, b'a', 0x8a, 1, b'b', 0x8a, 1, b'c']);
    }

    fn failure(bytes: &[u8]) -> FrameError {
        let mut decoder = Decoder::new(1_000);
        let mut replies = Vec::new();
        let mut reader = decoder.start_read(None, bytes, &mut replies);
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
    fn fragments_and_small_parts_of_frames_are_counted() {
        let mut decoder = Decoder::new(100_000);
        let mut fragments = |incomplete, bytes: &[u8]| {
            let mut replies = Vec::new();
            let mut reader = decoder.start_read(incomplete, bytes, &mut replies);
            while reader.next().unwrap().is_some() {}
            (reader.fragments(), decoder.finish_read(reader, Instant::now()))
        };
        let whole = [text("one", Data::Text, true), ping("p"), text("two", Data::Text, true)];
        assert_eq!(fragments(None, &whole.concat()).0, 0);
        let (count, incomplete) = fragments(None, &text("", Data::Text, false));
        assert_eq!(count, 1);
        let (count, incomplete) = fragments(incomplete, &text("", Data::Continue, false).repeat(7));
        assert_eq!(count, 7);
        let (count, incomplete) = fragments(incomplete, &text("end", Data::Continue, true));
        assert_eq!((count, incomplete.is_none()), (0, true));

        let long = text(&"x".repeat(60_000), Data::Text, true);
        let (count, incomplete) = fragments(None, &long[..10_000]);
        assert_eq!(count, 0, "the network splits messages into large parts");
        let (count, incomplete) = fragments(incomplete, &long[10_000..10_100]);
        assert_eq!(count, 1);
        assert_eq!(fragments(incomplete, &long[10_100..]).0, 0);
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
        let mut decoder = Decoder::new(1_000);
        let now = Instant::now();
        let mut texts = Vec::new();
        let mut replies = Vec::new();
        let mut kept = Decoder::pause(decoder.start_read(None, now_there, &mut replies), now);
        // Reading is paused again after each message.
        let mut incomplete = loop {
            assert_eq!(kept.began_at(), None, "the client is not waited for");
            let paused_bytes = kept.take_paused_bytes().unwrap();
            let mut replies = Vec::new();
            let mut reader = Decoder::resume(kept, &paused_bytes, &mut replies);
            match reader.next().unwrap() {
                Some(Received::Text(text)) => texts.push(text.to_string()),
                Some(other) => panic!("{other:?}"),
                None => break decoder.finish_read(reader, now),
            }
            kept = Decoder::pause(reader, now);
        };
        assert!(incomplete.as_ref().unwrap().began_at().is_some(), "one has begun");
        let mut replies = Vec::new();
        let mut reader = decoder.start_read(incomplete.take(), later, &mut replies);
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
        let mut decoder = Decoder::new(1_000);
        let result = |decoder: &mut Decoder, incomplete, bytes: &[u8]| {
            let mut replies = Vec::new();
            let mut reader = decoder.start_read(incomplete, bytes, &mut replies);
            let outcome = loop {
                match reader.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            (outcome, decoder.finish_read(reader, Instant::now()))
        };
        let message = text(&"x".repeat(900), Data::Text, true);
        assert_eq!(result(&mut decoder, None, &message).0, Ok(()));
        let (_, begun) = result(&mut decoder, None, &message[..100]);
        decoder.set_max(500);
        decoder.set_max(500);
        assert_eq!(result(&mut decoder, begun, &message[100..]).0, Ok(()), "it began before");
        assert_eq!(result(&mut decoder, None, &message).0, Err(FrameError::TooBig));
        decoder.set_max(2_000);
        assert_eq!(result(&mut decoder, None, &message.repeat(2)).0, Ok(()));
    }

    #[test]
    fn a_part_of_a_frame_is_small_below_512_bytes() {
        let long = text(&"x".repeat(900), Data::Text, true);
        for (len, fragments) in [(1, 1), (511, 1), (512, 0), (long.len(), 0)] {
            let mut replies = Vec::new();
            let reader =
                Decoder::new(1_000).start_read(None, &long[..len], &mut replies).fragments();
            assert_eq!(reader, fragments, "{len}");
        }
    }

    #[test]
    fn the_deadline_of_a_message_starts_at_its_first_byte() {
        let mut decoder = Decoder::new(1_000);
        let start = Instant::now();
        let at = |seconds| start + std::time::Duration::from_secs(seconds);
        let long = text(&"x".repeat(100), Data::Text, true);
        let mut go_on = |incomplete, bytes: &[u8], now| {
            let mut replies = Vec::new();
            let mut reader = decoder.start_read(incomplete, bytes, &mut replies);
            while reader.next().unwrap().is_some() {}
            decoder.finish_read(reader, now)
        };
        let mut incomplete = go_on(None, &long[..1], at(1));
        for (seconds, byte) in (2..).zip(&long[1..50]) {
            incomplete = go_on(incomplete, &[*byte], at(seconds));
        }
        assert_eq!(incomplete.as_ref().unwrap().began_at(), Some(at(1)));
        // One message ends and the next begins in one read.
        let piece = [&long[50..], &long[..9]].concat();
        let incomplete = go_on(incomplete, &piece, at(99));
        assert_eq!(incomplete.unwrap().began_at(), Some(at(99)));
        // A ping between fragments does not extend the deadline.
        let incomplete = go_on(None, &text("a", Data::Text, false), at(200));
        let incomplete = go_on(incomplete, &ping("p"), at(210));
        assert_eq!(incomplete.unwrap().began_at(), Some(at(200)));
    }
}
