//! Why connections are closed.

use crate::{
    hub::MessageCounts,
    node::{AdmittedClient, ClientInfo},
    protocol::{ChannelName, CloseCode, SocketId},
    recent::{self, ClosedConnection},
};
use std::{sync::Arc, time::Instant};

/// Maximum number of channels of a closed connection that are kept.
const CHANNELS_MAX: usize = 100;

/// The data of a client that is logged when its connection is closed.
#[derive(Debug)]
pub(super) struct ClosedClient {
    app: Arc<str>,
    socket_id: SocketId,
    from: ClientInfo,
    user: Option<Arc<str>>,
    channels: ClosedChannels,
}

/// The channels that a client was subscribed to when it left.
#[derive(Debug, Default)]
pub(super) struct ClosedChannels {
    count: usize,
    /// The names of some, if there is a console.
    names: Vec<ChannelName>,
}

impl ClosedChannels {
    /// Adds a channel.
    pub(super) fn add(&mut self, name: ChannelName) {
        self.count += 1;
        if self.names.len() < CHANNELS_MAX && recent::is_on() {
            self.names.push(name);
        }
    }
}

impl ClosedClient {
    pub(super) fn new<H>(client: AdmittedClient<H>, channels: ClosedChannels) -> Self {
        let user = client.session.user().map(|user| Arc::clone(&user.id));
        let socket_id = client.session.socket_id();
        Self { app: client.hub.app_id(), socket_id, from: client.info, user, channels }
    }

    /// Logs that the connection is closed.
    pub(super) fn log_close(self, close: &CloseReason, messages: MessageCounts, now: Instant) {
        let Self {
            app, socket_id, from: ClientInfo { address, origin, admitted_at }, user, ..
        } = &self;
        let (reason, code) = (close.label(), Some(close.code()).filter(|code| *code != 0));
        let duration_s = now.saturating_duration_since(*admitted_at).as_secs_f64();
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
            "connection closed"
        );
        let app = Arc::clone(app);
        recent::CLOSED.record(Some(&app), || self.closed_connection(close, messages, now));
    }

    fn closed_connection(
        self,
        close: &CloseReason,
        messages: MessageCounts,
        now: Instant,
    ) -> ClosedConnection {
        let duration = now.saturating_duration_since(self.from.admitted_at);
        ClosedConnection {
            app: self.app,
            socket_id: self.socket_id,
            address: self.from.address,
            origin: self.from.origin,
            user_id: self.user,
            subscriptions: self.channels.count,
            channels: self.channels.names,
            messages_in: messages.received,
            messages_out: messages.sent,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            code: Some(close.code()).filter(|code| *code != 0),
            reason: close.label(),
            message: Some(close.message()).filter(|message| !message.is_empty()),
        }
    }
}

/// The reason why a connection is closed, for the log and the metrics.
#[derive(Clone, Debug)]
pub(super) enum CloseReason {
    /// The server closed it with this code.
    ByServer(CloseCode),
    /// The client closed it, with this code; 1005 means without a code.
    ByClient(u16),
    /// The client disconnected without a close frame.
    Disconnected,
    /// A network error.
    NetworkError,
    /// A panic in the server while it served this connection.
    Panic,
}

impl CloseReason {
    /// The value of `reason` in the log and in the metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::ByClient(_) => "closed_by_client",
            Self::Disconnected => "disconnected",
            Self::NetworkError => "network_error",
            Self::Panic => "panic",
            Self::ByServer(code) => code.label(),
        }
    }

    /// The message of the server's close frame; empty if the server sent none.
    pub(super) fn message(&self) -> String {
        match self {
            Self::ByServer(code) => code.to_string(),
            Self::ByClient(_) | Self::Disconnected | Self::NetworkError | Self::Panic => {
                String::new()
            }
        }
    }

    /// The close code, or 0 without a close frame. Codes that clients may choose freely are one
    /// label: otherwise clients could create labels.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::ByServer(code) => code.number(),
            Self::ByClient(code @ (1000 | 1001 | 1005)) => *code,
            Self::ByClient(_) | Self::Disconnected | Self::NetworkError | Self::Panic => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_label_and_only_known_codes() {
        for (reason, label, code) in [
            (CloseReason::ByServer(CloseCode::PongTimeout), "pong_timeout", 4201),
            (CloseReason::ByServer(CloseCode::SlowConsumer), "slow_consumer", 4100),
            (CloseReason::ByClient(1000), "closed_by_client", 1000),
            (CloseReason::ByClient(1001), "closed_by_client", 1001),
            (CloseReason::ByClient(1005), "closed_by_client", 1005),
            (CloseReason::ByClient(1006), "closed_by_client", 0),
            (CloseReason::ByClient(4_321), "closed_by_client", 0),
            (CloseReason::Disconnected, "disconnected", 0),
            (CloseReason::NetworkError, "network_error", 0),
            (CloseReason::Panic, "panic", 0),
        ] {
            assert_eq!((reason.label(), reason.code()), (label, code));
        }
    }
}
