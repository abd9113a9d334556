//! Tests of the checker: it must find each kind of violation in a constructed history.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Outcome, Published, View};

use super::{
    BTreeMap, Checker, History, Least, ON_ITS_WAY, Period, Rule, WebhookRequest, caches_differ,
    insert, webhook_violations, webhooks_differ,
};

const C: &str = "c";
const CACHE: &str = "cache-c";

/// A constructed run in which everything happens at whole seconds.
struct Story {
    start: Instant,
    channel: &'static str,
    published: Vec<Published>,
}

impl Story {
    /// Publishes the events "1" to "5", each at its second, answered half a second later.
    fn new() -> Self {
        Self::on(C)
    }

    fn on(channel: &'static str) -> Self {
        let start = Instant::now();
        let node = SocketAddr::from(([127, 0, 0, 1], 1));
        let event = |second: u64| {
            let begun = start + Duration::from_secs(second);
            let answered = begun + Duration::from_millis(500);
            let (id, channel, outcome) =
                (second.to_string(), channel.to_owned(), Outcome::Accepted);
            Published { id, channel, node, begun, answered, outcome }
        };
        Self { start, channel, published: (1..=5).map(event).collect() }
    }

    /// Lets all publishes overlap, so that only the histories constrain the order.
    fn at_once(mut self) -> Self {
        for event in &mut self.published {
            event.begun = self.start + Duration::from_secs(1);
            event.answered = self.start + Duration::from_secs(10);
        }
        self
    }

    fn with_outcome(mut self, id: &str, outcome: Outcome) -> Self {
        self.published.iter_mut().find(|event| event.id == id).expect("there is one").outcome =
            outcome;
        self
    }

    fn second(&self, second: f64) -> Instant {
        self.start + Duration::from_secs_f64(second)
    }

    /// A subscription that lasts from the beginning and received these events.
    fn received(&self, client: &str, ids: &[&str]) -> History {
        let message = |id: &&str| {
            (
                self.second(20.0),
                json!({ "event": "numbered", "channel": self.channel, "data": *id }),
            )
        };
        self.history(client, ids.iter().map(message).collect())
    }

    fn history(&self, client: &str, events: Vec<(Instant, Value)>) -> History {
        History {
            client: client.to_owned(),
            channel: self.channel.to_owned(),
            requested_at: self.start,
            acknowledged: self.start,
            left: None,
            is_cut: false,
            roster: BTreeSet::from(["1".to_owned()]),
            cached: None,
            is_cache_miss: false,
            events,
            sent: HashSet::new(),
        }
    }

    fn checker(&self, histories: Vec<History>) -> Checker {
        let mut events = HashMap::new();
        for published in self.published.clone() {
            let accepted = (published.outcome == Outcome::Accepted).then_some(published.answered);
            insert(&mut events, published, accepted);
        }
        let mut checker = Checker {
            events,
            histories: BTreeMap::from([(self.channel.to_owned(), histories)]),
            losses: Vec::new(),
            moves: Vec::new(),
            on_its_way: ON_ITS_WAY,
        };
        checker.place_what_was_received();
        checker
    }

    /// The rules that these histories violate.
    fn broken(&self, histories: Vec<History>) -> Vec<Rule> {
        let violations = self.checker(histories).violations();
        violations.into_iter().map(|violation| violation.rule).collect()
    }
}

/// The bounds that five publishes and two subscriptions from second 0 to 30 do not reach.
fn unserved(story: &Story, histories: Vec<History>) -> Vec<String> {
    let calm = Period { begin: story.start, end: story.second(30.0) };
    let least = Least { publishes: 5, joins: 2 };
    let violations = story.checker(histories).unserved(&[calm], least);
    assert!(violations.iter().all(|violation| violation.rule == Rule::Served));
    violations.into_iter().map(|violation| violation.text).collect()
}

fn cut(mut history: History) -> History {
    history.is_cut = true;
    history
}

#[test]
fn a_valid_history_has_no_violations() {
    let story = Story::new();
    let all = ["1", "2", "3", "4", "5"];
    assert_eq!(story.broken(vec![story.received("a", &all), story.received("b", &all)]), []);
}

#[test]
fn a_lost_event_is_found_and_a_lost_end_is_excused_only_on_a_cut_connection() {
    let story = Story::new();
    assert_eq!(story.broken(vec![story.received("a", &["1", "2", "3", "4"])]), [Rule::Complete]);
    assert_eq!(story.broken(vec![cut(story.received("a", &["1", "2"]))]), []);
    let lacks_the_third = cut(story.received("a", &["1", "2", "4"]));
    assert!(story.broken(vec![lacks_the_third]).contains(&Rule::Gap));
}

#[test]
fn a_gap_that_only_another_history_proves_is_found() {
    let story = Story::new().at_once();
    let all = || story.received("a", &["1", "2", "3", "4", "5"]);
    let gap = cut(story.received("b", &["1", "2", "4"]));
    assert_eq!(story.broken(vec![all(), gap]), [Rule::Gap]);
    // Two histories together prove the gap: one shows 2 before 3, the other 3 before 4.
    let (one, other) =
        (cut(story.received("a", &["2", "3"])), cut(story.received("c", &["3", "4"])));
    let gap = || cut(story.received("b", &["1", "2", "4"]));
    assert_eq!(story.broken(vec![one, other, gap()]), [Rule::Gap]);
    assert_eq!(story.broken(vec![cut(story.received("a", &["2", "3"])), gap()]), []);
    // An event of unknown outcome that one connection received was delivered to all.
    let story = Story::new().at_once().with_outcome("3", Outcome::Unknown);
    let all = story.received("a", &["1", "2", "3", "4", "5"]);
    assert_eq!(story.broken(vec![all, cut(story.received("b", &["2", "4"]))]), [Rule::Gap]);
}

#[test]
fn events_before_a_subscription_and_after_its_end_are_not_missed() {
    let story = Story::new();
    let mut late = story.received("a", &["3", "4", "5"]);
    late.acknowledged = story.second(2.9);
    assert_eq!(story.broken(vec![late]), []);
    let left = |second| {
        let mut left = story.received("a", &["1"]);
        left.left = Some(story.second(second));
        left
    };
    assert_eq!(story.broken(vec![left(1.9)]), []);
    assert_eq!(story.broken(vec![left(60.0)]), [Rule::Complete]);
}

#[test]
fn duplicates_unknown_events_and_rejected_ones_are_found() {
    let story = Story::new();
    let all = ["1", "2", "3", "4", "5"];
    let twice = cut(story.received("a", &["1", "1"]));
    assert!(story.broken(vec![twice]).contains(&Rule::Once));
    let unknown = cut(story.received("a", &["6"]));
    assert_eq!(story.broken(vec![unknown]), [Rule::Published]);
    let rejected = Story::new().with_outcome("2", Outcome::Rejected);
    assert_eq!(rejected.broken(vec![rejected.received("a", &all)]), [Rule::Rejected]);
    let unknown = Story::new().with_outcome("2", Outcome::Unknown);
    assert_eq!(
        unknown.broken(vec![unknown.received("a", &all)]),
        [],
        "an unknown outcome allows one receipt or none"
    );
    let mut again = cut(story.received("a", &["2", "3"]));
    again.acknowledged = story.second(1.8);
    let histories = vec![cut(story.received("a", &["1", "2"])), again];
    assert!(story.broken(histories).contains(&Rule::Once), "in two subscriptions");
}

#[test]
fn two_orders_are_found() {
    let story = Story::new().at_once();
    let received = |client, ids: &[&str]| cut(story.received(client, ids));
    let two = vec![received("a", &["1", "2"]), received("b", &["2", "1"])];
    assert_eq!(story.broken(two), [Rule::Order]);
    let three =
        || vec![received("a", &["1", "2"]), received("b", &["2", "3"]), received("c", &["3", "1"])];
    assert_eq!(story.broken(three()), [Rule::Order]);
    let violation = story.checker(three()).violations().remove(0);
    assert!(violation.text.contains("1 before 2 (a)"), "{}", violation.text);
}

#[test]
fn two_orders_in_several_subscriptions_of_one_connection_are_found() {
    let story = Story::new().at_once();
    let mut second = cut(story.received("a", &["1"]));
    second.acknowledged = story.second(5.0);
    let mut first = story.received("a", &["2"]);
    first.left = Some(story.second(4.0));
    let other = cut(story.received("b", &["1", "2"]));
    assert!(story.broken(vec![first, second, other]).contains(&Rule::Order));
}

#[test]
fn an_event_before_one_that_was_accepted_earlier_is_found() {
    let story = Story::new();
    assert_eq!(story.broken(vec![cut(story.received("a", &["2", "1"]))]), [Rule::Order]);
    // The position of an event of unknown outcome in the order has no lower bound in time.
    let story = Story::new().with_outcome("1", Outcome::Unknown);
    assert_eq!(story.broken(vec![cut(story.received("a", &["2", "1"]))]), []);
}

#[test]
fn a_client_event_is_complete_and_once() {
    let mut story = Story::new();
    for event in &mut story.published {
        event.id = format!("whisper {}", event.id);
        event.outcome = Outcome::Unknown;
        event.answered = event.begun;
    }
    let received = |client: &str, ids: &[&str]| {
        let ids: Vec<String> = ids.iter().map(|id| format!("whisper {id}")).collect();
        story.received(client, &ids.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(
        story.broken(vec![received("a", &[]), received("b", &[])]),
        [],
        "no connection received it"
    );
    assert_eq!(story.broken(vec![received("a", &["1"]), received("b", &[])]), [Rule::Complete]);
    let mut sender = received("b", &[]);
    sender.sent.insert("whisper 1".to_owned());
    assert_eq!(story.broken(vec![received("a", &["1"]), sender]), []);
    assert!(story.broken(vec![cut(received("a", &["1", "1"]))]).contains(&Rule::Once));
}

#[test]
fn a_member_added_twice_or_removed_while_absent_is_found() {
    let story = Story::new();
    let change = |name: &str, user: &str| {
        let data = json!({ "user_id": user }).to_string();
        (
            story.start,
            json!({ "event": format!("pusher_internal:{name}"), "channel": C, "data": data }),
        )
    };
    let right = vec![change("member_removed", "1"), change("member_added", "2")];
    let members = story.history("a", right).members().expect("each event changes the members");
    assert_eq!(members, BTreeSet::from(["2".to_owned()]));
    for wrong in [change("member_added", "1"), change("member_removed", "2")] {
        assert_eq!(story.broken(vec![cut(story.history("a", vec![wrong]))]), [Rule::Members]);
    }
}

#[test]
fn the_last_received_count_is_returned() {
    let story = Story::new();
    let count = |count: u64| {
        let data = json!({ "subscription_count": count }).to_string();
        (story.start, json!({ "event": kit::COUNT, "channel": C, "data": data }))
    };
    assert_eq!(story.history("a", vec![count(1), count(2)]).last_count(), Some(2));
    assert_eq!(story.history("a", vec![]).last_count(), None);
}

#[test]
fn an_old_event_from_a_cache_is_found_unless_redis_lost_data() {
    let story = Story::on(CACHE);
    let requested_at = |cached: Option<&str>, second: f64| {
        let mut history = cut(story.received("a", &[]));
        (history.requested_at, history.acknowledged) = (story.second(second), story.second(second));
        history.cached = cached.map(str::to_owned);
        history.is_cache_miss = cached.is_none();
        history
    };
    assert_eq!(story.broken(vec![requested_at(Some("3"), 3.6)]), []);
    assert_eq!(story.broken(vec![requested_at(Some("4"), 3.6)]), [], "it is newer");
    assert_eq!(story.broken(vec![requested_at(Some("2"), 3.6)]), [Rule::Cache]);
    assert_eq!(story.broken(vec![requested_at(None, 3.6)]), [Rule::Cache]);
    assert_eq!(story.broken(vec![requested_at(None, 0.5)]), []);
    let lost = Period { begin: story.second(3.2), end: story.second(3.3) };
    let checker = story.checker(vec![requested_at(Some("2"), 3.6)]).with_losses(&[lost]);
    assert_eq!(checker.violations().len(), 0);
    let lost = Period { begin: story.second(0.2), end: story.second(3.3) };
    let checker = story.checker(vec![requested_at(None, 3.6)]).with_losses(&[lost]);
    assert_eq!(checker.violations().len(), 0);
    let moves = [Period { begin: story.second(3.2), end: story.second(3.3) }];
    let checker = story.checker(vec![requested_at(Some("2"), 3.6)]).with_moves(&moves);
    assert_eq!(checker.violations().len(), 0);
    let open = History { is_cut: false, ..requested_at(Some("2"), 3.6) };
    let checker = story.checker(vec![open]).with_moves(&moves);
    assert!(checker.violations().iter().any(|violation| violation.rule == Rule::Cache));
    let given = |two: &str| {
        [("one".to_owned(), Some("1".to_owned())), ("two".to_owned(), Some(two.to_owned()))]
    };
    assert!(caches_differ(CACHE, &given("1")).is_none());
    assert!(caches_differ(CACHE, &given("2")).is_some());
}

#[test]
fn limits_excuse_what_was_published_meanwhile_and_nothing_else() {
    let story = Story::new();
    let lacks_the_third = || vec![story.received("a", &["1", "2", "4", "5"])];
    let split = Period { begin: story.second(2.8), end: story.second(3.2) };
    assert!(story.checker(lacks_the_third()).excusing(&[split]).violations().is_empty());
    let split = Period { begin: story.second(3.8), end: story.second(4.2) };
    assert!(!story.checker(lacks_the_third()).excusing(&[split]).violations().is_empty());
}

fn requests(events: &[Value]) -> Vec<WebhookRequest> {
    let request = |(at, event): (usize, &Value)| WebhookRequest {
        at: Instant::now(),
        body: json!({ "time_ms": at, "events": [event] }).to_string(),
    };
    events.iter().enumerate().map(request).collect()
}

#[test]
fn webhooks_that_do_not_alternate_are_found() {
    let occupied = json!({ "name": "channel_occupied", "channel": C });
    let vacated = json!({ "name": "channel_vacated", "channel": C });
    let added = json!({ "name": "member_added", "channel": C, "user_id": "1" });
    let right = [occupied.clone(), added.clone(), vacated.clone(), occupied.clone()];
    assert!(webhook_violations(&requests(&right), &[], &[]).is_empty());
    for wrong in [[&occupied, &occupied], [&added, &added], [&vacated, &occupied]] {
        let wrong = requests(&wrong.map(Value::clone));
        assert_eq!(webhook_violations(&wrong, &[], &[]).len(), 1, "{wrong:?}");
    }
    // The same request twice: the response to the first was lost.
    let mut repeated = requests(std::slice::from_ref(&occupied));
    repeated.extend(repeated.clone());
    assert!(webhook_violations(&repeated, &[], &[]).is_empty());
    // After a loss of data, channels that are occupied are reported again; vacated ones are not.
    let now = Instant::now();
    let loss = [Period { begin: now, end: now + Duration::from_secs(1) }];
    assert!(
        webhook_violations(&requests(&[occupied.clone(), occupied.clone()]), &loss, &[]).is_empty()
    );
    let only_vacated = requests(std::slice::from_ref(&vacated));
    for losses in [&loss[..], &[]] {
        assert_eq!(webhook_violations(&only_vacated, losses, &[]).len(), 1);
    }
    let twice_vacated = requests(&[occupied, vacated.clone(), vacated]);
    assert_eq!(webhook_violations(&twice_vacated, &loss, &[]).len(), 1);
    assert!(webhook_violations(&twice_vacated, &[], &loss).is_empty(), "the limits apply");
    let mut much_later = twice_vacated.clone();
    much_later[2].at += Duration::from_secs(60);
    assert!(webhook_violations(&much_later, &[], &loss).is_empty(), "the other master's report");
    much_later[1].at += Duration::from_secs(59);
    assert_eq!(webhook_violations(&much_later, &[], &loss).len(), 1);
    let whisper = json!({ "name": "client_event", "channel": C, "data": "whisper 1" });
    assert_eq!(webhook_violations(&requests(&[whisper.clone(), whisper]), &[], &[]).len(), 1);
}

#[test]
fn webhooks_with_a_wrong_final_state_are_found() {
    let occupied = json!({ "name": "channel_occupied", "channel": C });
    let vacated = json!({ "name": "channel_vacated", "channel": C });
    let count =
        |count| json!({ "name": "subscription_count", "channel": C, "subscription_count": count });
    let (empty, two) = (View::default(), View::default().with_count(C, 2));
    let right = requests(&[occupied.clone(), count(2)]);
    assert!(webhooks_differ(&right, &two, &[], &[]).is_none());
    assert!(webhooks_differ(&right, &empty, &[], &[]).is_some());
    assert!(webhooks_differ(&requests(&[occupied.clone(), count(1)]), &two, &[], &[]).is_some());
    assert!(webhooks_differ(&[], &two, &[], &[]).is_some());
    let gone = requests(&[occupied.clone(), vacated.clone()]);
    assert!(webhooks_differ(&gone, &two, &[], &[]).is_some());
    assert!(webhooks_differ(&gone, &empty, &[], &[]).is_none());
    let now = Instant::now();
    let loss = [Period { begin: now, end: now + Duration::from_secs(1) }];
    let excused = &loss;
    let two_masters = requests(&[occupied.clone(), vacated.clone(), count(1)]);
    assert!(webhooks_differ(&two_masters, &two, &[], excused).is_none());
    assert!(webhooks_differ(&requests(&[count(2)]), &two, &[], excused).is_some());
    assert!(webhooks_differ(&requests(&[occupied]), &empty, &loss, &[]).is_none());
    let member = View::default().with_users("presence-r", &["1"]);
    let channel = json!({ "name": "channel_occupied", "channel": "presence-r" });
    assert!(webhooks_differ(&requests(&[channel]), &member, &[], &[]).is_some());
}

#[test]
fn nodes_that_serve_nothing_are_found() {
    let all = ["1", "2", "3", "4", "5"];
    let story = Story::new();
    let both = |ids: &[&str]| vec![story.received("a", ids), story.received("b", ids)];
    assert_eq!(unserved(&story, both(&all)), [""; 0]);
    assert_eq!(unserved(&story, both(&["1", "2"])), [""; 0], "the rest may have no subscribers");
    let unreceived = "1 accepted events that were received without a fault instead of at least 2";
    assert_eq!(unserved(&story, both(&["1"])), [unreceived]);
    let one_joined = "1 acknowledged subscriptions without a fault instead of at least 2";
    assert_eq!(unserved(&story, vec![story.received("a", &all)]), [one_joined]);
    let rejected =
        all.iter().fold(Story::new(), |story, id| story.with_outcome(id, Outcome::Rejected));
    let subscribed = vec![rejected.received("a", &[]), rejected.received("b", &[])];
    let unaccepted = "0 accepted publishes without a fault instead of at least 4";
    assert_eq!(unserved(&rejected, subscribed), [unaccepted]);
    for outcome in [Outcome::Unknown, Outcome::Broken] {
        let story = Story::new().with_outcome("1", outcome).with_outcome("2", outcome);
        let histories = vec![story.received("a", &all), story.received("b", &all)];
        assert_eq!(unserved(&story, histories).len(), 1, "{outcome:?} is not accepted");
    }
    assert_eq!(unserved(&story, Vec::new()).len(), 2, "no subscriptions and no receipts");
}

#[test]
fn only_what_begins_and_ends_without_a_fault_has_a_lower_bound() {
    let story =
        Story::new().with_outcome("1", Outcome::Rejected).with_outcome("5", Outcome::Rejected);
    let calm = |begin, end| Period { begin: story.second(begin), end: story.second(end) };
    let received = || vec![story.received("a", &["2", "3", "4"])];
    let unserved = |calm: &[Period], publishes| {
        story.checker(received()).unserved(calm, Least { publishes, joins: 1 }).len()
    };
    assert_eq!(unserved(&[calm(0.0, 0.0), calm(2.0, 5.2)], 3), 0);
    assert_eq!(unserved(&[calm(0.0, 0.0), calm(2.0, 5.2)], 4), 1, "too few publishes");
    assert_eq!(unserved(&[calm(0.0, 0.0), calm(1.0, 4.5)], 4), 0, "three of four");
    assert_eq!(unserved(&[calm(0.0, 0.0), calm(1.0, 3.0)], 2), 1, "one of two");
    assert_eq!(unserved(&[calm(2.0, 5.2)], 3), 1, "the subscription began before");
    assert_eq!(unserved(&[], 0), 2, "there must be some");
}

#[test]
fn a_gap_after_an_old_event_from_a_cache_is_judged_by_the_cache() {
    let story = Story::on(CACHE);
    let mut history = cut(story.received("a", &["4"]));
    (history.requested_at, history.acknowledged) = (story.second(3.6), story.second(3.6));
    history.cached = Some("2".to_owned());
    assert_eq!(story.broken(vec![history]), [Rule::Cache], "3 was published before");
}

#[test]
fn two_masters_may_give_two_orders_to_subscriptions_that_have_ended() {
    let story = Story::new();
    let orders = |is_cut: bool| {
        let other = story.received("b", &["1", "3", "2", "4", "5"]);
        vec![story.received("a", &["1", "2", "3", "4", "5"]), History { is_cut, ..other }]
    };
    let period = |second: f64| [Period { begin: story.second(second), end: story.second(9.0) }];
    let is_broken = |is_cut: bool, second: f64| {
        let checker = story.checker(orders(is_cut)).excusing(&period(second));
        checker.violations().iter().any(|violation| violation.rule == Rule::Order)
    };
    assert!(!is_broken(true, 0.0));
    assert!(is_broken(false, 0.0), "the subscription continues");
    assert!(is_broken(true, 8.0), "there was one master");
}

/// The cache holds no client events, so a new subscription may begin with an older event than the last one of the previous.
#[test]
fn a_cached_event_may_be_older_than_client_events_of_the_subscription_before() {
    let mut story = Story::on(CACHE);
    for at in [1, 2] {
        story.published[at].id = format!("whisper {}", at + 1);
    }
    let (first, second) = ("whisper 2", "whisper 3");
    let again = |cached: &str, before: &[&str]| {
        let subscription =
            History { left: Some(story.second(21.0)), ..story.received("a", before) };
        let mut next = cut(story.received("a", &["4"]));
        next.acknowledged = story.second(22.0);
        next.cached = Some(cached.to_owned());
        vec![subscription, next, cut(story.received("b", &["1", first, second, "4"]))]
    };
    let is_broken = |histories| story.broken(histories).contains(&Rule::Order);
    assert!(!is_broken(again("1", &["1", first, second])));
    assert!(!is_broken(again("1", &[first, second])));
    assert!(is_broken(again("1", &["1", second, first])), "client events have an order");
    assert!(is_broken(again("1", &["4", second])), "4 is newer than 1 and could be in the cache");
}
