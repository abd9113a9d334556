//! The deadlines of a connection whose client has a token.

use super::*;

const S: Duration = Duration::from_secs(1);
const PONG: &str = r#"{"event":"pusher:pong","data":{}}"#;

/// A session that has taken the place of its client's previous connection.
fn resumable() -> (Session<u32>, Instant) {
    let (mut session, start) = session();
    session.make_resumable(ResumeToken::parse("0123456789abcdef").unwrap(), true, start);
    drop(session.resumable_mut().unwrap().resume(None, start));
    (session, start)
}

#[test]
fn what_was_written_is_acknowledged_soon() {
    let (mut session, start) = resumable();
    assert_eq!(session.deadline(), start + ACTIVITY_TIMEOUT, "nothing is to be acknowledged");
    let written = session.resumable_mut().unwrap().on_write(1, 1, start);
    assert_eq!(written, AfterWrite::Check);
    let due = session.deadline();
    assert!(due < start + S, "{:?}", due - start);
    assert_eq!(session.on_deadline(due - Duration::from_millis(1)), None);
    assert_eq!(session.on_deadline(due), Some(DeadlineAction::Acknowledge));
}

#[test]
fn a_page_that_answers_no_ping_is_closed_though_its_browser_answers() {
    let (mut session, start) = resumable();
    session.resumable_mut().unwrap().on_ping(1, 1, start);
    for second in 1..30 {
        session.on_control(start + second * S).unwrap();
        assert_eq!(session.on_deadline(start + second * S), None);
    }
    assert_eq!(session.deadline(), start + PONG_TIMEOUT);
    let closed = Some(DeadlineAction::Close(CloseCode::PongTimeout));
    assert_eq!(session.on_deadline(start + PONG_TIMEOUT), closed);
    assert!(session.on_text(PONG, start + PONG_TIMEOUT).unwrap().is_none());
    assert_eq!(session.on_deadline(start + PONG_TIMEOUT), None, "it was answered");
}

#[test]
fn a_ping_of_the_client_just_before_its_close_means_that_the_line_was_lost() {
    let (mut session, start) = session();
    assert!(!session.has_client_just_pinged(start));
    session.on_text(r#"{"event":"pusher:ping","data":{}}"#, start).unwrap();
    assert!(session.has_client_just_pinged(start + 2 * S));
    assert!(!session.has_client_just_pinged(start + 3 * S));
    session.on_text(PONG, start).unwrap();
    assert!(!session.has_client_just_pinged(start), "it was not the latest message");
}
