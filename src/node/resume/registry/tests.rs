//! Tests of the registry of clients with a token.

use super::*;
use crate::{
    hub::{ConnectionKey, ShardIndex},
    protocol::ResumeToken,
};

fn name(token: &str) -> ClientName {
    let token = ResumeToken::parse(&format!("{token:0>16}")).unwrap();
    ClientName { app_id: "app".into(), token }
}

fn connection(slot: u32) -> ConnectionRef {
    ConnectionRef { shard: ShardIndex::new(0), key: ConnectionKey { slot, generation: 1 } }
}

fn socket(bits: u64) -> SocketId {
    SocketId::from_random(1 << 32 | bits)
}

fn session(now: Instant) -> ParkedSession {
    ParkedSession::new(now)
}

fn is_done(end: &EndOfClient) -> bool {
    matches!(end, EndOfClient::Done)
}

#[test]
fn a_client_that_returns_finds_its_socket_id_and_its_session_once() {
    let (registry, now) = (ResumeRegistry::new(false), Instant::now());
    assert_eq!(registry.socket_id(&name("a"), now), Ok(None));
    let claim = |slot| registry.claim(&name("a"), connection(slot), socket(7), now);
    assert!(matches!(claim(1), ClaimResult::Done(ClaimOutcome::New)));
    assert!(is_done(&registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now)));
    assert_eq!((registry.parked(), registry.socket_id(&name("a"), now)), (1, Ok(Some(socket(7)))));
    assert_eq!(registry.socket_id(&name("b"), now), Ok(None));
    let other_app = ClientName { app_id: "other".into(), ..name("a") };
    assert_eq!(registry.socket_id(&other_app, now), Ok(None), "tokens belong to an app");
    assert!(matches!(claim(2), ClaimResult::Done(ClaimOutcome::Resumed(_))));
    assert_eq!(registry.parked(), 0);
    assert!(is_done(&registry.end(&name("a"), connection(2), None, now)));
    assert_eq!(registry.socket_id(&name("a"), now), Ok(None), "it was forgotten");
    let ResumeStats { parked_ever, resumed, evicted, .. } = registry.stats();
    assert_eq!((parked_ever, resumed, evicted), (1, 1, 0));
}

#[test]
fn replays_and_gaps_are_counted() {
    let registry = ResumeRegistry::new(false);
    registry.count_replayed(3);
    registry.count_replayed(0);
    for gap in [Gap::TooMuch, Gap::Epoch, Gap::TooMuch] {
        registry.count_gap(gap);
    }
    let now = Instant::now();
    let claim = |slot| registry.claim(&name("a"), connection(slot), socket(7), now);
    let acknowledged = |acknowledged| Box::new(ParkedSession { acknowledged, ..session(now) });
    claim(1);
    assert!(is_done(&registry.end(&name("a"), connection(1), Some(acknowledged(4)), now)));
    assert_eq!(registry.stats().acknowledged, 0, "it has not returned");
    claim(2);
    claim(3);
    // This one has returned while it was open.
    let end = registry.end(&name("a"), connection(2), Some(acknowledged(5)), now);
    assert!(matches!(end, EndOfClient::ToConnection(..)));
    registry.count_counted(2);
    let stats = registry.stats();
    assert_eq!((stats.replayed, stats.acknowledged, stats.counted), (3, 9, 2));
    assert_eq!(stats.gaps.map(|(_, count)| count), [1, 0, 2, 0, 0]);
}

#[test]
fn an_open_connection_hands_its_session_over() {
    let (registry, now) = (ResumeRegistry::new(false), Instant::now());
    let claim = |slot| registry.claim(&name("a"), connection(slot), socket(7), now);
    assert!(matches!(claim(1), ClaimResult::Done(ClaimOutcome::New)));
    assert!(matches!(claim(2), ClaimResult::Open(previous) if previous == connection(1)));
    assert!(matches!(claim(3), ClaimResult::Open(previous) if previous == connection(2)));
    // The second one never had the session, and says nothing at its end.
    let ended = registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now);
    assert!(matches!(ended, EndOfClient::ToConnection(to, Some(_)) if to == connection(3)));
    assert!(is_done(&registry.end(&name("a"), connection(3), Some(Box::new(session(now))), now)));
    assert_eq!(registry.parked(), 1);
}

#[test]
fn a_token_with_another_socket_id_is_not_taken_over() {
    let (registry, now) = (ResumeRegistry::new(false), Instant::now());
    assert!(matches!(
        registry.claim(&name("a"), connection(1), socket(7), now),
        ClaimResult::Done(ClaimOutcome::New)
    ));
    let other = registry.claim(&name("a"), connection(2), socket(8), now);
    assert!(matches!(other, ClaimResult::Done(ClaimOutcome::Refused)));
    assert!(is_done(&registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now)));
}

#[test]
fn a_token_of_several_pages_is_not_resumed_without_end() {
    let (registry, now) = (ResumeRegistry::new(false), Instant::now());
    let claim = |slot| registry.claim(&name("a"), connection(slot), socket(7), now);
    claim(0);
    let takeovers = (1..100).take_while(|slot| {
        let is_found = registry.socket_id(&name("a"), now).is_ok();
        if is_found {
            claim(*slot);
        }
        is_found
    });
    assert_eq!(takeovers.count(), 20);
    assert!(registry.socket_id(&name("a"), now + Duration::from_secs(60)).is_ok());
    // Returns of a client that was lost are not limited.
    let _ = registry.end(&name("a"), connection(20), Some(Box::new(session(now))), now);
    for _ in 0..100 {
        assert_eq!(registry.socket_id(&name("a"), now), Ok(Some(socket(7))));
    }
}

#[test]
fn sessions_are_bounded_in_number_and_age() {
    let (registry, now) = (ResumeRegistry::new(false), Instant::now());
    for number in 0..=ResumeRegistry::PARKED_MAX {
        let name = name(&number.to_string());
        registry.claim(&name, connection(1), socket(7), now);
        let _ = registry.end(&name, connection(1), Some(Box::new(session(now))), now);
    }
    assert_eq!(registry.parked(), ResumeRegistry::PARKED_MAX);
    assert_eq!(registry.stats().evicted, 1);
    let resumed = |token| match registry.claim(&name(token), connection(2), socket(7), now) {
        ClaimResult::Done(ClaimOutcome::Resumed(session)) => session.lost_at,
        ClaimResult::Done(_) | ClaimResult::Open(_) | ClaimResult::Shared { .. } => {
            panic!("{token}")
        }
    };
    assert_eq!(resumed("0"), None, "what the oldest has missed is not known");
    assert_eq!(resumed("1"), Some(now));
    for token in ["0", "1"] {
        let _ = registry.end(&name(token), connection(2), Some(Box::new(session(now))), now);
    }
    registry.on_tick(now + ResumeRegistry::KEPT_FOR - Duration::from_millis(1));
    assert_eq!(registry.parked(), ResumeRegistry::PARKED_MAX);
    registry.on_tick(now + ResumeRegistry::KEPT_FOR);
    assert_eq!((registry.parked(), registry.state.lock().clients.len()), (0, 0));
}

/// A registry whose clients may return to other nodes, with a client that was connected at a place.
fn shared(now: Instant) -> (ResumeRegistry, u64) {
    let registry = ResumeRegistry::new(true);
    let claimed = registry.claim(&name("a"), connection(1), socket(7), now);
    let ClaimResult::Shared { number, session: None, .. } = claimed else { panic!("{claimed:?}") };
    (registry, number)
}

fn place() -> Place {
    Place { process: "other".into(), number: 3 }
}

#[test]
fn a_session_is_stored_once_in_its_place() {
    let now = Instant::now();
    for is_stored in [false, true] {
        let (registry, first) = shared(now);
        let ended = registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now);
        assert!(matches!(ended, EndOfClient::Park { number, .. } if number == first));
        assert!(registry.is_parking(&name("a"), first));
        if is_stored {
            registry.on_parked(&name("a"), first + 1);
            assert!(registry.is_parking(&name("a"), first), "of another place");
            registry.on_parked(&name("a"), first);
        }
        assert_eq!(registry.is_parking(&name("a"), first), !is_stored);
        let claimed = registry.claim(&name("a"), connection(2), socket(7), now);
        let ClaimResult::Shared { number, session: Some(_), .. } = claimed else {
            panic!("{claimed:?}")
        };
        assert!(number != first, "an older write must not be taken for one of this place");
        assert!(!registry.is_parking(&name("a"), first));
    }
}

#[test]
fn a_connection_that_leaves_nothing_has_its_record_deleted() {
    let now = Instant::now();
    let (registry, first) = shared(now);
    let ended = registry.end(&name("a"), connection(1), None, now);
    assert!(matches!(ended, EndOfClient::Forget { number } if number == first));
    assert_eq!(registry.socket_id(&name("a"), now), Ok(None));
}

#[test]
fn a_client_that_has_returned_to_another_node_takes_its_session_along() {
    let now = Instant::now();
    let (registry, first) = shared(now);
    let leave = |number| registry.leave(&name("a"), number, &place(), now);
    assert!(matches!(leave(first + 1), Leaving::Session(None)), "of another place");
    assert!(matches!(leave(first), Leaving::Open(open) if open == connection(1)));
    assert!(matches!(leave(first), Leaving::Started), "the request was repeated");
    // It returns here before its connection has ended.
    let claimed = registry.claim(&name("a"), connection(2), socket(7), now);
    assert!(matches!(claimed, ClaimResult::Shared { session: None, .. }));
    let ended = registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now);
    assert!(matches!(ended, EndOfClient::ToPlace(to, Some(_)) if to == place()));
    let ended = registry.end(&name("a"), connection(2), Some(Box::new(session(now))), now);
    assert!(matches!(ended, EndOfClient::Park { .. }), "only the session of the first one left");
}

#[test]
fn a_session_that_could_not_be_stored_is_handed_over() {
    let now = Instant::now();
    let (registry, first) = shared(now);
    let _ = registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now);
    let left = registry.leave(&name("a"), first, &place(), now);
    assert!(matches!(left, Leaving::Session(Some(_))));
    assert_eq!(registry.parked(), 0);
}

#[test]
fn a_request_whose_answer_was_lost_gets_the_session_again() {
    let now = Instant::now();
    for is_connected in [true, false] {
        let (registry, first) = shared(now);
        let leave = |to: &Place, at| registry.leave(&name("a"), first, to, at);
        let end = || registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now);
        if is_connected {
            assert!(matches!(leave(&place(), now), Leaving::Open(_)));
            assert!(matches!(end(), EndOfClient::ToPlace(_, Some(_))));
        } else {
            let _ = end();
            assert!(matches!(leave(&place(), now), Leaving::Session(Some(_))));
        }
        let Leaving::Session(Some(again)) = leave(&place(), now) else { panic!("it was lost") };
        assert_eq!(*again, session(now));
        let other = Place { number: place().number + 1, ..place() };
        assert!(matches!(leave(&other, now), Leaving::Session(None)));
        let later = now + Duration::from_secs(10);
        registry.on_tick(later);
        assert!(matches!(leave(&place(), later), Leaving::Session(None)), "it is not asked for");
    }
}

#[test]
fn a_refused_connection_and_the_one_that_waits_for_it_are_refused_together() {
    let now = Instant::now();
    let (registry, _) = shared(now);
    let claimed = registry.claim(&name("a"), connection(2), socket(7), now);
    assert!(matches!(claimed, ClaimResult::Open(previous) if previous == connection(1)));
    assert_eq!(registry.refuse(&name("a"), connection(1)), Some(connection(2)));
    assert_eq!(registry.refuse(&name("a"), connection(1)), None);
    let (registry, _) = shared(now);
    assert_eq!(registry.refuse(&name("a"), connection(1)), None);
    assert_eq!(registry.socket_id(&name("a"), now), Ok(None));
}

#[test]
fn a_claim_without_a_reply_is_made_up_for_once() {
    let now = Instant::now();
    let (registry, first) = shared(now);
    let late = |number| registry.late_since(&name("a"), number);
    assert_eq!(late(first), None, "its reply is waited for");
    registry.on_claim_timeout(&name("a"), first + 1, now);
    assert!(!registry.is_late(&name("a")), "of another place");
    registry.on_claim_timeout(&name("a"), first, now);
    assert_eq!((late(first), late(first + 1)), (Some(now), None));
    assert_eq!((registry.is_late(&name("a")), registry.claimed_ms(&name("a"), first)), (true, 0));
    // The client returns here: it was connected elsewhere before, if at all.
    let later = now + Duration::from_secs(1);
    let claim = || registry.claim(&name("a"), connection(2), socket(7), later);
    assert!(matches!(claim(), ClaimResult::Open(_)));
    assert_eq!(late(first), Some(later));
    let _ = registry.end(&name("a"), connection(2), Some(Box::new(session(now))), later);
    assert_eq!(late(first), Some(later), "it is made up for before the session is stored");
    registry.on_claimed(&name("a"), first, 5);
    assert_eq!((late(first), registry.claimed_ms(&name("a"), first)), (None, 5));
}

#[test]
fn a_place_without_a_claim_is_named_to_the_next_one() {
    let now = Instant::now();
    for is_late in [true, false] {
        let (registry, first) = shared(now);
        if is_late {
            registry.on_claim_timeout(&name("a"), first, now);
        } else {
            registry.on_claimed(&name("a"), first, 5);
        }
        let _ = registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now);
        let claimed = registry.claim(&name("a"), connection(2), socket(7), now);
        let ClaimResult::Shared { number, unclaimed, session: Some(_) } = claimed else {
            panic!("{claimed:?}")
        };
        assert_eq!(unclaimed, is_late.then_some((first, now)));
        assert_eq!(registry.late_since(&name("a"), number), None, "its reply is waited for");
    }
}

#[test]
fn records_of_connected_clients_are_renewed() {
    let now = Instant::now();
    let (registry, first) = shared(now);
    let due = |at| registry.take_renewals(9, at);
    let later = now + ResumeRegistry::RENEWAL_INTERVAL;
    assert_eq!(due(later.checked_sub(Duration::from_millis(1)).unwrap()), []);
    assert_eq!(due(later), [(name("a"), first, socket(7))]);
    assert_eq!(due(later), []);
    registry.renew_all(later);
    assert_eq!(registry.take_renewals(0, later), []);
    assert_eq!(due(later), [(name("a"), first, socket(7))], "Redis may have lost them");
    let _ = registry.end(&name("a"), connection(1), Some(Box::new(session(now))), later);
    registry.renew_all(later);
    assert_eq!(due(later), [], "it is not connected");
    assert!(registry.has_new_losses(1) && !registry.has_new_losses(1));
}

#[test]
fn renewals_of_earlier_places_do_not_pile_up() {
    let now = Instant::now();
    let (registry, _) = shared(now);
    for _ in 0..3 * OLD_RENEWALS_MIN {
        let _ = registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now);
        registry.claim(&name("a"), connection(1), socket(7), now);
    }
    assert!(registry.state.lock().renewals.len() <= OLD_RENEWALS_MIN + 3);
    let later = now + ResumeRegistry::RENEWAL_INTERVAL;
    assert_eq!(registry.take_renewals(9, later).len(), 1, "that of the present one is left");
}

#[test]
fn sessions_that_redis_may_have_lost_are_stored_again() {
    let now = Instant::now();
    let (registry, first) = shared(now);
    let _ = registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now);
    assert_eq!(registry.park_all_again(), [], "it is being stored");
    registry.on_parked(&name("a"), first);
    let again = [(name("a"), first, socket(7), Box::new(session(now)))];
    assert_eq!(registry.park_all_again(), again);
    assert!(registry.is_parking(&name("a"), first));
    assert_eq!(registry.park_all_again(), []);
}

#[test]
fn the_records_of_evicted_sessions_are_replaced() {
    let (registry, now) = (ResumeRegistry::new(true), Instant::now());
    for number in 0..=ResumeRegistry::PARKED_MAX {
        let name = name(&number.to_string());
        registry.claim(&name, connection(1), socket(7), now);
        let _ = registry.end(&name, connection(1), Some(Box::new(session(now))), now);
    }
    assert_eq!(registry.take_evicted(), [(name("0"), 1, socket(7))]);
    assert_eq!(registry.take_evicted(), []);
    assert_eq!(registry.take_forgotten(), []);
    registry.on_tick(now + ResumeRegistry::KEPT_FOR);
    assert_eq!(registry.take_forgotten().len(), ResumeRegistry::PARKED_MAX + 1);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_are_being_stored_are_waited_for() {
    let registry = ResumeRegistry::new(true);
    registry.wait_until_parked().await;
    let parking = registry.start_parking();
    let waiting = registry.wait_until_parked();
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting).await.is_err());
    drop(parking);
    registry.wait_until_parked().await;
}
