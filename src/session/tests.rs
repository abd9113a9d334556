mod limits;
mod random;
mod resumable;

use super::*;
use crate::{
    config::AppConfig,
    protocol::{SignInRejection, SubscriptionRejection},
    rate::Rate,
};
use arc_swap::ArcSwap;

const ACTIVITY_TIMEOUT: Duration = Duration::from_secs(120);
const PONG_TIMEOUT: Duration = Duration::from_secs(30);

/// Changes the app before it is served.
fn session_with(change: impl FnOnce(&mut AppConfig)) -> (Session<u32>, Instant) {
    let mut config = AppConfig::development();
    change(&mut config);
    let limits = SessionConfig {
        activity_timeout: ACTIVITY_TIMEOUT,
        pong_timeout: PONG_TIMEOUT,
        max_channels: 5,
        message_rate: Rate::per_second(20),
        response_byte_rate: Rate::per_second(1_000).with_burst(500),
        resume_ack: ResumeAck::Pusher,
    };
    let start = Instant::now();
    let id = SocketId::from_random(0x0000_04d2_0000_04d2);
    (
        Session::new(
            Arc::new(ArcSwap::from_pointee(App::new(config))),
            Arc::new(limits),
            id,
            start,
        ),
        start,
    )
}

fn session() -> (Session<u32>, Instant) {
    session_with(|_| {})
}

fn subscribe_text(session: &Session<u32>, channel: &str, channel_data: Option<&str>) -> String {
    let text = crate::signature::channel_string_to_sign(session.socket_id, channel, channel_data);
    let auth = format!("app-key:{}", session.app.load().signer.sign(&text));
    let data = serde_json::json!({"auth": auth, "channel": channel, "channel_data": channel_data});
    serde_json::json!({"event": "pusher:subscribe", "data": data}).to_string()
}

fn subscribe(session: &mut Session<u32>, channel: &str, data: Option<&str>, now: Instant) {
    let text = subscribe_text(session, channel, data);
    let Ok(Some(Action::Subscribe { channel, member })) = session.on_text(&text, now) else {
        panic!("{channel} is rejected")
    };
    session.add_subscription(channel, member.map(|member| member.user_id), 0);
}

fn sign_in(session: &mut Session<u32>, user_data: &str, now: Instant) -> Result<(), ProtocolError> {
    let text = crate::signature::user_string_to_sign(session.socket_id, user_data);
    let auth = format!("app-key:{}", session.app.load().signer.sign(&text));
    let data = serde_json::json!({"auth": auth, "user_data": user_data});
    let text = serde_json::json!({"event": "pusher:signin", "data": data}).to_string();
    match session.on_text(&text, now)? {
        Some(Action::SignIn { user, .. }) => session.set_user(user),
        other => panic!("{other:?}"),
    }
    Ok(())
}

fn rejection(result: Result<Option<Action<'_, u32>>, ProtocolError>) -> SubscriptionRejection {
    match result {
        Err(ProtocolError::Subscription { rejection, .. }) => rejection,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_silent_client_is_pinged_once_then_closed() {
    let (mut session, start) = session();
    let idle = start + ACTIVITY_TIMEOUT;
    assert_eq!(session.deadline(), idle);
    assert_eq!(session.on_deadline(idle - Duration::from_millis(1)), None);
    assert_eq!(session.on_deadline(idle), Some(DeadlineAction::Ping));
    let timeout_at = idle + PONG_TIMEOUT;
    assert_eq!(session.deadline(), timeout_at);
    assert_eq!(session.on_deadline(timeout_at - Duration::from_millis(1)), None);
    assert_eq!(
        session.on_deadline(timeout_at),
        Some(DeadlineAction::Close(CloseCode::PongTimeout))
    );
}

#[test]
fn any_message_resets_the_activity_timeout_even_an_invalid_one() {
    let (mut session, start) = session();
    let idle = start + ACTIVITY_TIMEOUT;
    assert_eq!(session.on_deadline(idle), Some(DeadlineAction::Ping));
    assert!(session.on_text("nonsense", idle).is_err());
    assert_eq!(session.deadline(), idle + ACTIVITY_TIMEOUT);
}

#[test]
fn an_unauthorized_client_is_closed_at_its_deadline() {
    let with_timeout = || session_with(|app| app.authorized_connections_timeout_s = 1);
    let second = Duration::from_secs(1);
    let closed = Some(DeadlineAction::Close(CloseCode::NotAuthorizedInTime));

    let (mut idle, start) = with_timeout();
    assert_eq!(idle.deadline(), start + second);
    assert_eq!(idle.on_deadline(start + second), closed);

    let (mut public, start) = with_timeout();
    subscribe(&mut public, "public", None, start);
    assert_eq!(public.on_deadline(start + second), closed);

    let (mut private, start) = with_timeout();
    subscribe(&mut private, "private-x", None, start);
    assert_eq!(private.on_deadline(start + second), None);

    let (mut user, start) = with_timeout();
    sign_in(&mut user, r#"{"id":"1"}"#, start).unwrap();
    assert_eq!(user.on_deadline(start + second), None);
}

#[test]
fn a_signature_is_valid_for_its_channel_and_connection_only() {
    let (mut session, now) = session();
    let auth = |text: &str, key: &str, session: &Session<u32>| {
        format!("{key}:{}", session.app.load().signer.sign(text))
    };
    let mut check = |channel: &str, auth: &str| {
        let data = serde_json::json!({"channel": channel, "auth": auth});
        let text = serde_json::json!({"event": "pusher:subscribe", "data": data}).to_string();
        session.on_text(&text, now).map(|action| matches!(action, Some(Action::Subscribe { .. })))
    };
    let (other, _) = session_with(|_| {});
    assert!(check("private-x", &auth("1.1:private-x", "app-key", &other)).is_err());
    assert!(check("private-x", &auth("1234.1234:private-y", "app-key", &other)).is_err());
    assert!(check("private-x", &auth("1234.1234:private-x", "key", &other)).is_err());
    for channel in ["private-cache-x", "private-a-cache-b", "private-encrypted-cache-x"] {
        assert!(check(channel, "app-key:bad").is_err(), "{channel}");
    }
    assert_eq!(check("private-x", &auth("1234.1234:private-x", "app-key", &other)), Ok(true));
}

#[test]
fn a_rejected_subscription_is_removed() {
    let (mut session, now) = session();
    let text = subscribe_text(&session, "presence-r", Some("{}"));
    assert!(matches!(rejection(session.on_text(&text, now)), SubscriptionRejection::Member(_)));
    assert!(session.take_subscriptions().is_empty());
}

#[test]
fn a_subscription_that_is_rejected_later_is_removed() {
    let (mut session, now) = session();
    subscribe(&mut session, "a", None, now);
    subscribe(&mut session, "b", None, now);
    session.remove_subscription(&ChannelName::parse("a", 100).unwrap());
    let left = session.subscriptions.keys().map(ChannelName::as_str);
    assert_eq!(left.collect::<Vec<_>>(), ["b"]);
    subscribe(&mut session, "a", None, now);
}

#[test]
fn a_second_subscription_to_a_channel_is_rejected() {
    let (mut session, now) = session();
    subscribe(&mut session, "c", None, now);
    let text = subscribe_text(&session, "c", None);
    assert_eq!(rejection(session.on_text(&text, now)), SubscriptionRejection::AlreadySubscribed);
}

#[test]
fn subscriptions_are_limited() {
    let (mut session, now) = session();
    for channel in ["a", "b", "c", "d", "e"] {
        subscribe(&mut session, channel, None, now);
    }
    let text = subscribe_text(&session, "f", None);
    assert_eq!(rejection(session.on_text(&text, now)), SubscriptionRejection::TooMany { max: 5 });
    let unsubscribe = r#"{"event":"pusher:unsubscribe","data":{"channel":"a"}}"#;
    assert!(matches!(session.on_text(unsubscribe, now), Ok(Some(Action::Unsubscribe { .. }))));
    subscribe(&mut session, "f", None, now);
}

#[test]
fn a_member_comes_from_channel_data_or_from_the_sign_in() {
    let (mut session, now) = session();
    let text = subscribe_text(&session, "presence-r", None);
    assert_eq!(rejection(session.on_text(&text, now)), SubscriptionRejection::MemberMissing);

    sign_in(&mut session, r#"{"id":"9","user_info":{"n":"x"}}"#, now).unwrap();
    let Ok(Some(Action::Subscribe { member: Some(member), .. })) = session.on_text(&text, now)
    else {
        panic!("a signed-in user may join")
    };
    assert_eq!((&*member.user_id, &*member.user_info), ("9", r#"{"n":"x"}"#));

    let text = subscribe_text(&session, "presence-r", Some(r#"{"user_id":"1"}"#));
    let Ok(Some(Action::Subscribe { member: Some(member), .. })) = session.on_text(&text, now)
    else {
        panic!("channel_data wins")
    };
    assert_eq!((&*member.user_id, &*member.user_info), ("1", "{}"));
}

#[test]
fn a_server_to_user_channel_is_limited_to_its_user() {
    let (mut session, now) = session();
    let text = subscribe_text(&session, "#server-to-user-1", None);
    assert_eq!(rejection(session.on_text(&text, now)), SubscriptionRejection::OtherUser);
    sign_in(&mut session, r#"{"id":"1"}"#, now).unwrap();
    subscribe(&mut session, "#server-to-user-1", None, now);
    let text = subscribe_text(&session, "#server-to-user-2", None);
    assert_eq!(rejection(session.on_text(&text, now)), SubscriptionRejection::OtherUser);
}

#[test]
fn a_connection_cannot_change_its_user() {
    let (mut session, now) = session();
    sign_in(&mut session, r#"{"id":"1"}"#, now).unwrap();
    sign_in(&mut session, r#"{"id":"1","user_info":{}}"#, now).unwrap();
    let other = sign_in(&mut session, r#"{"id":"2"}"#, now);
    assert_eq!(other, Err(ProtocolError::SignIn(SignInRejection::OtherUser)));
    assert_eq!(session.user().map(|user| &*user.id), Some("1"));
}

fn client_event(session: &mut Session<u32>, text: &str, now: Instant) -> Result<(), ProtocolError> {
    session.on_text(text, now).map(|action| assert!(matches!(action, Some(Action::Publish { .. }))))
}

#[test]
fn client_events_need_a_subscription_to_a_channel_with_authorization() {
    let (mut session, now) = session();
    let text = |channel: &str| format!(r#"{{"event":"client-x","channel":"{channel}"}}"#);
    let rejected = |channel: &str, rejection| {
        let channel = (!channel.is_empty()).then(|| channel.to_owned());
        Err(ProtocolError::ClientEvent { channel, rejection })
    };
    let unsubscribed = client_event(&mut session, &text("private-x"), now);
    assert_eq!(unsubscribed, rejected("private-x", ClientEventRejection::NotSubscribed));
    subscribe(&mut session, "private-x", None, now);
    subscribe(&mut session, "cache-x", None, now);
    assert_eq!(client_event(&mut session, &text("private-x"), now), Ok(()));
    let public = client_event(&mut session, &text("cache-x"), now);
    assert_eq!(public, rejected("cache-x", ClientEventRejection::Channel));
    let without = client_event(&mut session, r#"{"event":"client-x"}"#, now);
    assert_eq!(without, rejected("", ClientEventRejection::NoChannel));
}

#[test]
fn client_events_are_limited_in_name_size_and_rate() {
    let (mut session, now) = session_with(|app| {
        app.max_event_name_length = 10;
        app.max_event_bytes = 10;
        app.client_events_per_second = 2;
    });
    subscribe(&mut session, "private-x", None, now);
    let mut send = |name: &str, data: &str| {
        let text = format!(r#"{{"event":"{name}","channel":"private-x","data":{data}}}"#);
        client_event(&mut session, &text, now)
    };
    let rejected = |rejection| {
        Err(ProtocolError::ClientEvent { channel: Some("private-x".into()), rejection })
    };
    assert_eq!(send("client-1234", "1"), rejected(ClientEventRejection::Name { max: 10 }));
    assert_eq!(
        send("client-x", r#""12345678901""#),
        rejected(ClientEventRejection::Size { max: 10 })
    );
    assert_eq!(send("client-123", r#""1234567890""#), Ok(()));
    assert_eq!(send("client-x", "[1,2,3,4 ]"), Ok(()));
    assert_eq!(send("client-x", "1"), rejected(ClientEventRejection::Rate));
}

#[test]
fn client_events_can_be_disabled() {
    let (mut session, now) = session_with(|app| app.client_events = ClientEvents::None);
    subscribe(&mut session, "private-x", None, now);
    let text = r#"{"event":"client-x","channel":"private-x"}"#;
    let rejected = ProtocolError::ClientEvent {
        channel: Some("private-x".into()),
        rejection: ClientEventRejection::Disabled,
    };
    assert_eq!(client_event(&mut session, text, now), Err(rejected));
}

/// Sends as many valid messages as the server accepts.
fn succeed_in_all_ways(session: &mut Session<u32>, now: Instant) {
    let right = [
        r#"{"event":"pusher:ping"}"#,
        r#"{"event":"pusher:pong"}"#,
        r#"{"event":"pusher:probe"}"#,
        r#"{"event":"pusher:unsubscribe","data":{"channel":"c"}}"#,
    ];
    for text in right {
        assert!(session.on_text(text, now).is_ok(), "{text}");
    }
    assert_eq!(session.on_control(now), Ok(()));
    subscribe(session, "c", None, now);
}

#[test]
fn malformed_messages_close_the_connection_despite_valid_ones_in_between() {
    let (mut session, start) = session();
    for second in 0..11 {
        let now = start + Duration::from_secs(second);
        assert!(matches!(session.on_text("x", now), Err(ProtocolError::Malformed(_))));
        succeed_in_all_ways(&mut session, now);
    }
    // The cost of less than one error has been refilled.
    let now = start + Duration::from_secs(11);
    assert_eq!(session.on_text("x", now).unwrap_err(), ProtocolError::TooManyErrors);
}

#[test]
fn failed_authorizations_close_the_connection_despite_valid_messages_in_between() {
    let (mut session, start) = session();
    let wrong = r#"{"event":"pusher:subscribe","data":{"channel":"private-x","auth":"app-key:0"}}"#;
    let (mut now, mut guesses) = (start, 1);
    while let Err(ProtocolError::Subscription { .. }) = session.on_text(wrong, now) {
        guesses += 1;
        assert!(guesses <= 102, "not closed");
        now += Duration::from_millis(200);
        assert_eq!(session.on_control(now), Ok(()));
        assert!(session.on_text(r#"{"event":"pusher:ping"}"#, now).is_ok());
    }
    // The cost of two errors was refilled meanwhile.
    assert_eq!(guesses, 102);
}

#[test]
fn the_error_budget_is_refilled_over_time() {
    let (mut session, start) = session();
    for minute in 0..50 {
        let now = start + Duration::from_secs(minute * 100);
        assert!(matches!(session.on_text("x", now), Err(ProtocolError::Malformed(_))));
    }
}

#[test]
fn control_frames_and_fragments_count_as_messages() {
    let ping = r#"{"event":"pusher:ping"}"#;
    let (mut session, now) = session();
    for _ in 0..20 {
        assert_eq!(session.on_control(now), Ok(()));
    }
    // Beyond the limit, pings are still accepted, other messages are not.
    assert!(matches!(session.on_text(ping, now), Ok(Some(Action::Pong))));
    assert_eq!(
        session.on_text("x", now).unwrap_err(),
        ProtocolError::MessageRate { channel: None }
    );
    assert_eq!(session.on_fragments(17, now), Ok(()));
    assert_eq!(session.on_control(now), Err(ProtocolError::TooManyMessages));

    // A client that pings at the limit is never closed.
    let (mut session, start) = self::session();
    for step in 0..200 {
        let now = start + Duration::from_millis(step * 50);
        assert_eq!(session.on_control(now), Ok(()));
    }
}

#[test]
fn a_client_event_beyond_the_limit_of_messages_carries_its_channel() {
    let (mut session, now) = session();
    session.on_fragments(20, now).unwrap();
    let text = r#"{"event":"client-x","channel":"private-x"}"#;
    let dropped = ProtocolError::MessageRate { channel: Some("private-x".into()) };
    assert_eq!(client_event(&mut session, text, now), Err(dropped));
}

#[test]
fn an_unknown_event_is_reported_without_cost() {
    let (mut session, start) = session();
    for second in 0..200 {
        let now = start + Duration::from_secs(second);
        let error = session.on_text(r#"{"event":"my-event","channel":"c"}"#, now).unwrap_err();
        assert_eq!(error.consequence(), crate::protocol::Consequence::Report(None));
        assert_eq!(error.channel(), Some("c"));
        assert!(error.to_string().contains("'my-event'"), "{error}");
    }
}

#[test]
fn subscriptions_beyond_the_burst_are_rate_limited() {
    let (mut session, start) = session_with(|app| app.user_authentication = true);
    let leave = r#"{"event":"pusher:unsubscribe","data":{"channel":"c"}}"#;
    let mut turn = |now: Instant| {
        let text = subscribe_text(&session, "c", None);
        let Some(Action::Subscribe { channel, .. }) = session.on_text(&text, now)? else {
            panic!("no subscription")
        };
        session.add_subscription(channel, None, 0);
        session.on_text(leave, now).map(drop)
    };
    let dropped = Err(ProtocolError::Subscription {
        channel: "c".into(),
        rejection: SubscriptionRejection::Rate,
    });
    for _ in 0..6 {
        assert_eq!(turn(start), Ok(()), "five channels, and a sign-in");
    }
    assert_eq!(turn(start), dropped);
    for step in 1..=20 {
        assert_eq!(turn(start + Duration::from_millis(step * 100)), Ok(()), "ten a second");
    }
    let now = start + Duration::from_secs(2);
    for _ in 0..4 {
        assert_eq!(turn(now), dropped);
    }
    assert_eq!(turn(now), Err(ProtocolError::TooManyMessages));
}

#[test]
fn a_rejected_subscription_does_not_count_for_the_rate() {
    let (mut session, start) = session();
    for step in 0..20 {
        let now = start + Duration::from_millis(step * 50);
        let text = subscribe_text(&session, "presence-r", Some("{}"));
        assert!(matches!(rejection(session.on_text(&text, now)), SubscriptionRejection::Member(_)));
    }
    let now = start + Duration::from_secs(1);
    for channel in ["a", "b", "c", "d", "e"] {
        subscribe(&mut session, channel, None, now);
    }
}

#[test]
fn a_client_over_its_response_byte_rate_is_throttled() {
    let (mut session, start) = session();
    session.charge(500, start);
    assert_eq!(session.throttled_until(start), None);
    session.charge(1_000, start);
    let rested = start + Duration::from_secs(1);
    assert_eq!(session.throttled_until(start), Some(rested));
    assert_eq!(session.throttled_until(rested), None);
    session.refund(1_000, start);
    assert_eq!(session.throttled_until(start), None);
    // A client with one large response is not considered dead.
    session.charge(1_000_000, start);
    assert_eq!(session.throttled_until(start), Some(start + Duration::from_secs(2)));
}
