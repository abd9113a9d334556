//! The errors of clients, with their codes and consequences.

use super::{
    ClientEventRejection, InvalidChannelName, Malformed, VersionError, rejection::truncate_echo,
};
use std::fmt;

/// The reason for which the server closes a connection. The close code tells the client library
/// whether and when to reconnect.
///
/// Source: Pusher Channels docs, "WebSocket protocol", section "Error codes"; RFC 6455, 7.4.1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CloseCode {
    // 1000-1999: WebSocket's own. Clients reconnect after a second.
    /// The client's bytes are not WebSocket frames.
    NotWebSocket,
    /// A text message is not UTF-8.
    NotUtf8,
    /// A message is larger than `max_message_bytes`.
    MessageTooBig {
        /// The limit that was exceeded, in bytes.
        max: usize,
    },
    // 4000-4099: the client must not reconnect unchanged.
    /// The app is served over TLS only.
    TlsOnly,
    /// No app has this key.
    AppNotFound {
        /// The requested key, chosen by the client.
        key: String,
    },
    /// The app is disabled.
    AppDisabled,
    /// The path names a token, and it is not one.
    InvalidToken,
    /// The app has reached its limit of connections.
    OverQuota,
    /// The client requests a version that is not supported.
    Version(VersionError),
    /// The page's origin is not among the app's `allowed_origins`.
    OriginNotAllowed,
    /// The app's secret is public, and the page or its `Host` is not loopback.
    DevelopmentOnly,
    /// The client neither signed in nor subscribed to a channel with authorization in time.
    NotAuthorizedInTime,
    /// The application terminated the user's connections.
    Terminated,
    // 4100-4199: reconnect after at least one second.
    /// The database of apps is unavailable, so it is unknown whether an app has this key.
    AppsUnavailable,
    /// The node has reached its limit of connections.
    OverCapacity,
    /// The address has reached its limit of connections.
    AddressOverCapacity,
    /// The address exceeds its rate of new connections.
    AddressTooFast,
    /// The client reads more slowly than its channels publish.
    SlowConsumer,
    /// The client sent too many invalid messages.
    TooManyErrors,
    /// The client continued to exceed its message rate.
    TooManyMessages,
    /// A message of the client was not completed in time.
    MessageTimeout,
    /// The server shuts down, and no other is known to be available.
    ShuttingDown,
    // 4200-4299: reconnect at once.
    /// The server shuts down, and another one is available.
    Draining,
    /// The client may have missed events, because the node was disconnected from Redis.
    EventsMissed,
    /// The application asked the user's connections to reconnect.
    ReconnectRequested,
    /// The client did not reply to a ping.
    PongTimeout,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(&self) -> u16 {
        match self {
            Self::NotWebSocket => 1002,
            Self::NotUtf8 => 1007,
            Self::MessageTooBig { .. } => 1009,
            Self::TlsOnly => 4000,
            Self::AppNotFound { .. } => 4001,
            Self::AppDisabled => 4003,
            Self::OverQuota => 4004,
            Self::InvalidToken => 4005,
            Self::Version(VersionError::Malformed) => 4006,
            Self::Version(VersionError::Unsupported) => 4007,
            Self::Version(VersionError::Missing) => 4008,
            Self::OriginNotAllowed
            | Self::DevelopmentOnly
            | Self::NotAuthorizedInTime
            | Self::Terminated => 4009,
            Self::AppsUnavailable
            | Self::OverCapacity
            | Self::AddressOverCapacity
            | Self::AddressTooFast
            | Self::SlowConsumer
            | Self::TooManyErrors
            | Self::TooManyMessages
            | Self::MessageTimeout
            | Self::ShuttingDown => 4100,
            Self::Draining | Self::EventsMissed | Self::ReconnectRequested => 4200,
            Self::PongTimeout => 4201,
        }
    }

    /// The label of the code in the log and in the metrics, without values that the client chose.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotWebSocket => "not_websocket",
            Self::NotUtf8 => "not_utf8",
            Self::MessageTooBig { .. } => "message_too_big",
            Self::TlsOnly => "tls_only",
            Self::AppNotFound { .. } => "app_not_found",
            Self::AppDisabled => "app_disabled",
            Self::InvalidToken => "invalid_token",
            Self::OverQuota => "over_quota",
            Self::Version(_) => "version",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::DevelopmentOnly => "development_only",
            Self::NotAuthorizedInTime => "not_authorized_in_time",
            Self::Terminated => "terminated",
            Self::AppsUnavailable => "apps_unavailable",
            Self::OverCapacity => "over_capacity",
            Self::AddressOverCapacity => "address_over_capacity",
            Self::AddressTooFast => "address_too_fast",
            Self::SlowConsumer => "slow_consumer",
            Self::TooManyErrors => "too_many_errors",
            Self::TooManyMessages => "too_many_messages",
            Self::MessageTimeout => "message_timeout",
            Self::ShuttingDown => "shutting_down",
            Self::Draining => "draining",
            Self::EventsMissed => "events_missed",
            Self::ReconnectRequested => "reconnect_requested",
            Self::PongTimeout => "pong_timeout",
        }
    }

    /// Whether a `pusher:error` precedes the close frame: for all codes of Pusher's own range. The
    /// documentation requires it below version 6; newer clients ignore it.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        4000 <= self.number()
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWebSocket => "Protocol violation",
            Self::NotUtf8 => "Message is not UTF-8",
            Self::MessageTooBig { max } => {
                return write!(f, "Maximum message size of {max} bytes exceeded");
            }
            Self::TlsOnly => "Application only accepts TLS connections, reconnect using wss://",
            Self::AppNotFound { key } => {
                let key = &key[..key.floor_char_boundary(64)];
                return write!(f, "App key {key} does not exist");
            }
            Self::AppDisabled => "Application is disabled",
            Self::InvalidToken => {
                "Path not found: after resume-, a token of 16 to 64 letters, digits, _ and - is expected"
            }
            Self::OverQuota => "Application is over connection quota",
            Self::Version(VersionError::Malformed) => "Invalid version string format",
            Self::Version(VersionError::Unsupported) => "Unsupported protocol version",
            Self::Version(VersionError::Missing) => "No protocol version supplied",
            Self::OriginNotAllowed => "Origin not allowed",
            Self::DevelopmentOnly => {
                "The development app serves only localhost, *.localhost, *.test and 127.0.0.1: \
                 configure an app of your own"
            }
            Self::NotAuthorizedInTime => "Connection not authorized within timeout",
            Self::Terminated => "Connection terminated by the application",
            Self::AppsUnavailable => "Apps cannot be looked up: please reconnect shortly",
            Self::OverCapacity => "Over capacity",
            Self::AddressOverCapacity => "Too many connections from this address",
            Self::SlowConsumer => "Client reads too slowly",
            Self::AddressTooFast => "Too many new connections from this address",
            Self::TooManyErrors => "Too many invalid messages",
            Self::TooManyMessages => "Too many messages",
            Self::MessageTimeout => "Message not finished in time",
            Self::ShuttingDown => "Server is shutting down: please reconnect shortly",
            Self::Draining => "Please reconnect immediately",
            Self::EventsMissed => "Events may have been missed: please reconnect immediately",
            Self::ReconnectRequested => {
                "Reconnect requested by the application: please reconnect immediately"
            }
            Self::PongTimeout => "Pong reply not received",
        })
    }
}

/// The code of a `pusher:error` that does not close the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub enum ErrorCode {
    /// A sign-in was not authorized.
    Unauthorized = 4009,
    /// A client event, or any message, exceeded the rate limit.
    Rate = 4301,
    /// A watchlist exceeded its maximum length.
    WatchlistTooLong = 4302,
}

/// The consequence of an error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Consequence {
    /// The client receives an error, and the connection stays open.
    Report(Option<ErrorCode>),
    /// The connection is closed.
    Close(CloseCode),
}

/// An error of a client.
///
/// Failures of the server have no variant, so they are never reported as errors of the client. The
/// messages are Pusher's own where these are known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProtocolError {
    /// The frame is not a valid message.
    Malformed(Malformed),
    /// Too many invalid messages.
    TooManyErrors,
    /// The message rate was exceeded, and this message was dropped.
    MessageRate {
        /// The channel of the dropped client event.
        channel: Option<String>,
    },
    /// The message rate was exceeded for so long that the connection is closed.
    TooManyMessages,
    /// A subscription was rejected.
    Subscription {
        /// The channel's name as the client sent it.
        channel: String,
        /// The reason of the rejection.
        rejection: SubscriptionRejection,
    },
    /// A client event, or an unknown event, was rejected.
    ClientEvent {
        /// The channel's name as the client sent it; `None` without one.
        channel: Option<String>,
        /// The reason of the rejection.
        rejection: ClientEventRejection,
    },
    /// Sign-in is disabled for the app.
    SignInDisabled,
    /// A sign-in was rejected.
    SignIn(SignInRejection),
    /// A sign-in succeeded, but only the first ids of its watchlist are watched.
    WatchlistTooLong {
        /// The number of watched ids.
        max: usize,
    },
}

/// The reason of a rejected subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SubscriptionRejection {
    /// The channel's name is invalid.
    Name(InvalidChannelName),
    /// The connection is already subscribed to the channel; that subscription stays.
    AlreadySubscribed,
    /// The connection has reached its limit of subscriptions.
    TooMany {
        /// The value of `max_channels`.
        max: usize,
    },
    /// The authorization is missing or wrong.
    Auth(AuthError),
    /// A server-to-user channel of another user.
    OtherUser,
    /// A presence channel without `channel_data`, and the connection is not signed in.
    MemberMissing,
    /// The member's data violates a rule, which the text contains.
    Member(&'static str),
    /// The member's `user_info` is too large.
    MemberTooLarge {
        /// The limit that was exceeded, in bytes.
        max: usize,
    },
    /// The connection exceeds its rate of subscriptions.
    Rate,
    /// The channel has reached its limit of members.
    RosterFull {
        /// The limit that was reached, in members.
        max: usize,
    },
}

/// The error in an `auth` value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthError {
    /// It is missing.
    Missing,
    /// It is not `key:signature`.
    Format,
    /// The key is not the app's.
    Key {
        /// The key that was sent.
        sent: String,
    },
    /// The signature is wrong.
    Signature {
        /// The string that should have been signed.
        string_to_sign: String,
        /// The signature that was sent.
        sent: String,
    },
}

/// The reason of a rejected sign-in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SignInRejection {
    /// The authorization is missing or wrong.
    Auth(AuthError),
    /// The user's data violates a rule, which the text contains.
    User(&'static str),
    /// The connection is signed in as another user.
    OtherUser,
}

impl ProtocolError {
    /// The consequence of the error, the same in the whole server.
    #[must_use]
    pub fn consequence(&self) -> Consequence {
        match self {
            Self::TooManyErrors => Consequence::Close(CloseCode::TooManyErrors),
            Self::TooManyMessages => Consequence::Close(CloseCode::TooManyMessages),
            Self::MessageRate { .. }
            | Self::ClientEvent { rejection: ClientEventRejection::Rate, .. }
            | Self::Subscription { rejection: SubscriptionRejection::Rate, .. } => {
                Consequence::Report(Some(ErrorCode::Rate))
            }
            Self::WatchlistTooLong { .. } => Consequence::Report(Some(ErrorCode::WatchlistTooLong)),
            Self::SignIn(_) => Consequence::Report(Some(ErrorCode::Unauthorized)),
            Self::Malformed(_)
            | Self::Subscription { .. }
            | Self::ClientEvent { .. }
            | Self::SignInDisabled => Consequence::Report(None),
        }
    }

    /// The channel of a rejected client event, sent with its `pusher:error`: client libraries then
    /// pass the error to that channel's listeners.
    #[must_use]
    pub fn channel(&self) -> Option<&str> {
        match self {
            Self::MessageRate { channel } | Self::ClientEvent { channel, .. } => channel.as_deref(),
            Self::Malformed(_)
            | Self::TooManyErrors
            | Self::TooManyMessages
            | Self::Subscription { .. }
            | Self::SignInDisabled
            | Self::SignIn(_)
            | Self::WatchlistTooLong { .. } => None,
        }
    }
}

impl SubscriptionRejection {
    /// The `type` and `status` of a `pusher:subscription_error`. `None` if the connection is already
    /// subscribed: the event would make that subscription fail in the client.
    #[must_use]
    pub fn subscription_error(&self) -> Option<(&'static str, u16)> {
        match self {
            Self::AlreadySubscribed => None,
            Self::Auth(_) | Self::OtherUser | Self::MemberMissing | Self::Member(_) => {
                Some(("AuthError", 401))
            }
            Self::Name(_) => Some(("InvalidChannel", 4009)),
            Self::MemberTooLarge { .. } | Self::Rate => Some(("LimitReached", 4301)),
            Self::RosterFull { .. } | Self::TooMany { .. } => Some(("LimitReached", 4100)),
        }
    }

    /// The error message for the client; `channel` is the name that it sent.
    #[must_use]
    pub fn message(&self, channel: &str) -> String {
        let channel = truncate_echo(channel);
        match self {
            Self::Name(rule) => format!("Invalid channel name '{channel}': {rule}"),
            Self::AlreadySubscribed => format!("Existing subscription to channel {channel}"),
            Self::TooMany { max } => {
                format!("Can't subscribe to {channel}: a connection has at most {max} channels")
            }
            Self::Auth(AuthError::Missing) => {
                format!("Auth info required to subscribe to {channel}")
            }
            Self::Auth(AuthError::Format) => format!(
                "Auth value for subscription to {channel} is invalid: \
                 should be of format 'key:signature'"
            ),
            Self::Auth(AuthError::Key { sent }) => {
                format!(
                    "Invalid key in subscription auth data: '{}' (channel {channel})",
                    truncate_echo(sent)
                )
            }
            Self::Auth(AuthError::Signature { string_to_sign, sent }) => format!(
                "Invalid signature: Expected HMAC SHA256 hex digest of {string_to_sign}, but got {}",
                truncate_echo(sent)
            ),
            Self::OtherUser => format!("{channel} is for the signed-in user of that id only"),
            Self::MemberMissing => {
                format!("channel_data, or a sign-in, is required to subscribe to {channel}")
            }
            Self::Member(rule) => format!("{rule} (channel {channel})"),
            Self::MemberTooLarge { max } => {
                format!("user_info for {channel} is larger than {max} bytes")
            }
            Self::Rate => format!("Can't subscribe to {channel}: too many subscriptions a second"),
            Self::RosterFull { max } => {
                format!("The presence channel {channel} is full: it has at most {max} members")
            }
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::TooManyErrors => CloseCode::TooManyErrors.fmt(f),
            Self::MessageRate { .. } => f.write_str("Rate limit exceeded: message dropped"),
            Self::TooManyMessages => CloseCode::TooManyMessages.fmt(f),
            Self::Subscription { channel, rejection } => f.write_str(&rejection.message(channel)),
            Self::ClientEvent { channel, rejection } => {
                f.write_str(&rejection.message(channel.as_deref().unwrap_or_default()))
            }
            Self::SignInDisabled => f.write_str("User authentication is disabled for this app"),
            Self::SignIn(rejection) => rejection.fmt(f),
            Self::WatchlistTooLong { max } => {
                write!(f, "Watchlist limit exceeded: only the first {max} ids are watched")
            }
        }
    }
}

impl fmt::Display for SignInRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth(AuthError::Missing | AuthError::Format) => {
                f.write_str("Invalid format: auth must have the format key:signature")
            }
            Self::Auth(AuthError::Key { sent }) => {
                write!(f, "Invalid key in sign-in auth data: '{}'", truncate_echo(sent))
            }
            Self::Auth(AuthError::Signature { string_to_sign, sent }) => write!(
                f,
                "Invalid signature: Expected HMAC SHA256 hex digest of {string_to_sign}, but got {}",
                truncate_echo(sent)
            ),
            Self::User(rule) => f.write_str(rule),
            Self::OtherUser => f.write_str("Connection is already signed in as another user"),
        }
    }
}

#[cfg(test)]
mod tests;
