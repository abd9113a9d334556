//! The Pusher Channels wire protocol, version 7: names, messages, frames, error codes.
//!
//! Everything here is a plain value. Nothing in this module reads a clock, takes a lock or
//! touches a socket, and nothing in it depends on another module of the crate, so the session can
//! be tested and fuzzed without a server.
//!
//! Start at [`ClientMessage`], which parses messages from clients, and [`event`], which encodes
//! messages to clients. [`ProtocolError`] maps each client error to its consequence.

mod channel;
mod close_codes;
mod error;
pub mod event;
mod frame;
mod json;
mod labels;
mod member;
mod message;
mod rejection;
mod resume;
mod socket_id;
mod user;
mod version;

pub use channel::{ChannelName, InvalidChannelName};
pub use close_codes::{
    CLOSE_EXPLANATIONS, CloseExplanation, HANDSHAKE_EXPLANATIONS, HandshakeExplanation,
    explain_close, explain_handshake,
};
pub use error::{
    AuthError, CloseCode, Consequence, ErrorCode, ProtocolError, SignInRejection,
    SubscriptionRejection,
};
pub use event::EventData;
pub use frame::{Frame, FrameKind, WeakFrame};
pub use json::{compact, parse_id, replace_lone_surrogates, unescaped_len};
pub use member::{Member, MemberLimits};
pub use message::{ClientEventMessage, ClientMessage, Malformed, Resume, SignIn, Subscribe};
pub use rejection::ClientEventRejection;
pub use resume::{ClientName, InvalidToken, NamedClient, ResumeToken};
pub use socket_id::{InvalidSocketId, SocketId};
pub use user::User;
pub use version::{Version, VersionError};
