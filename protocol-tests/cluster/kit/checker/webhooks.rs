//! What the webhooks tell.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::View;

use super::{Period, Rule, Violation};

/// How long after it happened something may be told: a death is noticed, a departure is kept back, a dispatcher
/// replaced, and a batch waits.
const TOLD_WITHIN: Duration = Duration::from_secs(25);

/// A request to the endpoint, in the order in which they came.
#[derive(Clone, Debug)]
pub(crate) struct WebhookRequest {
    pub(crate) at: Instant,
    pub(crate) body: String,
}

/// A channel, or a member of one.
type Subject = (String, Option<String>);

/// What was told of each subject last: whether it is there, and when that was told.
#[derive(Debug, Default)]
struct Told {
    presence: BTreeMap<Subject, (bool, Instant)>,
    counts: BTreeMap<String, u64>,
    violations: Vec<Violation>,
}

impl Told {
    /// Around failures a request may come twice, byte for byte the same. When Redis has lost data, what is there is
    /// told once more.
    fn of(requests: &[WebhookRequest], losses: &[Period]) -> Self {
        let mut told = Self::default();
        let mut bodies = HashSet::new();
        let mut client_events = HashSet::new();
        for request in requests.iter().filter(|request| bodies.insert(&request.body)) {
            let body: Value = serde_json::from_str(&request.body).expect("a body is JSON");
            for event in body["events"].as_array().into_iter().flatten() {
                let channel = event["channel"].as_str().unwrap_or_default();
                match event["name"].as_str().unwrap_or_default() {
                    "channel_occupied" => told.change(event, true, request.at, losses),
                    "member_added" => told.change(event, true, request.at, losses),
                    "channel_vacated" | "member_removed" => {
                        told.change(event, false, request.at, losses);
                    }
                    "subscription_count" => {
                        let count = event["subscription_count"].as_u64().unwrap_or_default();
                        told.counts.insert(channel.to_owned(), count);
                    }
                    "client_event" if !client_events.insert(event["data"].to_string()) => {
                        told.add(channel, request.at, &format!("{event} is told twice"));
                    }
                    _ => {}
                }
            }
        }
        told
    }

    fn change(&mut self, event: &Value, is_there: bool, at: Instant, losses: &[Period]) {
        let channel = event["channel"].as_str().unwrap_or_default();
        let subject = (channel.to_owned(), event["user_id"].as_str().map(str::to_owned));
        let before = self.presence.insert(subject, (is_there, at));
        let told_last = before.map(|(_, at)| at);
        let is_change = before.map_or(is_there, |(was_there, _)| was_there != is_there);
        let may_be_repeated =
            is_there && told_last.is_some_and(|before| was_lost(losses, before, at));
        if !is_change && !may_be_repeated {
            let text = format!("{event} changes nothing, told last {told_last:?}");
            self.add(channel, at, &text);
        }
    }

    fn add(&mut self, channel: &str, at: Instant, text: &str) {
        let mut violation = Violation::new(Rule::Webhooks, channel, format!("webhooks: {text}"));
        violation.at = at;
        self.violations.push(violation);
    }
}

/// Whether Redis lost data so that it shows in what is told between two moments.
fn was_lost(losses: &[Period], begin: Instant, end: Instant) -> bool {
    losses.iter().any(|loss| loss.overlaps(begin - TOLD_WITHIN, end))
}

/// What does not alternate, or is told twice, but for what is told while the limits of `docs/cluster.md` apply: two masters
/// have two logs.
pub(crate) fn webhook_violations(
    requests: &[WebhookRequest],
    losses: &[Period],
    excused: &[Period],
) -> Vec<Violation> {
    let mut violations = Told::of(requests, losses).violations;
    violations.retain(|violation| !was_lost(excused, violation.at, violation.at));
    violations
}

/// Where what was told last is not the truth. What has left before Redis lost data may never be told.
pub(crate) fn webhooks_differ(
    requests: &[WebhookRequest],
    truth: &View,
    losses: &[Period],
) -> Option<Violation> {
    let told = Told::of(requests, losses);
    let channels = truth.counts.keys().chain(truth.users.keys());
    let mut there: HashSet<Subject> = channels.map(|channel| (channel.clone(), None)).collect();
    for (channel, users) in &truth.users {
        there.extend(users.iter().map(|user| (channel.clone(), Some(user.clone()))));
    }
    let missing = there
        .iter()
        .find(|subject| !told.presence.get(*subject).is_some_and(|(is_there, _)| *is_there));
    if let Some((channel, user)) = missing {
        let text = format!("webhooks do not tell that {user:?} of {channel} is there");
        return Some(Violation::new(Rule::Webhooks, channel, text));
    }
    let now = Instant::now();
    let extra = told.presence.iter().find(|(subject, (is_there, at))| {
        *is_there && !there.contains(*subject) && !was_lost(losses, *at, now)
    });
    if let Some(((channel, user), _)) = extra {
        let text = format!("webhooks do not tell that {user:?} of {channel} has left");
        return Some(Violation::new(Rule::Webhooks, channel, text));
    }
    truth.counts.iter().find(|(channel, count)| told.counts.get(*channel) != Some(*count)).map(
        |(channel, count)| {
            let told = told.counts.get(channel);
            let text =
                format!("webhooks tell {told:?} subscriptions of {channel}, there are {count}");
            Violation::new(Rule::Webhooks, channel, text)
        },
    )
}
