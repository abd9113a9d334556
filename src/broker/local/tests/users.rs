//! Users and their watchlists.

use super::*;
use crate::{hub::UserClose, protocol::CloseCode};

pub(super) fn user(id: &str, watchlist: &[&str]) -> User {
    User {
        id: id.into(),
        info: None,
        watchlist: watchlist.iter().map(|&id| id.into()).collect(),
        watchlist_truncated: false,
    }
}

#[test]
fn a_watcher_receives_the_current_state_and_then_changes() {
    let mut test = test(|_| {});
    let [a, b, c] = [connection(0, 1), connection(1, 2), connection(1, 3)];
    let _ = sign_in(&test.hub, b, &user("b", &[]), "{}", None);
    let signed_in = sign_in(&test.hub, a, &user("a", &["b", "c"]), "{}", None);
    let events = json!({"events": [
        {"name": "online", "user_ids": ["b"]},
        {"name": "offline", "user_ids": ["c"]},
    ]});
    assert_eq!(decoded(&signed_in.watchlist.unwrap()).1, events);

    let _ = sign_in(&test.hub, c, &user("c", &[]), "{}", None);
    let online = json!({"events": [{"name": "online", "user_ids": ["c"]}]});
    assert_eq!(test.received(0)[0].1, online);

    sign_out(&test.broker, &test.hub, c, &user("c", &[]), test.now);
    test.now += OFFLINE_GRACE - Duration::from_millis(1);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(test.received(0), [], "a page may be reloading");
    test.now += Duration::from_millis(1);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(test.received(0)[0].1, json!({"events": [{"name": "offline", "user_ids": ["c"]}]}));
}

#[test]
fn a_page_reload_is_not_reported() {
    let mut test = test(|_| {});
    let [a, c, again] = [connection(0, 1), connection(1, 3), connection(1, 4)];
    let _ = sign_in(&test.hub, c, &user("c", &[]), "{}", None);
    let _ = sign_in(&test.hub, a, &user("a", &["c"]), "{}", None);
    sign_out(&test.broker, &test.hub, c, &user("c", &[]), test.now);
    test.now += Duration::from_secs(1);
    let _ = sign_in(&test.hub, again, &user("c", &[]), "{}", None);
    sign_out(&test.broker, &test.hub, again, &user("c", &[]), test.now);
    test.now += Duration::from_secs(2);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(test.received(0), [], "the second delay runs from the second end");
    test.now += Duration::from_secs(1);
    on_tick(&test.broker, &test.hub, test.now);
    assert_eq!(test.received(0).len(), 1);
}

#[test]
fn unused_users_take_no_memory() {
    let mut test = test(|_| {});
    let a = connection(0, 1);
    let _ = sign_in(&test.hub, a, &user("a", &["b", "c"]), "{}", None);
    let _ = sign_in(&test.hub, a, &user("a", &["c", "d"]), "{}", Some(&user("a", &["b", "c"])));
    assert!(!app_state(&test.hub).users.knows("b") && app_state(&test.hub).users.knows("d"));
    sign_out(&test.broker, &test.hub, a, &user("a", &["c", "d"]), test.now);
    test.now += OFFLINE_GRACE;
    on_tick(&test.broker, &test.hub, test.now);
    assert!(["a", "b", "c", "d"].iter().all(|id| !app_state(&test.hub).users.knows(id)));
}

#[test]
fn terminating_a_user_closes_all_its_connections() {
    let test = test(|_| {});
    for slot in 0..3 {
        let _ = sign_in(&test.hub, connection(1, slot), &user("a", &[]), "{}", None);
    }
    test.hub.close_user("a", UserClose::Terminate);
    test.hub.close_user("unknown", UserClose::Terminate);
    let Some(Delivery::Close { keys, code }) = test.deliveries(1).pop_front() else { panic!() };
    assert_eq!((keys.len(), code), (3, CloseCode::Terminated));
    assert!(test.deliveries(0).is_empty());
}
