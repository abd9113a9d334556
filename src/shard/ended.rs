//! How connections end.

use crate::{
    node::{Admitted, ClientInfo},
    protocol::{CloseCode, SocketId},
};
use std::{sync::Arc, time::Instant};

/// The client of a connection, as the log line about the end names it.
#[derive(Debug)]
pub(super) struct ServedClient {
    app: Arc<str>,
    socket_id: SocketId,
    from: ClientInfo,
    user: Option<Arc<str>>,
}

impl ServedClient {
    pub(super) fn new<P>(client: Admitted<P>) -> Self {
        let user = client.session.user().map(|user| Arc::clone(&user.id));
        let socket_id = client.session.socket_id();
        Self { app: client.hub.app_id(), socket_id, from: client.from, user }
    }

    /// Logs the end of the connection.
    pub(super) fn log_end(&self, ended: &Ended, now: Instant) {
        let Self { app, socket_id, from: ClientInfo { address, origin, began }, user } = self;
        let (reason, code) = (ended.label(), Some(ended.code()).filter(|code| *code != 0));
        let duration_s = now.saturating_duration_since(*began).as_secs_f64();
        let duration_s = (duration_s * 1_000.0).round() / 1_000.0;
        tracing::info!(
            %socket_id,
            app = &**app,
            %address,
            origin = origin.as_deref(),
            user = user.as_deref(),
            duration_s,
            reason,
            code,
            "connection ended"
        );
    }
}

/// The reason why a connection ended, for the log and the metrics.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// The server closed it with this code.
    ByServer(CloseCode),
    /// The client closed it, with this code; 1005 means without a code.
    ByClient(u16),
    /// The client disconnected without a close frame.
    Gone,
    /// A network error.
    Transport,
    /// A panic in the server while it served this connection.
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

    /// The close code, or 0 without a close frame. Codes that clients may choose freely are one
    /// label: otherwise clients could create labels.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::ByServer(code) => code.number(),
            Self::ByClient(code @ (1000 | 1001 | 1005)) => *code,
            Self::ByClient(_) | Self::Gone | Self::Transport | Self::Panic => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_reason_and_only_known_codes() {
        for (ended, label, code) in [
            (Ended::ByServer(CloseCode::PongTimeout), "pong_timeout", 4201),
            (Ended::ByServer(CloseCode::SlowConsumer), "slow_consumer", 4100),
            (Ended::ByClient(1000), "closed_by_client", 1000),
            (Ended::ByClient(1001), "closed_by_client", 1001),
            (Ended::ByClient(1005), "closed_by_client", 1005),
            (Ended::ByClient(1006), "closed_by_client", 0),
            (Ended::ByClient(4_321), "closed_by_client", 0),
            (Ended::Gone, "gone", 0),
            (Ended::Transport, "transport", 0),
            (Ended::Panic, "panic", 0),
        ] {
            assert_eq!((ended.label(), ended.code()), (label, code));
        }
    }
}
