//! How connections end.

use crate::protocol::CloseCode;
use std::{fmt, io};

/// Why a connection ended; one for each log line and each count.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// The server closed it.
    ByServer(CloseCode),
    /// The client closed it, with this code; 1005 stands for none.
    ByClient(u16),
    /// The client went without a word.
    Gone,
    /// The network failed.
    Transport(io::ErrorKind),
    /// The server made a mistake while it served this connection.
    Panic,
}

impl Ended {
    /// The label in the metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::ByClient(_) => "closed_by_client",
            Self::Gone => "gone",
            Self::Transport(_) => "transport",
            Self::Panic => "panic",
            Self::ByServer(code) => match code {
                CloseCode::NotWebSocket => "not_websocket",
                CloseCode::NotUtf8 => "not_utf8",
                CloseCode::MessageTooBig { .. } => "message_too_big",
                CloseCode::TlsOnly => "tls_only",
                CloseCode::AppNotFound { .. } => "app_not_found",
                CloseCode::AppDisabled => "app_disabled",
                CloseCode::OverQuota => "over_quota",
                CloseCode::Version(_) => "version",
                CloseCode::OriginNotAllowed => "origin_not_allowed",
                CloseCode::NotAuthorizedInTime => "not_authorized_in_time",
                CloseCode::Terminated => "terminated",
                CloseCode::OverCapacity => "over_capacity",
                CloseCode::AddressOverCapacity => "address_over_capacity",
                CloseCode::SlowConsumer => "slow_consumer",
                CloseCode::TooManyMistakes => "too_many_mistakes",
                CloseCode::Draining => "draining",
                CloseCode::PongTimeout => "pong_timeout",
            },
        }
    }

    /// The close code, or 0 when there was no close frame. What clients may choose freely is not
    /// told apart: it would let them make up labels.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::ByServer(code) => code.number(),
            Self::ByClient(code @ (1000 | 1001 | 1005)) => *code,
            Self::ByClient(_) | Self::Gone | Self::Transport(_) | Self::Panic => 0,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByServer(code) => write!(f, "closed by server: {code}"),
            Self::ByClient(code) => write!(f, "closed by client: {code}"),
            Self::Gone => f.write_str("client went without a close frame"),
            Self::Transport(kind) => write!(f, "connection broke: {kind}"),
            Self::Panic => f.write_str("a panic of the server, which is a bug"),
        }
    }
}
