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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{InvalidChannelName, Malformed};

    /// An error of each kind.
    fn auth_errors() -> [AuthError; 4] {
        let sent = || "sent".to_owned();
        let signature = AuthError::Signature { string_to_sign: "signed".to_owned(), sent: sent() };
        [AuthError::Missing, AuthError::Format, AuthError::Key { sent: sent() }, signature]
    }

    fn all<T: PartialEq + std::fmt::Debug>(of: impl IntoIterator<Item = T>, expected: &[T]) {
        assert_eq!(of.into_iter().collect::<Vec<T>>(), expected);
    }

    #[test]
    fn every_refusal_has_its_label() {
        let auth = ["auth_missing", "auth_format", "auth_key", "auth_signature"];
        let subscription =
            |refusal| ProtocolError::Subscription { channel: "c".into(), refusal }.labels();
        let of_auth = auth_errors().map(|error| subscription(SubscriptionRefusal::Auth(error)));
        all(of_auth, &auth.map(|label| ("subscribe", label)));
        let of_auth =
            auth_errors().map(|error| ProtocolError::SignIn(SignInRefusal::Auth(error)).labels());
        all(of_auth, &auth.map(|label| ("signin", label)));
        for (refusal, label) in [
            (SubscriptionRefusal::Name(InvalidChannelName::Empty), "channel_name"),
            (SubscriptionRefusal::Existing, "existing"),
            (SubscriptionRefusal::TooMany { max: 1 }, "too_many"),
            (SubscriptionRefusal::NotThatUser, "other_user"),
            (SubscriptionRefusal::MemberMissing, "member_missing"),
            (SubscriptionRefusal::Member("rule"), "member"),
            (SubscriptionRefusal::MemberTooLarge { max: 1 }, "member_too_large"),
            (SubscriptionRefusal::RosterFull { max: 1 }, "roster_full"),
            (SubscriptionRefusal::Rate, "rate"),
        ] {
            assert_eq!(subscription(refusal), ("subscribe", label));
        }
        for (refusal, label) in [
            (ClientEventRefusal::Unknown { name: "e".into() }, "unknown_event"),
            (ClientEventRefusal::Disabled, "disabled"),
            (ClientEventRefusal::NoChannel, "no_channel"),
            (ClientEventRefusal::Channel, "channel_kind"),
            (ClientEventRefusal::NotSubscribed, "not_subscribed"),
            (ClientEventRefusal::Name { max: 1 }, "name_too_long"),
            (ClientEventRefusal::Size { max: 1 }, "too_large"),
            (ClientEventRefusal::Rate, "rate"),
        ] {
            let error = ProtocolError::ClientEvent { channel: None, refusal };
            assert_eq!(error.labels(), ("client_event", label));
        }
        for (error, labels) in [
            (ProtocolError::Malformed(Malformed::Binary), ("other", "malformed")),
            (ProtocolError::TooManyMistakes, ("other", "too_many_mistakes")),
            (ProtocolError::MessageRate { channel: None }, ("other", "rate")),
            (ProtocolError::TooManyMessages, ("other", "too_many_messages")),
            (ProtocolError::SignInDisabled, ("signin", "disabled")),
            (ProtocolError::SignIn(SignInRefusal::User("rule")), ("signin", "user")),
            (ProtocolError::SignIn(SignInRefusal::OtherUser), ("signin", "other_user")),
            (ProtocolError::WatchlistTooLong { max: 1 }, ("signin", "watchlist_too_long")),
        ] {
            assert_eq!(error.labels(), labels);
        }
    }

    #[test]
    fn what_is_wrong_with_auth_is_logged_without_what_was_sent() {
        let texts = [
            "auth is missing",
            "auth is not of the form key:signature",
            "the key in auth is not the app's",
            "Invalid signature",
        ];
        let subscription = |refusal| ProtocolError::Subscription { channel: "c".into(), refusal };
        let of_auth = |error| subscription(SubscriptionRefusal::Auth(error)).log_text();
        all(auth_errors().map(of_auth), &texts.map(str::to_owned));
        let of_auth = |error| ProtocolError::SignIn(SignInRefusal::Auth(error)).log_text();
        all(auth_errors().map(of_auth), &texts.map(str::to_owned));
    }
}
