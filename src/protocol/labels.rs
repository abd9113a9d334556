//! Labels of client errors for the log and the metrics. No label contains text chosen by a client.

use super::{AuthError, ClientEventRefusal, ProtocolError, SignInRefusal, SubscriptionRefusal};

impl ProtocolError {
    /// The kind of the rejected message, and the reason.
    #[must_use]
    pub fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Malformed(_) => ("other", "malformed"),
            Self::TooManyMistakes => ("other", "too_many_mistakes"),
            Self::MessageRate { .. } => ("other", "rate"),
            Self::TooManyMessages => ("other", "too_many_messages"),
            Self::Subscription { refusal, .. } => ("subscribe", refusal.label()),
            Self::ClientEvent { refusal, .. } => ("client_event", refusal.label()),
            Self::SignInDisabled => ("signin", "disabled"),
            Self::SignIn(refusal) => ("signin", refusal.label()),
            Self::WatchlistTooLong { .. } => ("signin", "watchlist_too_long"),
        }
    }

    /// The text for the log: the client's error message without signed data and signatures.
    #[must_use]
    pub fn log_text(&self) -> String {
        if let Self::Subscription { refusal: SubscriptionRefusal::Auth(error), .. }
        | Self::SignIn(SignInRefusal::Auth(error)) = self
        {
            return error.log_text().to_owned();
        }
        self.to_string()
    }
}

impl SubscriptionRefusal {
    fn label(&self) -> &'static str {
        match self {
            Self::Name(_) => "channel_name",
            Self::Existing => "existing",
            Self::TooMany { .. } => "too_many",
            Self::Auth(error) => error.label(),
            Self::NotThatUser => "other_user",
            Self::MemberMissing => "member_missing",
            Self::Member(_) => "member",
            Self::MemberTooLarge { .. } => "member_too_large",
            Self::RosterFull { .. } => "roster_full",
            Self::Rate => "rate",
        }
    }
}

impl ClientEventRefusal {
    fn label(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown_event",
            Self::Disabled => "disabled",
            Self::NoChannel => "no_channel",
            Self::Channel => "channel_kind",
            Self::NotSubscribed => "not_subscribed",
            Self::Name { .. } => "name_too_long",
            Self::Size { .. } => "too_large",
            Self::Rate => "rate",
        }
    }
}

impl SignInRefusal {
    fn label(&self) -> &'static str {
        match self {
            Self::Auth(error) => error.label(),
            Self::User(_) => "user",
            Self::OtherUser => "other_user",
        }
    }
}

impl AuthError {
    fn label(&self) -> &'static str {
        match self {
            Self::Missing => "auth_missing",
            Self::Format => "auth_format",
            Self::Key { .. } => "auth_key",
            Self::Signature { .. } => "auth_signature",
        }
    }

    fn log_text(&self) -> &'static str {
        match self {
            Self::Missing => "auth is missing",
            Self::Format => "auth is not of the form key:signature",
            Self::Key { .. } => "the key in auth is not the app's",
            Self::Signature { .. } => "Invalid signature",
        }
    }
}
