//! Which messages count for which limit, and their cost.

use super::*;

#[test]
fn control_frames_reset_the_activity_timeout_and_fragments_do_not() {
    let (mut session, start) = session();
    let now = start + Duration::from_secs(1);
    session.on_fragments(3, now).unwrap();
    assert_eq!(session.deadline(), start + ACTIVITY_TIMEOUT);
    session.on_control(now).unwrap();
    assert_eq!(session.deadline(), now + ACTIVITY_TIMEOUT);
}

#[test]
fn the_limit_of_an_app_does_not_count_pings_and_pongs() {
    for closes in [false, true] {
        let (mut session, now) = session_with(|app| {
            (app.max_messages, app.max_messages_closes) = (2, closes);
        });
        for text in [r#"{"event":"pusher:ping"}"#, r#"{"event":"pusher:pong"}"#].repeat(3) {
            assert!(session.on_text(text, now).is_ok());
        }
        subscribe(&mut session, "a", None, now);
        subscribe(&mut session, "b", None, now);
        let third =
            session.on_text(r#"{"event":"pusher:unsubscribe","data":{"channel":"a"}}"#, now);
        let error = third.unwrap_err();
        if closes {
            assert_eq!(error, ProtocolError::TooManyMessages);
            continue;
        }
        assert_eq!(error, ProtocolError::MessageRate { channel: None });
        assert!(
            matches!(session.on_text("x", now), Ok(None)),
            "one error, then messages are dropped"
        );
        assert!(session.on_text(r#"{"event":"pusher:ping"}"#, now).is_ok());
    }
}

#[test]
fn the_deadline_is_the_nearer_of_silence_and_authorization() {
    for (timeout_s, expected) in [(1, 1), (120, 120), (500, 120), (0, 120)] {
        let (session, start) = session_with(|app| app.authorized_connections_timeout_s = timeout_s);
        assert_eq!(session.deadline(), start + Duration::from_secs(expected));
    }
    let (mut session, start) = session_with(|app| app.authorized_connections_timeout_s = 60);
    assert_eq!(session.on_deadline(start + Duration::from_millis(59_999)), None);
}

#[test]
fn failed_sign_ins_cost_as_failed_subscriptions_and_other_rejections_nothing() {
    let (mut session, start) = session();
    let wrong = r#"{"event":"pusher:signin","data":{"auth":"app-key:0","user_data":"{}"}}"#;
    for _ in 0..3 {
        for _ in 0..6 {
            assert!(matches!(session.on_text(wrong, start), Err(ProtocolError::SignIn(_))));
        }
    }
    let (mut other, start) = self::session();
    for second in 0..300 {
        let now = start + Duration::from_secs(second) / 4;
        assert!(matches!(sign_in(&mut other, "{}", now), Err(ProtocolError::SignIn(_))));
    }
    let mut guesses = 18;
    let mut now = start;
    while let Err(ProtocolError::SignIn(_)) = session.on_text(wrong, now) {
        guesses += 1;
        assert!(guesses <= 102, "not closed");
        now += Duration::from_millis(200);
    }
    assert!((100..=102).contains(&guesses), "{guesses}");
}
