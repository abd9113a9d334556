//! The pub/sub messages, and their encoding.
//!
//! Decoding any bytes that are published there fails or returns a valid message: other users of the same
//! Redis cannot make a node send invalid data to its clients.

use super::{ready::NodeState, session_requests::ReturnedClient};
use crate::{
    broker::clients::Place,
    hub::UserClose,
    protocol::{ChannelName, ClientName, Frame, FrameKind, Member, ResumeToken, SocketId},
};
use std::{sync::Arc, time::Instant};

/// Identifies a publish in the cluster: 24 bits for the process, 40 bits for a counter.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct EnvelopeId(pub(super) u64);

/// An event for the nodes, with the frame for clients.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) id: EnvelopeId,
    /// Whether an earlier attempt to publish it may have succeeded.
    pub(super) is_retry: bool,
    pub(super) except: Option<SocketId>,
    /// For how long a cache channel keeps it, in ms; 0 for not at all.
    pub(super) retention_ms: u64,
    pub(super) frame: Frame,
}

/// A message on the pub/sub channel of a topic.
#[derive(Debug)]
pub(super) enum Message {
    /// An event. Its sequence is 0 if the topic has none.
    Event { sequence: u64, envelope: Envelope },
    /// The cached event of a cache channel was evicted.
    Evicted(EnvelopeId),
    /// The topic has changed.
    Change { epoch: String, version: u64, change: Change },
}

/// A change of a topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// A user has joined with its first connection on any node.
    Added(Member),
    /// A user has left with its last connection on any node.
    Removed(Arc<str>),
    /// The total of all nodes has changed.
    Total(usize),
    /// The sequence of the latest event. A node with a lower one has missed events.
    Sequence(u64),
}

/// A message on the control channel.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ControlMessage {
    /// A heartbeat of a node.
    Heartbeat { node: String, state: NodeState },
    /// A console shows the nodes: each is to report its totals.
    ReportsWanted,
    /// The report of a process.
    Report { process: String, report: String },
    /// A question of the console of a process to those of all others.
    ConsoleQuestion { process: String, text: String },
    /// An answer of the console of a process, to the one that has asked.
    ConsoleAnswer { process: String, text: String },
    /// A client of the process in this place has returned to the claimant, which asks for its session.
    SessionWanted { claimant: Place, number: u64, client: ClientName },
    /// The session of a client for the process that has asked: how long ago its connection was lost, in ms, and its positions.
    /// `None` if nothing is left.
    Session { process: String, number: u64, session: Option<(u64, String)> },
    /// A client of the receiving process has subscribed to a channel on this one.
    Returned { process: String, client: ReturnedClient },
    /// Closes the connections of a user.
    CloseUser { app_id: String, user_id: String, close: UserClose },
    /// A record was added to the empty webhook log of an app.
    WebhookLogNonEmpty { app_id: String },
    /// The lease to deliver an app's webhooks was released.
    WebhookLeaseReleased { app_id: String },
}

/// The error for messages that are invalid or not of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct DecodeError;

/// The first byte of an envelope: the version of its layout.
const ENVELOPE_VERSION: u8 = 1;
const HEADER: usize = 1 + 1 + 8 + 8 + 8;
const RETRY_FLAG: u8 = 1;
const CLIENT_EVENT_FLAG: u8 = 2;

impl Envelope {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.frame.bytes().len());
        let mut flags = 0;
        if self.is_retry {
            flags |= RETRY_FLAG;
        }
        if self.frame.kind() == FrameKind::ClientEvent {
            flags |= CLIENT_EVENT_FLAG;
        }
        bytes.extend_from_slice(&[ENVELOPE_VERSION, flags]);
        bytes.extend_from_slice(&self.id.0.to_be_bytes());
        bytes.extend_from_slice(&self.except.map_or(0, SocketId::bits).to_be_bytes());
        bytes.extend_from_slice(&self.retention_ms.to_be_bytes());
        bytes.extend_from_slice(self.frame.bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8], now: Instant) -> Result<Self, DecodeError> {
        let (header, frame) = bytes.split_at_checked(HEADER).ok_or(DecodeError)?;
        let number = |at: usize| {
            let eight = header[at..at + 8].try_into().expect("eight bytes of the header");
            u64::from_be_bytes(eight)
        };
        if header[0] != ENVELOPE_VERSION || header[1] & !(RETRY_FLAG | CLIENT_EVENT_FLAG) != 0 {
            return Err(DecodeError);
        }
        let except = match number(10) {
            0 => None,
            bits => Some(SocketId::from_bits(bits).ok_or(DecodeError)?),
        };
        let kind = if header[1] & CLIENT_EVENT_FLAG == 0 {
            FrameKind::Event
        } else {
            FrameKind::ClientEvent
        };
        Ok(Self {
            id: EnvelopeId(number(2)),
            is_retry: header[1] & RETRY_FLAG != 0,
            except,
            retention_ms: number(18),
            frame: Frame::from_encoded(kind, frame, now).ok_or(DecodeError)?,
        })
    }
}

impl EnvelopeId {
    pub(super) const COUNTER_BITS: u32 = 40;

    /// Reads an id from its 8 bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u64::from_be_bytes(bytes)))
    }

    pub(super) fn process(self) -> u32 {
        u32::try_from(self.0 >> Self::COUNTER_BITS).expect("24 bits are left")
    }

    pub(super) fn counter(self) -> u64 {
        self.0 & ((1 << Self::COUNTER_BITS) - 1)
    }
}

/// Splits off a decimal number and the following space.
pub(super) fn split_number(bytes: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    let (digits, rest) = split_word(bytes)?;
    digits.parse().map(|number| (number, rest)).map_err(|_| DecodeError)
}

/// Splits off a word and the following space.
fn split_word(bytes: &[u8]) -> Result<(&str, &[u8]), DecodeError> {
    let space = bytes.iter().position(|byte| *byte == b' ').ok_or(DecodeError)?;
    let word = std::str::from_utf8(&bytes[..space]).map_err(|_| DecodeError)?;
    Ok((word, &bytes[space + 1..]))
}

/// Splits off as many bytes as the decimal number before them says.
fn split_length(bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let (len, rest) = split_number(bytes)?;
    let len = usize::try_from(len).map_err(|_| DecodeError)?;
    rest.split_at_checked(len).ok_or(DecodeError)
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError)
}

impl Message {
    pub(super) fn decode(bytes: &[u8], now: Instant) -> Result<Self, DecodeError> {
        let (kind, rest) = split_word(bytes)?;
        if kind == "E" {
            let (sequence, envelope) = split_number(rest)?;
            return Ok(Self::Event { sequence, envelope: Envelope::decode(envelope, now)? });
        }
        if kind == "F" {
            let id = u64::from_str_radix(text(rest)?, 16).map_err(|_| DecodeError)?;
            return Ok(Self::Evicted(EnvelopeId(id)));
        }
        let (epoch, rest) = split_word(rest)?;
        let (version, rest) = split_number(rest)?;
        let change = match kind {
            "A" => {
                let (user_id, info) = split_length(rest)?;
                Change::Added(Member::from_parts(text(user_id)?, text(info)?).ok_or(DecodeError)?)
            }
            "R" => Change::Removed(text(rest)?.into()),
            "S" => Change::Sequence(text(rest)?.parse().map_err(|_| DecodeError)?),
            "T" => Change::Total(text(rest)?.parse().map_err(|_| DecodeError)?),
            _ => return Err(DecodeError),
        };
        Ok(Self::Change { epoch: epoch.to_owned(), version, change })
    }
}

impl ControlMessage {
    pub(super) fn encode(&self) -> String {
        match self {
            Self::Heartbeat { node, state } => format!("{} {node}", state.code()),
            Self::ReportsWanted => "W".to_owned(),
            Self::Report { process, report } => format!("I {process} {report}"),
            Self::ConsoleQuestion { process, text } => format!("Q {process} {text}"),
            Self::ConsoleAnswer { process, text } => format!("A {process} {text}"),
            Self::SessionWanted { claimant: Place { process, number: by }, number, client } => {
                let ClientName { app_id, token } = client;
                format!("T {process} {by} {number} {} {app_id}", token.as_str())
            }
            Self::Session { process, number, session: Some((lost_ms, positions)) } => {
                format!("P {process} {number} {lost_ms} {positions}")
            }
            Self::Session { process, number, session: None } => {
                format!("P {process} {number} 0 ")
            }
            Self::Returned { process, client } => {
                let ReturnedClient { app_id, socket_id, channel, user_id } = client;
                let user_id = user_id.as_deref().unwrap_or_default();
                let (socket_id, len) = (socket_id.bits(), app_id.len());
                format!("G {process} {socket_id} {channel} {len} {app_id}{user_id}")
            }
            Self::CloseUser { app_id, user_id, close } => {
                let kind = match close {
                    UserClose::Terminate => "K",
                    UserClose::Reconnect => "C",
                };
                format!("{kind} {} {app_id}{user_id}", app_id.len())
            }
            Self::WebhookLogNonEmpty { app_id } => format!("L {app_id}"),
            Self::WebhookLeaseReleased { app_id } => format!("V {app_id}"),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes == b"W" {
            return Ok(Self::ReportsWanted);
        }
        let (kind, rest) = split_word(bytes)?;
        if let Some(state) = NodeState::from_code(kind) {
            return Ok(Self::Heartbeat { node: text(rest)?.to_owned(), state });
        }
        match kind {
            "L" => Ok(Self::WebhookLogNonEmpty { app_id: text(rest)?.to_owned() }),
            "V" => Ok(Self::WebhookLeaseReleased { app_id: text(rest)?.to_owned() }),
            "I" => {
                let (process, report) = split_word(rest)?;
                Ok(Self::Report { process: process.to_owned(), report: text(report)?.to_owned() })
            }
            "Q" => {
                let (process, question) = split_word(rest)?;
                let text = text(question)?.to_owned();
                Ok(Self::ConsoleQuestion { process: process.to_owned(), text })
            }
            "A" => {
                let (process, answer) = split_word(rest)?;
                let text = text(answer)?.to_owned();
                Ok(Self::ConsoleAnswer { process: process.to_owned(), text })
            }
            "T" => Self::decode_session_wanted(rest),
            "P" => Self::decode_session(rest),
            "G" => Self::decode_returned(rest),
            "K" | "C" => {
                let (app_id, user_id) = split_length(rest)?;
                let close = if kind == "K" { UserClose::Terminate } else { UserClose::Reconnect };
                Ok(Self::CloseUser {
                    app_id: text(app_id)?.to_owned(),
                    user_id: text(user_id)?.to_owned(),
                    close,
                })
            }
            _ => Err(DecodeError),
        }
    }

    fn decode_session_wanted(rest: &[u8]) -> Result<Self, DecodeError> {
        let (process, rest) = split_word(rest)?;
        let (by, rest) = split_number(rest)?;
        let (number, rest) = split_number(rest)?;
        let (token, app_id) = split_word(rest)?;
        let token = ResumeToken::parse(token).map_err(|_| DecodeError)?;
        Ok(Self::SessionWanted {
            claimant: Place { process: process.to_owned(), number: by },
            number,
            client: ClientName { app_id: text(app_id)?.into(), token },
        })
    }

    fn decode_session(rest: &[u8]) -> Result<Self, DecodeError> {
        let (process, rest) = split_word(rest)?;
        let (number, rest) = split_number(rest)?;
        let (lost_ms, positions) = split_number(rest)?;
        let positions = text(positions)?.to_owned();
        let session = (!positions.is_empty()).then_some((lost_ms, positions));
        Ok(Self::Session { process: process.to_owned(), number, session })
    }

    fn decode_returned(rest: &[u8]) -> Result<Self, DecodeError> {
        let (process, rest) = split_word(rest)?;
        let (socket_id, rest) = split_number(rest)?;
        let (channel, rest) = split_word(rest)?;
        let (app_id, user_id) = split_length(rest)?;
        let client = ReturnedClient {
            app_id: text(app_id)?.into(),
            socket_id: SocketId::from_bits(socket_id).ok_or(DecodeError)?,
            // Its length was checked when the client subscribed.
            channel: ChannelName::parse(channel, usize::MAX).map_err(|_| DecodeError)?,
            user_id: (!user_id.is_empty()).then(|| text(user_id).map(Into::into)).transpose()?,
        };
        Ok(Self::Returned { process: process.to_owned(), client })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn envelope() -> Envelope {
        Envelope {
            id: EnvelopeId(7 << 40 | 9),
            is_retry: true,
            except: Some(SocketId::from_random(0x1234_5678_9abc)),
            retention_ms: 1_800_000,
            frame: Frame::published(FrameKind::ClientEvent, r#"{"event":"e"}"#, Instant::now()),
        }
    }

    #[test]
    fn an_envelope_is_decoded_as_it_was_encoded() {
        let sent = envelope();
        let read = Envelope::decode(&sent.encode(), Instant::now()).unwrap();
        assert_eq!(
            (read.id, read.is_retry, read.except, read.retention_ms),
            (sent.id, true, sent.except, sent.retention_ms)
        );
        assert_eq!(read.frame.bytes(), sent.frame.bytes());
        assert_eq!(read.frame.kind(), FrameKind::ClientEvent);
    }

    #[test]
    fn changes_are_decoded() {
        let read = |text: &str| match Message::decode(text.as_bytes(), Instant::now()) {
            Ok(Message::Change { epoch, version, change }) => Ok((epoch, version, change)),
            Ok(Message::Event { .. } | Message::Evicted(_)) => panic!("an event"),
            Err(unexpected_data) => Err(unexpected_data),
        };
        let member = Member { user_id: "a b".into(), user_info: r#"{"x":" "}"#.into() };
        assert_eq!(read(r#"A ep 3 3 a b{"x":" "}"#), Ok(("ep".into(), 3, Change::Added(member))));
        assert_eq!(read("R ep 4 a b"), Ok(("ep".into(), 4, Change::Removed("a b".into()))));
        assert_eq!(read("S ep 5 17"), Ok(("ep".into(), 5, Change::Sequence(17))));
        assert_eq!(read("T ep 5 17"), Ok(("ep".into(), 5, Change::Total(17))));
        for unexpected_data in
            ["", "A", "A ep 3 9 a{}", "A ep 3 1 anot json", "T ep x 1", "S ep 1 x", "X ep 1 1"]
        {
            assert_eq!(read(unexpected_data), Err(DecodeError), "{unexpected_data}");
        }
    }

    #[test]
    fn control_messages_are_decoded_as_they_were_encoded() {
        let close_user = |close| ControlMessage::CloseUser {
            app_id: "an app".into(),
            user_id: "u 1".into(),
            close,
        };
        let session =
            |session| ControlMessage::Session { process: "0a1b2c".into(), number: 7, session };
        let returned = |user_id: Option<&str>| ControlMessage::Returned {
            process: "0a1b2c".into(),
            client: ReturnedClient {
                app_id: "an app".into(),
                socket_id: SocketId::from_random(7),
                channel: ChannelName::parse("presence-a", 200).unwrap(),
                user_id: user_id.map(Into::into),
            },
        };
        for control_message in [
            ControlMessage::Heartbeat { node: "n.1".into(), state: NodeState::Joining },
            ControlMessage::Heartbeat { node: "n.1".into(), state: NodeState::Ready },
            ControlMessage::Heartbeat { node: "n.1".into(), state: NodeState::Draining },
            close_user(UserClose::Terminate),
            close_user(UserClose::Reconnect),
            ControlMessage::ReportsWanted,
            ControlMessage::Report { process: "0a1b2c".into(), report: r#"{"a": 1}"#.into() },
            ControlMessage::ConsoleQuestion { process: "0a1b2c".into(), text: "{\"a\": 1}".into() },
            ControlMessage::ConsoleAnswer { process: "0a1b2c".into(), text: "{\"a\": 1}".into() },
            ControlMessage::SessionWanted {
                claimant: Place { process: "0a1b2c".into(), number: 7 },
                number: 9,
                client: ClientName {
                    app_id: "an app".into(),
                    token: ResumeToken::parse("0123456789abcdef").unwrap(),
                },
            },
            session(Some((17, r#"{"a": ["e", 1]}"#.into()))),
            session(None),
            returned(Some("u 1")),
            returned(None),
            ControlMessage::WebhookLogNonEmpty { app_id: "an app".into() },
            ControlMessage::WebhookLeaseReleased { app_id: "an app".into() },
        ] {
            assert_eq!(
                ControlMessage::decode(control_message.encode().as_bytes()),
                Ok(control_message)
            );
        }
        assert_eq!(ControlMessage::decode(b"K 99 short"), Err(DecodeError));
    }

    #[test]
    fn any_bytes_are_decoded_or_rejected() {
        let mut rng = StdRng::seed_from_u64(4);
        let whole = [b"E 12 ".as_slice(), &envelope().encode()].concat();
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            bytes.truncate(rng.random_range(0..=bytes.len()));
            if let Ok(Message::Event { envelope, .. }) = Message::decode(&bytes, Instant::now()) {
                let frame = envelope.frame.bytes();
                assert_eq!(usize::from(frame[1]), frame.len() - 2, "a frame that is none");
                assert!(std::str::from_utf8(&frame[2..]).is_ok());
            }
        }
    }

    #[test]
    fn the_header_contains_the_kind_of_event() {
        let now = Instant::now();
        for kind in [FrameKind::Event, FrameKind::ClientEvent] {
            for is_repeated in [false, true] {
                let frame = Frame::published(kind, "{}", now);
                let bytes = Envelope { is_retry: is_repeated, frame, ..envelope() }.encode();
                let read = Envelope::decode(&bytes, now).unwrap();
                assert_eq!((read.is_retry, read.frame.kind()), (is_repeated, kind));
                for (at, byte) in [(0, ENVELOPE_VERSION + 1), (1, 4), (1, 128 | RETRY_FLAG)] {
                    let mut unexpected_data = bytes.clone();
                    unexpected_data[at] = byte;
                    assert_eq!(
                        Envelope::decode(&unexpected_data, now).err(),
                        Some(DecodeError),
                        "{at}: {byte}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_eviction_is_decoded() {
        let read = |text: &str| Message::decode(text.as_bytes(), Instant::now());
        assert!(matches!(read("F ff"), Ok(Message::Evicted(EnvelopeId(255)))));
        assert!(read("F xyz").is_err());
        assert!(read("F").is_err());
    }
}
