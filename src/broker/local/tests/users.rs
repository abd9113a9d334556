//! Users and their watchlists.

use super::*;

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
    let mut bench = bench(|_| {});
    let [a, b, c] = [connection(0, 1), connection(1, 2), connection(1, 3)];
    let _ = sign_in(&bench.hub, b, &user("b", &[]), "{}", None);
    let signed_in = sign_in(&bench.hub, a, &user("a", &["b", "c"]), "{}", None);
    let events = json!({"events": [
        {"name": "online", "user_ids": ["b"]},
        {"name": "offline", "user_ids": ["c"]},
    ]});
    assert_eq!(decoded(&signed_in.watchlist.unwrap()).1, events);

    let _ = sign_in(&bench.hub, c, &user("c", &[]), "{}", None);
    let online = json!({"events": [{"name": "online", "user_ids": ["c"]}]});
    assert_eq!(bench.received(0)[0].1, online);

    sign_out(&bench.hub, c, &user("c", &[]), bench.now);
    bench.now += OFFLINE_GRACE - Duration::from_millis(1);
    on_tick(&bench.hub, bench.now);
    assert_eq!(bench.received(0), [], "a page may be reloading");
    bench.now += Duration::from_millis(1);
    on_tick(&bench.hub, bench.now);
    assert_eq!(bench.received(0)[0].1, json!({"events": [{"name": "offline", "user_ids": ["c"]}]}));
}

#[test]
fn a_page_reload_is_not_reported() {
    let mut bench = bench(|_| {});
    let [a, c, again] = [connection(0, 1), connection(1, 3), connection(1, 4)];
    let _ = sign_in(&bench.hub, c, &user("c", &[]), "{}", None);
    let _ = sign_in(&bench.hub, a, &user("a", &["c"]), "{}", None);
    sign_out(&bench.hub, c, &user("c", &[]), bench.now);
    bench.now += Duration::from_secs(1);
    let _ = sign_in(&bench.hub, again, &user("c", &[]), "{}", None);
    sign_out(&bench.hub, again, &user("c", &[]), bench.now);
    bench.now += Duration::from_secs(2);
    on_tick(&bench.hub, bench.now);
    assert_eq!(bench.received(0), [], "the second delay runs from the second end");
    bench.now += Duration::from_secs(1);
    on_tick(&bench.hub, bench.now);
    assert_eq!(bench.received(0).len(), 1);
}

#[test]
fn unused_users_take_no_memory() {
    let mut bench = bench(|_| {});
    let a = connection(0, 1);
    let _ = sign_in(&bench.hub, a, &user("a", &["b", "c"]), "{}", None);
    let _ = sign_in(&bench.hub, a, &user("a", &["c", "d"]), "{}", Some(&user("a", &["b", "c"])));
    assert!(!app_state(&bench.hub).users.knows("b") && app_state(&bench.hub).users.knows("d"));
    sign_out(&bench.hub, a, &user("a", &["c", "d"]), bench.now);
    bench.now += OFFLINE_GRACE;
    on_tick(&bench.hub, bench.now);
    assert!(["a", "b", "c", "d"].iter().all(|id| !app_state(&bench.hub).users.knows(id)));
}

#[test]
fn terminating_a_user_closes_all_its_connections() {
    let bench = bench(|_| {});
    for slot in 0..3 {
        let _ = sign_in(&bench.hub, connection(1, slot), &user("a", &[]), "{}", None);
    }
    bench.hub.terminate("a");
    bench.hub.terminate("unknown");
    let Some(Delivery::Close { keys, .. }) = bench.deliveries(1).pop_front() else { panic!() };
    assert_eq!(keys.len(), 3);
    assert!(bench.deliveries(0).is_empty());
}
