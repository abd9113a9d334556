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
    pub(super) fn new<'a>(channels: impl ExactSizeIterator<Item = &'a ChannelName>) -> Self {
        let count = channels.len();
        let names_max = if recent::is_on() { CHANNELS_MAX } else { 0 };
        Self { count, names: channels.take(names_max).cloned().collect() }
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
    /// The client has returned on another connection.
    Replaced,
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
            Self::Replaced => "replaced",
            Self::Panic => "panic",
            Self::ByServer(code) => code.label(),
        }
    }

    /// The message of the server's close frame; empty if the server sent none.
    pub(super) fn message(&self) -> String {
        match self {
            Self::ByServer(code) => code.to_string(),
            Self::ByClient(_)
            | Self::Disconnected
            | Self::NetworkError
            | Self::Replaced
            | Self::Panic => String::new(),
        }
    }

    /// The close code, or 0 without a close frame. Codes that clients may choose freely are one
    /// label: otherwise clients could create labels.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::ByServer(code) => code.number(),
            Self::ByClient(code @ (1000 | 1001 | 1005)) => *code,
            Self::ByClient(_)
            | Self::Disconnected
            | Self::NetworkError
            | Self::Replaced
            | Self::Panic => 0,
        }
    }
}

/// What the end of a connection says about its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Departure {
    /// The line was lost, or the server closed it: the client returns if it can.
    Lost,
    /// The page is gone, or was suspended and is back, after which browsers close in the same way: if it returns, it does so
    /// soon.
    Away,
    /// The client has closed the connection, and may return.
    Left,
    /// The client is not to come back unchanged: what is known of it is forgotten.
    Final,
}

impl CloseReason {
    /// What it says about the client. `has_just_pinged` if the client's latest message is a ping from just now: it
    /// closes a line that it believes lost, and both arrive once the line heals.
    pub(super) fn departure(&self, has_just_pinged: bool) -> Departure {
        match self {
            Self::ByServer(code) => match code.number() {
                4100..=4299 => Departure::Lost,
                _ => Departure::Final,
            },
            // pusher-js closes with 1005 in browsers, and with 1000 in Node.
            Self::ByClient(1000 | 1005) if has_just_pinged => Departure::Lost,
            Self::ByClient(1001) => Departure::Away,
            Self::ByClient(_) => Departure::Left,
            Self::Disconnected | Self::NetworkError | Self::Replaced | Self::Panic => {
                Departure::Lost
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lost_clients_are_expected_back() {
        let by_server = CloseReason::ByServer;
        for (reason, expected) in [
            (by_server(CloseCode::PongTimeout), Departure::Lost),
            (by_server(CloseCode::SlowConsumer), Departure::Lost),
            (by_server(CloseCode::Draining), Departure::Lost),
            (by_server(CloseCode::Terminated), Departure::Final),
            (by_server(CloseCode::AppDisabled), Departure::Final),
            (by_server(CloseCode::NotUtf8), Departure::Final),
            (CloseReason::ByClient(1000), Departure::Left),
            (CloseReason::ByClient(1001), Departure::Away),
            (CloseReason::ByClient(1005), Departure::Left),
            (CloseReason::Disconnected, Departure::Lost),
            (CloseReason::NetworkError, Departure::Lost),
            (CloseReason::Replaced, Departure::Lost),
        ] {
            assert_eq!(reason.departure(false), expected, "{reason:?}");
        }
        assert_eq!(CloseReason::ByClient(1005).departure(true), Departure::Lost);
        assert_eq!(CloseReason::ByClient(1000).departure(true), Departure::Lost);
        assert_eq!(CloseReason::ByClient(1001).departure(true), Departure::Away);
        assert_eq!(CloseReason::ByClient(4000).departure(true), Departure::Left);
    }

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
            (CloseReason::Replaced, "replaced", 0),
            (CloseReason::Panic, "panic", 0),
        ] {
            assert_eq!((reason.label(), reason.code()), (label, code));
        }
    }
}
