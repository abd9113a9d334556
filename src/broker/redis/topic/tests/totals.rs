//! The total that the subscribers of this node receive.

use super::*;
use crate::channel::{COUNT_INTERVAL, COUNT_UNTHROTTLED_MAX};

/// More subscribers than are announced at each change.
const MANY: usize = COUNT_UNTHROTTLED_MAX + 1;

fn hear_total(topic: &mut Topic, version: u64, total: usize, now: Instant) -> Vec<String> {
    let mut effects = Vec::new();
    topic.on_message(change(version, Change::Total(total)), false, now, &mut effects);
    seen(&effects)
}

fn due(topic: &mut Topic, now: Instant) -> Vec<String> {
    seen(&topic.send_due_total(now))
}

#[test]
fn the_total_is_sent_when_it_changes() {
    let (mut topic, now) = (begun("room", &["a"]), Instant::now());
    assert_eq!(hear_total(&mut topic, 6, 1, now), [""; 0], "sent with the subscription");
    assert_eq!(hear_total(&mut topic, 7, 4, now), ["total 4"]);
    topic.enqueue(subscriber(2, None));
    request(&mut topic);
    let changes = vec![change(8, Change::Total(5))];
    let received = reply(&mut topic, Synced { changes, ..synced(8, 5, 2, &[]) }, false);
    assert_eq!(received, ["total 5", "accept 2"], "the others receive it too");
    assert_eq!(hear_total(&mut topic, 9, 5, now), [""; 0]);
}

#[test]
fn a_large_total_is_sent_every_five_seconds_at_most() {
    let (mut topic, now) = (begun("room", &["a"]), Instant::now());
    assert_eq!(hear_total(&mut topic, 6, MANY, now), ["total later"]);
    assert_eq!(hear_total(&mut topic, 7, MANY + 1, now), [""; 0], "one delay at a time");
    assert_eq!(due(&mut topic, now), [""; 0]);
    let later = now + COUNT_INTERVAL;
    assert_eq!(due(&mut topic, later), [format!("total {}", MANY + 1)]);
    assert_eq!(due(&mut topic, later), [""; 0], "once");
    assert_eq!(hear_total(&mut topic, 8, 7, later), ["total 7"], "it is small");
}

#[test]
fn a_difference_found_after_a_lost_link_is_announced_like_a_change() {
    let mut topic = begun("room", &["a"]);
    relink(&mut topic);
    let received = reply(&mut topic, Synced { total: 3, ..synced(5, 5, 1, &[]) }, true);
    assert_eq!(received, ["total 3"]);
    relink(&mut topic);
    let received = reply(&mut topic, Synced { total: MANY, ..synced(5, 5, 1, &[]) }, true);
    assert_eq!(received, ["total later"]);
}

#[test]
fn a_total_is_not_announced_without_subscribers_here() {
    let (mut topic, now) = (begun("room", &["a"]), Instant::now());
    assert_eq!(hear_total(&mut topic, 6, MANY, now), ["total later"]);
    topic.decrement(None);
    assert_eq!(due(&mut topic, now + COUNT_INTERVAL), [""; 0]);
    assert_eq!(hear_total(&mut topic, 7, 5, now), [""; 0]);
    // The next subscriber receives the total with its subscription.
    topic.enqueue(subscriber(2, None));
    request(&mut topic);
    assert_eq!(reply(&mut topic, synced(7, 5, 1, &[]), false), ["accept 2"]);
    assert_eq!(hear_total(&mut topic, 8, 5, now), [""; 0]);
    assert_eq!(hear_total(&mut topic, 9, 6, now), ["total 6"], "nothing is delayed any more");
}

#[test]
fn a_total_is_not_announced_unless_the_app_counts() {
    let (mut topic, now) = (begun("room", &["a"]), Instant::now());
    topic.set_config(&AppConfig::development());
    assert_eq!(hear_total(&mut topic, 6, 4, now), [""; 0]);
    let mut room = begun("presence-a", &["1"]);
    assert_eq!(hear_total(&mut room, 6, 4, now), [""; 0]);
}
