//! The model under test: it must find what is wrong, or it proves nothing.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Outcome, Published, Subscription, same_order};

const C: &str = "c";

/// Everything happens at whole seconds of this time.
struct Story {
    start: Instant,
    published: HashMap<String, Published>,
}

impl Story {
    /// Events "1", "2" and "3", each begun at its second and answered half a second later.
    fn new(outcome: Outcome) -> Self {
        let start = Instant::now();
        let node = SocketAddr::from(([127, 0, 0, 1], 1));
        let event = |second: u64| {
            let begun = start + Duration::from_secs(second);
            let answered = begun + Duration::from_millis(500);
            let (id, channel) = (second.to_string(), C.to_owned());
            (id.clone(), Published { id, channel, node, begun, answered, outcome })
        };
        Self { start, published: (1..=3).map(event).collect() }
    }

    /// A subscription from the beginning that received these.
    fn heard(&self, ids: &[&str]) -> Subscription {
        let message =
            |id: &&str| (self.start, json!({ "event": "numbered", "channel": C, "data": *id }));
        self.subscription(ids.iter().map(message).collect())
    }

    fn subscription(&self, events: Vec<(Instant, Value)>) -> Subscription {
        Subscription {
            client: "client".to_owned(),
            channel: C.to_owned(),
            acknowledged: self.start,
            left: None,
            is_cut: false,
            roster: BTreeSet::from(["1".to_owned()]),
            events,
        }
    }

    fn finds(&self, subscription: &Subscription) -> String {
        subscription.check(&self.published).expect_err("something is wrong").text
    }
}

#[test]
fn what_is_right_is_found_right() {
    let story = Story::new(Outcome::Accepted);
    assert!(story.heard(&["1", "2", "3"]).check(&story.published).is_ok());
}

#[test]
fn a_lost_event_is_found_and_an_end_is_excused_only_where_it_was_cut() {
    let story = Story::new(Outcome::Accepted);
    assert!(story.finds(&story.heard(&["1", "2"])).contains("lacks"));
    let mut cut = story.heard(&["1", "2"]);
    cut.is_cut = true;
    assert!(cut.check(&story.published).is_ok());
    let mut gap = story.heard(&["1", "3"]);
    gap.is_cut = true;
    assert!(story.finds(&gap).contains("lacks"), "a gap is not excused");
}

#[test]
fn what_was_accepted_before_a_subscription_or_after_its_end_is_not_missed() {
    let story = Story::new(Outcome::Accepted);
    let mut late = story.heard(&["3"]);
    late.acknowledged = story.start + Duration::from_millis(2_900);
    assert!(late.check(&story.published).is_ok());
    let mut left = story.heard(&["1"]);
    left.left = Some(story.start + Duration::from_millis(1_900));
    assert!(left.check(&story.published).is_ok());
    left.left = Some(story.start + Duration::from_secs(60));
    assert!(story.finds(&left).contains("lacks"));
}

#[test]
fn duplicates_strangers_and_what_was_refused_are_found() {
    let story = Story::new(Outcome::Accepted);
    assert!(story.finds(&story.heard(&["1", "1"])).contains("twice"));
    assert!(story.finds(&story.heard(&["whisper 1", "whisper 1"])).contains("twice"));
    assert!(story.finds(&story.heard(&["4"])).contains("never published"));
    let refused = Story::new(Outcome::Refused);
    assert!(refused.finds(&refused.heard(&["2"])).contains("refused"));
    let unknown = Story::new(Outcome::Unknown);
    assert!(unknown.heard(&["2"]).check(&unknown.published).is_ok(), "once or not at all");
}

#[test]
fn two_orders_are_found() {
    let story = Story::new(Outcome::Accepted);
    let one = story.heard(&["1", "2", "3"]);
    assert!(same_order(&one, &story.heard(&["1", "3"])).is_ok());
    assert!(same_order(&one, &story.heard(&["2", "1"])).is_err());
}

#[test]
fn members_who_come_twice_or_go_unseen_are_found() {
    let story = Story::new(Outcome::Accepted);
    let change = |name: &str, user: &str| {
        let data = json!({ "user_id": user }).to_string();
        (
            story.start,
            json!({ "event": format!("pusher_internal:{name}"), "channel": C, "data": data }),
        )
    };
    let right = vec![change("member_removed", "1"), change("member_added", "2")];
    let members = story.subscription(right).members().expect("each change is one");
    assert_eq!(members, BTreeSet::from(["2".to_owned()]));
    for wrong in [change("member_added", "1"), change("member_removed", "2")] {
        assert!(story.subscription(vec![wrong]).members().is_err());
    }
}
