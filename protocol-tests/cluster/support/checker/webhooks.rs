//! The state that the webhooks reported.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::View;

use super::{Period, Rule, Violation};

/// How long after a change its webhook may be delivered: a node's death is detected, the removal is held back, a
/// dispatcher is replaced, and the batch waits.
const REPORT_DELAY_MAX: Duration = Duration::from_secs(25);

/// A request to the webhook endpoint.
#[derive(Clone, Debug)]
pub(crate) struct WebhookRequest {
    pub(crate) at: Instant,
    pub(crate) body: String,
}

/// A channel, or a member of one.
type Subject = (String, Option<String>);

/// The last reported state of each subject: whether it is present, and when that was reported.
#[derive(Debug, Default)]
struct Reported {
    presence: BTreeMap<Subject, (bool, Instant)>,
    counts: BTreeMap<String, (u64, Instant)>,
    violations: Vec<Violation>,
}

impl Reported {
    /// Reads the requests in the order of arrival. Around failures a request may be repeated byte for byte. After a
    /// loss of data, occupied channels and present members are reported again. What one of two masters reported last
    /// (`excused`) may not be corrected until it changes.
    fn of(requests: &[WebhookRequest], losses: &[Period], excused: &[Period]) -> Self {
        let mut reported = Self::default();
        let mut bodies = HashSet::new();
        let mut client_events = HashSet::new();
        for request in requests.iter().filter(|request| bodies.insert(&request.body)) {
            let body: Value = serde_json::from_str(&request.body).expect("a body is JSON");
            for event in body["events"].as_array().into_iter().flatten() {
                let channel = event["channel"].as_str().unwrap_or_default();
                match event["name"].as_str().unwrap_or_default() {
                    "channel_occupied" | "member_added" => {
                        reported.change(event, true, request.at, losses, excused);
                    }
                    "channel_vacated" | "member_removed" => {
                        reported.change(event, false, request.at, losses, excused);
                    }
                    "subscription_count" => {
                        let count = event["subscription_count"].as_u64().unwrap_or_default();
                        reported.counts.insert(channel.to_owned(), (count, request.at));
                    }
                    "client_event" if !client_events.insert(event["data"].to_string()) => {
                        reported.add(channel, request.at, &format!("{event} was reported twice"));
                    }
                    _ => {}
                }
            }
        }
        reported
    }

    fn change(
        &mut self,
        event: &Value,
        is_present: bool,
        at: Instant,
        losses: &[Period],
        excused: &[Period],
    ) {
        let channel = event["channel"].as_str().unwrap_or_default();
        let subject = (channel.to_owned(), event["user_id"].as_str().map(str::to_owned));
        let before = self.presence.insert(subject, (is_present, at));
        let reported_last = before.map(|(_, at)| at);
        let is_change = before.map_or(is_present, |(was_present, _)| was_present != is_present);
        let may_be_repeated = reported_last.is_some_and(|before| {
            is_present && is_affected(losses, before, at) || is_affected(excused, before, before)
        });
        if !is_change && !may_be_repeated {
            let text = format!("{event} changes nothing, last reported at {reported_last:?}");
            self.add(channel, at, &text);
        }
    }

    fn add(&mut self, channel: &str, at: Instant, text: &str) {
        let mut violation = Violation::new(Rule::Webhooks, channel, format!("webhooks: {text}"));
        violation.at = at;
        self.violations.push(violation);
    }
}

/// Whether what happened in some periods may affect the reports between two moments.
fn is_affected(periods: &[Period], begin: Instant, end: Instant) -> bool {
    periods.iter().any(|period| period.overlaps(begin - REPORT_DELAY_MAX, end))
}

/// Webhook events that do not alternate or are repeated, except while the limits of `docs/cluster.md` apply: two
/// masters have two logs.
pub(crate) fn webhook_violations(
    requests: &[WebhookRequest],
    losses: &[Period],
    excused: &[Period],
) -> Vec<Violation> {
    let mut violations = Reported::of(requests, losses, excused).violations;
    violations.retain(|violation| !is_affected(excused, violation.at, violation.at));
    violations
}

/// Compares the last reported state with the truth. A departure before a loss of data may never be reported. While there are two masters, the
/// webhooks report the log of only one, so what was last reported then may be wrong.
pub(crate) fn webhooks_differ(
    requests: &[WebhookRequest],
    truth: &View,
    losses: &[Period],
    excused: &[Period],
) -> Option<Violation> {
    let reported = Reported::of(requests, losses, excused);
    let is_excused = |at: Instant| is_affected(excused, at, at);
    let channels = truth.counts.keys().chain(truth.users.keys());
    let mut there: HashSet<Subject> = channels.map(|channel| (channel.clone(), None)).collect();
    for (channel, users) in &truth.users {
        there.extend(users.iter().map(|user| (channel.clone(), Some(user.clone()))));
    }
    let missing = there.iter().find(|subject| {
        let last = reported.presence.get(*subject);
        !last.is_some_and(|(is_present, at)| *is_present || is_excused(*at))
    });
    if let Some((channel, user)) = missing {
        let text = format!("webhooks do not report that {user:?} of {channel} is present");
        return Some(Violation::new(Rule::Webhooks, channel, text));
    }
    let now = Instant::now();
    let extra = reported.presence.iter().find(|(subject, (is_present, at))| {
        *is_present && !there.contains(*subject) && !is_affected(losses, *at, now)
    });
    if let Some(((channel, user), _)) = extra {
        let text = format!("webhooks do not report that {user:?} of {channel} has left");
        return Some(Violation::new(Rule::Webhooks, channel, text));
    }
    let wrong = truth.counts.iter().find(|(channel, count)| {
        !reported
            .counts
            .get(*channel)
            .is_some_and(|(reported, at)| reported == *count || is_excused(*at))
    });
    wrong.map(|(channel, count)| {
        let reported = reported.counts.get(channel).map(|(count, _)| count);
        let text =
            format!("webhooks report {reported:?} subscriptions of {channel} instead of {count}");
        Violation::new(Rule::Webhooks, channel, text)
    })
}
