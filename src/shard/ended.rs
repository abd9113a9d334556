//! How connections end.

use crate::protocol::CloseCode;

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
    Transport,
    /// The server made a mistake while it served this connection.
    Panic,
}

impl Ended {
    /// The reason in the log and in the metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::ByClient(_) => "closed_by_client",
            Self::Gone => "gone",
            Self::Transport => "transport",
            Self::Panic => "panic",
            Self::ByServer(code) => code.label(),
        }
    }

    /// The close code, or 0 when there was no close frame. What clients may choose freely is not
    /// told apart: it would let them make up labels.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::ByServer(code) => code.number(),
            Self::ByClient(code @ (1000 | 1001 | 1005)) => *code,
            Self::ByClient(_) | Self::Gone | Self::Transport | Self::Panic => 0,
        }
    }
}
