//! Labels of client errors for the log and the metrics. No label contains text chosen by a client.

use super::{
    AuthError, ClientEventRejection, ProtocolError, SignInRejection, SubscriptionRejection,
};

impl ProtocolError {
    /// The kind of the rejected message, and the reason.
    #[must_use]
    pub fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Malformed(_) => ("other", "malformed"),
            Self::TooManyErrors => ("other", "too_many_errors"),
            Self::MessageRate { .. } => ("other", "rate"),
            Self::TooManyMessages => ("other", "too_many_messages"),
            Self::Subscription { rejection, .. } => ("subscribe", rejection.label()),
            Self::ClientEvent { rejection, .. } => ("client_event", rejection.label()),
            Self::SignInDisabled => ("signin", "disabled"),
            Self::SignIn(rejection) => ("signin", rejection.label()),
            Self::WatchlistTooLong { .. } => ("signin", "watchlist_too_long"),
        }
    }

    /// The text for the log: the client's error message without signed data and signatures.
    #[must_use]
    pub fn log_text(&self) -> String {
        if let Self::Subscription { rejection: SubscriptionRejection::Auth(error), .. }
        | Self::SignIn(SignInRejection::Auth(error)) = self
        {
            return error.log_text().to_owned();
        }
        self.to_string()
    }
}

impl SubscriptionRejection {
    fn label(&self) -> &'static str {
        match self {
            Self::Name(_) => "channel_name",
            Self::AlreadySubscribed => "existing",
            Self::TooMany { .. } => "too_many",
            Self::Auth(error) => error.label(),
            Self::OtherUser => "other_user",
            Self::MemberMissing => "member_missing",
            Self::Member(_) => "member",
            Self::MemberTooLarge { .. } => "member_too_large",
            Self::RosterFull { .. } => "roster_full",
            Self::Rate => "rate",
        }
    }
}

impl ClientEventRejection {
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

impl SignInRejection {
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
    fn every_rejection_has_its_label() {
        let auth = ["auth_missing", "auth_format", "auth_key", "auth_signature"];
        let subscription =
            |rejection| ProtocolError::Subscription { channel: "c".into(), rejection }.labels();
        let of_auth = auth_errors().map(|error| subscription(SubscriptionRejection::Auth(error)));
        all(of_auth, &auth.map(|label| ("subscribe", label)));
        let of_auth =
            auth_errors().map(|error| ProtocolError::SignIn(SignInRejection::Auth(error)).labels());
        all(of_auth, &auth.map(|label| ("signin", label)));
        for (rejection, label) in [
            (SubscriptionRejection::Name(InvalidChannelName::Empty), "channel_name"),
            (SubscriptionRejection::AlreadySubscribed, "existing"),
            (SubscriptionRejection::TooMany { max: 1 }, "too_many"),
            (SubscriptionRejection::OtherUser, "other_user"),
            (SubscriptionRejection::MemberMissing, "member_missing"),
            (SubscriptionRejection::Member("rule"), "member"),
            (SubscriptionRejection::MemberTooLarge { max: 1 }, "member_too_large"),
            (SubscriptionRejection::RosterFull { max: 1 }, "roster_full"),
            (SubscriptionRejection::Rate, "rate"),
        ] {
            assert_eq!(subscription(rejection), ("subscribe", label));
        }
        for (rejection, label) in [
            (ClientEventRejection::Unknown { name: "e".into() }, "unknown_event"),
            (ClientEventRejection::Disabled, "disabled"),
            (ClientEventRejection::NoChannel, "no_channel"),
            (ClientEventRejection::Channel, "channel_kind"),
            (ClientEventRejection::NotSubscribed, "not_subscribed"),
            (ClientEventRejection::Name { max: 1 }, "name_too_long"),
            (ClientEventRejection::Size { max: 1 }, "too_large"),
            (ClientEventRejection::Rate, "rate"),
        ] {
            let error = ProtocolError::ClientEvent { channel: None, rejection };
            assert_eq!(error.labels(), ("client_event", label));
        }
        for (error, labels) in [
            (ProtocolError::Malformed(Malformed::Binary), ("other", "malformed")),
            (ProtocolError::TooManyErrors, ("other", "too_many_errors")),
            (ProtocolError::MessageRate { channel: None }, ("other", "rate")),
            (ProtocolError::TooManyMessages, ("other", "too_many_messages")),
            (ProtocolError::SignInDisabled, ("signin", "disabled")),
            (ProtocolError::SignIn(SignInRejection::User("rule")), ("signin", "user")),
            (ProtocolError::SignIn(SignInRejection::OtherUser), ("signin", "other_user")),
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
        let subscription =
            |rejection| ProtocolError::Subscription { channel: "c".into(), rejection };
        let of_auth = |error| subscription(SubscriptionRejection::Auth(error)).log_text();
        all(auth_errors().map(of_auth), &texts.map(str::to_owned));
        let of_auth = |error| ProtocolError::SignIn(SignInRejection::Auth(error)).log_text();
        all(auth_errors().map(of_auth), &texts.map(str::to_owned));
    }
}
