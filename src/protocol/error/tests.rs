//! The consequence of each error, and its code and text for the client.

use super::*;

#[test]
fn every_close_code_has_its_number_and_its_label() {
    let too_big = CloseCode::MessageTooBig { max: 1 };
    let not_found = CloseCode::AppNotFound { key: "k".into() };
    let cases = [
        (CloseCode::NotWebSocket, 1002, "not_websocket"),
        (CloseCode::NotUtf8, 1007, "not_utf8"),
        (too_big, 1009, "message_too_big"),
        (CloseCode::TlsOnly, 4000, "tls_only"),
        (not_found, 4001, "app_not_found"),
        (CloseCode::AppDisabled, 4003, "app_disabled"),
        (CloseCode::OverQuota, 4004, "over_quota"),
        (CloseCode::Version(VersionError::Malformed), 4006, "version"),
        (CloseCode::Version(VersionError::Unsupported), 4007, "version"),
        (CloseCode::Version(VersionError::Missing), 4008, "version"),
        (CloseCode::OriginNotAllowed, 4009, "origin_not_allowed"),
        (CloseCode::DevelopmentOnly, 4009, "development_only"),
        (CloseCode::NotAuthorizedInTime, 4009, "not_authorized_in_time"),
        (CloseCode::Terminated, 4009, "terminated"),
        (CloseCode::AppsUnavailable, 4100, "apps_unavailable"),
        (CloseCode::OverCapacity, 4100, "over_capacity"),
        (CloseCode::AddressOverCapacity, 4100, "address_over_capacity"),
        (CloseCode::AddressTooFast, 4100, "address_too_fast"),
        (CloseCode::SlowConsumer, 4100, "slow_consumer"),
        (CloseCode::TooManyErrors, 4100, "too_many_errors"),
        (CloseCode::TooManyMessages, 4100, "too_many_messages"),
        (CloseCode::MessageTimeout, 4100, "message_timeout"),
        (CloseCode::ShuttingDown, 4100, "shutting_down"),
        (CloseCode::Draining, 4200, "draining"),
        (CloseCode::EventsMissed, 4200, "events_missed"),
        (CloseCode::ReconnectRequested, 4200, "reconnect_requested"),
        (CloseCode::PongTimeout, 4201, "pong_timeout"),
    ];
    let mut texts: Vec<String> = cases.iter().map(|(code, ..)| code.to_string()).collect();
    for (code, number, label) in &cases {
        assert_eq!((code.number(), code.label()), (*number, *label));
        assert_eq!(code.is_announced(), 4000 <= *number, "{label}");
        assert!(!code.to_string().is_empty(), "{label}");
    }
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), cases.len(), "each has a text of its own");
}

#[test]
fn what_a_client_chose_is_repeated_up_to_a_bound() {
    let key = "k".repeat(63);
    let of = |key: &str| CloseCode::AppNotFound { key: key.to_owned() }.to_string();
    assert_eq!(of(&format!("{key}zz")), format!("App key {key}z does not exist"));
    assert_eq!(of(&format!("{key}é")), format!("App key {key} does not exist"));
    assert_eq!(truncate_echo(&"x".repeat(201)), "x".repeat(200));
    assert_eq!(truncate_echo(&format!("{}é", "x".repeat(199))), "x".repeat(199));
}

/// Subscription rejections with the type, status and code that clients receive.
#[test]
fn every_rejection_of_a_subscription_has_its_kind_and_its_code() {
    let rate = Some(ErrorCode::Rate);
    for (rejection, error, code) in [
        (SubscriptionRejection::AlreadySubscribed, None, None),
        (SubscriptionRejection::Auth(AuthError::Missing), Some(("AuthError", 401)), None),
        (SubscriptionRejection::OtherUser, Some(("AuthError", 401)), None),
        (SubscriptionRejection::MemberMissing, Some(("AuthError", 401)), None),
        (SubscriptionRejection::Member("rule"), Some(("AuthError", 401)), None),
        (
            SubscriptionRejection::Name(InvalidChannelName::Empty),
            Some(("InvalidChannel", 4009)),
            None,
        ),
        (SubscriptionRejection::MemberTooLarge { max: 7 }, Some(("LimitReached", 4301)), None),
        (SubscriptionRejection::Rate, Some(("LimitReached", 4301)), rate),
        (SubscriptionRejection::RosterFull { max: 7 }, Some(("LimitReached", 4100)), None),
        (SubscriptionRejection::TooMany { max: 7 }, Some(("LimitReached", 4100)), None),
    ] {
        assert_eq!(rejection.subscription_error(), error, "{rejection:?}");
        let message = rejection.message("a-channel");
        let names_it = rejection == SubscriptionRejection::Auth(AuthError::Missing)
            || message.contains("a-channel");
        assert!(names_it, "{message}");
        let whole = ProtocolError::Subscription { channel: "a-channel".into(), rejection };
        assert_eq!(whole.consequence(), Consequence::Report(code), "{whole:?}");
        assert_eq!((whole.to_string(), whole.channel()), (message, None));
    }
}

#[test]
fn only_floods_close_the_connection() {
    let close = |error: ProtocolError| matches!(error.consequence(), Consequence::Close(_));
    assert!(close(ProtocolError::TooManyErrors) && close(ProtocolError::TooManyMessages));
    let channel = || Some("private-c".to_owned());
    let event = |rejection| ProtocolError::ClientEvent { channel: channel(), rejection };
    for (error, code) in [
        (ProtocolError::Malformed(Malformed::Binary), None),
        (ProtocolError::SignInDisabled, None),
        (event(ClientEventRejection::Disabled), None),
        (event(ClientEventRejection::Size { max: 1 }), None),
        (event(ClientEventRejection::Rate), Some(4301)),
        (ProtocolError::MessageRate { channel: channel() }, Some(4301)),
        (ProtocolError::SignIn(SignInRejection::OtherUser), Some(4009)),
        (ProtocolError::WatchlistTooLong { max: 100 }, Some(4302)),
    ] {
        let Consequence::Report(reported) = error.consequence() else { panic!("{error:?}") };
        assert_eq!(reported.map(|code| code as u16), code, "{error:?}");
        let is_of_a_channel =
            matches!(error, ProtocolError::ClientEvent { .. } | ProtocolError::MessageRate { .. });
        assert_eq!(error.channel(), is_of_a_channel.then_some("private-c"), "{error:?}");
    }
}

/// The log must not hold what is signed, nor signatures.
#[test]
fn signed_data_is_not_logged() {
    let auth = || AuthError::Signature { string_to_sign: "signed-data".into(), sent: "ab".into() };
    let subscription = ProtocolError::Subscription {
        channel: "c".into(),
        rejection: SubscriptionRejection::Auth(auth()),
    };
    for (error, kind) in [
        (subscription, "subscribe"),
        (ProtocolError::SignIn(SignInRejection::Auth(auth())), "signin"),
    ] {
        assert_eq!(error.labels(), (kind, "auth_signature"));
        assert_eq!(error.log_text(), "Invalid signature");
        assert!(error.to_string().contains("signed-data"), "the client receives: {error}");
    }
    let other = ProtocolError::Malformed(Malformed::Binary);
    assert_eq!((other.log_text(), other.labels().1), (other.to_string(), "malformed"));
}

#[test]
fn every_rejection_tells_the_client_what_is_wrong() {
    let key = || AuthError::Key { sent: "sent-key".into() };
    let signature =
        || AuthError::Signature { string_to_sign: "to-sign".into(), sent: "sent-digest".into() };
    let subscription =
        |rejection| ProtocolError::Subscription { channel: "a-channel".into(), rejection };
    let event =
        |rejection| ProtocolError::ClientEvent { channel: Some("a-channel".into()), rejection };
    let sign_in = ProtocolError::SignIn;
    let name = InvalidChannelName::TooLong { max: 77 };
    for (error, words) in [
        (
            subscription(SubscriptionRejection::Name(name)),
            "'a-channel': a channel name has at most 77",
        ),
        (
            subscription(SubscriptionRejection::AlreadySubscribed),
            "Existing subscription to channel a-channel",
        ),
        (subscription(SubscriptionRejection::TooMany { max: 77 }), "has at most 77 channels"),
        (
            subscription(SubscriptionRejection::Auth(AuthError::Missing)),
            "to subscribe to a-channel",
        ),
        (subscription(SubscriptionRejection::Auth(AuthError::Format)), "format 'key:signature'"),
        (subscription(SubscriptionRejection::Auth(key())), "'sent-key' (channel a-channel)"),
        (subscription(SubscriptionRejection::Auth(signature())), "of to-sign, but got sent-digest"),
        (subscription(SubscriptionRejection::OtherUser), "a-channel is for the signed-in user"),
        (
            subscription(SubscriptionRejection::MemberMissing),
            "channel_data, or a sign-in, is required",
        ),
        (subscription(SubscriptionRejection::Member("a rule")), "a rule (channel a-channel)"),
        (subscription(SubscriptionRejection::MemberTooLarge { max: 77 }), "larger than 77 bytes"),
        (subscription(SubscriptionRejection::Rate), "too many subscriptions a second"),
        (
            subscription(SubscriptionRejection::RosterFull { max: 77 }),
            "is full: it has at most 77 members",
        ),
        (event(ClientEventRejection::Unknown { name: "a-name".into() }), "Unknown event 'a-name'"),
        (event(ClientEventRejection::Disabled), "you must enable this feature"),
        (event(ClientEventRejection::NoChannel), "must contain channel and data"),
        (event(ClientEventRejection::Channel), "presence channels, not on a-channel"),
        (event(ClientEventRejection::NotSubscribed), "not subscribed to channel a-channel"),
        (event(ClientEventRejection::Name { max: 77 }), "its name is longer than 77 characters"),
        (event(ClientEventRejection::Size { max: 77 }), "its data is larger than 77 bytes"),
        (event(ClientEventRejection::Rate), "rejected due to rate limit"),
        (sign_in(SignInRejection::Auth(AuthError::Missing)), "must have the format key:signature"),
        (sign_in(SignInRejection::Auth(AuthError::Format)), "must have the format key:signature"),
        (sign_in(SignInRejection::Auth(key())), "Invalid key in sign-in auth data: 'sent-key'"),
        (sign_in(SignInRejection::Auth(signature())), "of to-sign, but got sent-digest"),
        (sign_in(SignInRejection::User("a rule")), "a rule"),
        (sign_in(SignInRejection::OtherUser), "already signed in as another user"),
        (ProtocolError::Malformed(Malformed::Binary), "expected a text message"),
        (ProtocolError::TooManyErrors, "Too many invalid messages"),
        (ProtocolError::TooManyMessages, "Too many messages"),
        (ProtocolError::MessageRate { channel: None }, "message dropped"),
        (ProtocolError::SignInDisabled, "authentication is disabled"),
        (ProtocolError::WatchlistTooLong { max: 77 }, "only the first 77 ids are watched"),
    ] {
        assert!(error.to_string().contains(words), "{error:?}: {error}");
    }
    let long = "x".repeat(300);
    let echoed = ProtocolError::Subscription {
        channel: long.clone(),
        rejection: SubscriptionRejection::Auth(AuthError::Key { sent: long }),
    };
    assert_eq!(echoed.to_string().matches('x').count(), 400, "each is truncated");
}
