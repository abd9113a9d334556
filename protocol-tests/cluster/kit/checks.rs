//! Whether what was heard agrees with what was published.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::inner;

use super::ledger::EVENT;
use super::{Entry, Heard, Ledger, Listener, Outcome, Published};

/// How the data of client events begins, which are in no ledger.
pub(crate) const WHISPER: &str = "whisper";
/// How long before a client leaves an event may be accepted and still be on its way to it. A Redis that stands still may
/// have answered the publisher and not have told every node yet: it does so when it goes on, after up to eight seconds,
/// or the node's link is given up by then and its clients are closed a while later.
const ON_ITS_WAY: Duration = Duration::from_secs(13);

/// One subscription of one client, from its acknowledgement to its end.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) client: String,
    pub(crate) channel: String,
    pub(crate) acknowledged: Instant,
    /// When the client asked to leave.
    pub(crate) left: Option<Instant>,
    /// Whether the server closed the connection, or it broke, while the subscription lasted.
    pub(crate) is_cut: bool,
    /// Users in the roster of the acknowledgement.
    pub(crate) roster: BTreeSet<String>,
    /// All events of the channel in the order in which they came.
    pub(crate) events: Vec<(Instant, Value)>,
}

impl Subscription {
    /// The data of the ledger's events and of client events, in order.
    pub(crate) fn sequence(&self) -> impl Iterator<Item = (Instant, &str)> {
        let is_numbered = |message: &Value| {
            let name = message["event"].as_str().unwrap_or_default();
            name == EVENT || name.starts_with("client-")
        };
        let numbered = self.events.iter().filter(move |(_, message)| is_numbered(message));
        numbered.filter_map(|(at, message)| Some((*at, message["data"].as_str()?)))
    }

    /// Who is there by what this subscription was told; each change must be one.
    pub(crate) fn members(&self) -> Result<BTreeSet<String>, Violation> {
        let mut members = self.roster.clone();
        for (at, message) in &self.events {
            let is_change = match message["event"].as_str() {
                Some("pusher_internal:member_added") => members.insert(user_of(message)),
                Some("pusher_internal:member_removed") => members.remove(&user_of(message)),
                _ => true,
            };
            if !is_change {
                return Err(self.violation(*at, &format!("{message} changes nothing")));
            }
        }
        Ok(members)
    }

    /// Compares with what was published; the first thing that is wrong, in words.
    pub(crate) fn check(&self, published: &HashMap<String, Published>) -> Result<(), Violation> {
        let mut seen = HashSet::new();
        let mut last_begun: Option<&Published> = None;
        for (at, id) in self.sequence() {
            if !seen.insert(id) {
                return Err(self.violation(at, &format!("received {id} twice")));
            }
            // Client events are in no ledger: nobody is told whether they were accepted.
            if id.starts_with(WHISPER) {
                continue;
            }
            let Some(event) = published.get(id) else {
                return Err(self.violation(at, &format!("{id} was never published")));
            };
            if event.channel != self.channel {
                return Err(self.violation(at, &format!("of another channel: {event:?}")));
            }
            if event.outcome == Outcome::Refused {
                return Err(self.violation(at, &format!("received what was refused: {event:?}")));
            }
            if last_begun.is_none_or(|last| last.begun < event.begun) {
                last_begun = Some(event);
            }
        }
        self.check_gaps(published, &seen, last_begun)
    }

    /// A cut subscription may lack its end, one that was left the last moment, and none anything before something
    /// that it has.
    fn check_gaps(
        &self,
        published: &HashMap<String, Published>,
        seen: &HashSet<&str>,
        last_begun: Option<&Published>,
    ) -> Result<(), Violation> {
        for event in published.values() {
            let is_due = event.channel == self.channel
                && event.outcome == Outcome::Accepted
                && self.acknowledged <= event.begun
                && self.left.is_none_or(|left| event.answered <= left);
            if !is_due || seen.contains(event.id.as_str()) {
                continue;
            }
            let comes_before_another = last_begun.is_some_and(|last| event.answered < last.begun);
            let was_on_its_way = self.left.is_some_and(|left| left - event.answered < ON_ITS_WAY);
            let is_excused = (self.is_cut || was_on_its_way) && !comes_before_another;
            if !is_excused {
                return Err(self.violation(event.answered, &format!("lacks {event:?}")));
            }
        }
        Ok(())
    }

    fn violation(&self, at: Instant, what: &str) -> Violation {
        let (client, channel) = (self.client.clone(), self.channel.clone());
        let how = match (self.left, self.is_cut) {
            (Some(_), _) => "left",
            (None, true) => "cut",
            (None, false) => "open",
        };
        Violation { text: format!("{client} on {channel} ({how}): {what}"), client, channel, at }
    }
}

/// A promise that was not kept, and where to look.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) text: String,
    pub(crate) client: String,
    pub(crate) channel: String,
    pub(crate) at: Instant,
}

/// Whether two subscriptions to a channel have what they both have in one order.
pub(crate) fn same_order(one: &Subscription, other: &Subscription) -> Result<(), Violation> {
    let places: HashMap<&str, usize> =
        other.sequence().enumerate().map(|(place, (_, id))| (id, place)).collect();
    let common: Vec<(usize, Instant, &str)> = one
        .sequence()
        .filter_map(|(at, id)| places.get(id).map(|place| (*place, at, id)))
        .collect();
    match common.windows(2).find(|pair| pair[1].0 < pair[0].0) {
        Some(pair) => {
            let (before, after, other) = (pair[0].2, pair[1].2, &other.client);
            Err(one.violation(pair[1].1, &format!("{before} before {after}, {other} after it")))
        }
        None => Ok(()),
    }
}

/// The subscriptions of a client, by what it heard.
pub(crate) fn subscriptions(client: &str, heard: &[Entry]) -> Vec<Subscription> {
    let mut finished = Vec::new();
    let mut current: HashMap<String, Subscription> = HashMap::new();
    for entry in heard {
        match &entry.what {
            Heard::Asked(_) => {}
            Heard::Left(channel) => {
                if let Some(subscription) = current.get_mut(channel) {
                    subscription.left.get_or_insert(entry.at);
                }
            }
            Heard::Closed(_) | Heard::Ended => {
                for subscription in current.values_mut() {
                    subscription.is_cut |= subscription.left.is_none();
                }
            }
            Heard::Message(message) => {
                let channel = message["channel"].as_str().unwrap_or_default();
                if message["event"] == "pusher_internal:subscription_succeeded" {
                    let begun = acknowledged(client, channel, entry.at, message);
                    finished.extend(current.insert(channel.to_owned(), begun));
                } else if let Some(subscription) = current.get_mut(channel) {
                    subscription.events.push((entry.at, message.clone()));
                }
            }
        }
    }
    finished.extend(current.into_values());
    finished
}

/// Checks what several clients heard of a ledger's publishes, each by itself and all pairwise.
pub(crate) fn check_all(ledger: &Ledger, listeners: &[&Listener]) -> Result<(), Violation> {
    let published = ledger.by_id();
    let mut all = Vec::new();
    for listener in listeners {
        all.extend(subscriptions(&listener.socket_id, &listener.heard()));
    }
    for (at, one) in all.iter().enumerate() {
        one.check(&published)?;
        one.members()?;
        for other in all[..at].iter().filter(|other| other.channel == one.channel) {
            same_order(one, other)?;
        }
    }
    Ok(())
}

fn acknowledged(client: &str, channel: &str, at: Instant, message: &Value) -> Subscription {
    let data = inner(message);
    let ids = data["presence"]["ids"].as_array().into_iter().flatten();
    Subscription {
        client: client.to_owned(),
        channel: channel.to_owned(),
        acknowledged: at,
        left: None,
        is_cut: false,
        roster: ids.filter_map(Value::as_str).map(str::to_owned).collect(),
        events: Vec::new(),
    }
}

fn user_of(message: &Value) -> String {
    inner(message)["user_id"].as_str().expect("a member has an id").to_owned()
}

/// Waits until every listener that is still connected has heard the last publishes, then checks everything.
pub(crate) async fn assert_agrees(ledger: &Ledger, listeners: &[Listener]) {
    let listeners: Vec<&Listener> = listeners.iter().collect();
    let start = Instant::now();
    // What was accepted last may be on its way; what must not come would come on the same way and before the fence.
    while let Err(wrong) = check_all(ledger, &listeners) {
        assert!(
            start.elapsed() < Duration::from_secs(3) && wrong.text.contains("lacks"),
            "{}\n{}",
            wrong.text,
            listeners.iter().map(|listener| listener.tail(40)).collect::<Vec<_>>().join("\n")
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for listener in &listeners {
        if listener.closed().is_none() {
            listener.fence().await;
        }
    }
    if let Err(wrong) = check_all(ledger, &listeners) {
        panic!("{}", wrong.text);
    }
}
