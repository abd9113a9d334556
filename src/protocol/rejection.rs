//! Reasons for rejecting client events.

/// Maximum length of client text that an error message quotes, in bytes.
const ECHO_MAX: usize = 200;

/// Truncates client text to what an error message quotes.
pub(super) fn truncate_echo(text: &str) -> &str {
    &text[..text.floor_char_boundary(ECHO_MAX)]
}

/// The reason of a rejected client event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientEventRejection {
    /// The name is neither that of a client event nor one of the protocol.
    Unknown {
        /// The event's name as the client sent it.
        name: String,
    },
    /// Client events are disabled for the app.
    Disabled,
    /// The event has no `channel`.
    NoChannel,
    /// The channel is public, so it accepts no client events.
    Channel,
    /// The sender is not subscribed to the channel.
    NotSubscribed,
    /// The event's name is too long.
    Name {
        /// The limit that was exceeded, in characters.
        max: usize,
    },
    /// The data is too large.
    Size {
        /// The limit that was exceeded, in bytes.
        max: usize,
    },
    /// Client events exceed `client_events_per_second`.
    Rate,
}

impl ClientEventRejection {
    /// The error message for the client; `channel` is the name that it sent, or empty.
    pub(super) fn message(&self, channel: &str) -> String {
        let channel = truncate_echo(channel);
        match self {
            Self::Unknown { name } => format!(
                "Unknown event '{}': the name of a client event begins with client-",
                truncate_echo(name)
            ),
            Self::Disabled => {
                "To send client events, you must enable this feature for the app".to_owned()
            }
            Self::NoChannel => "Invalid client event (must contain channel and data)".to_owned(),
            Self::Channel => format!(
                "Client event rejected - only supported on private and presence channels, \
                 not on {channel}"
            ),
            Self::NotSubscribed => format!(
                "Cannot broadcast client event (connection not subscribed to channel {channel})"
            ),
            Self::Name { max } => {
                format!("Client event rejected: its name is longer than {max} characters")
            }
            Self::Size { max } => {
                format!("Client event rejected: its data is larger than {max} bytes")
            }
            Self::Rate => "Client event rejected due to rate limit".to_owned(),
        }
    }
}
