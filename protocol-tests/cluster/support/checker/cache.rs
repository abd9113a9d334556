//! The cached events that new subscribers of cache channels receive.

use std::collections::HashMap;

use super::order::OrderCheck;
use super::{Checker, Event, History, Outcome, Rule, Violation, is_cache_channel};

impl Checker {
    /// Checks that the last event of a cache channel is not older than any event that had its place in the order before
    /// the subscription was requested, unless Redis has lost data since. Events that are accepted while a slot moves may
    /// be missing as well, if the subscription is closed for that.
    pub(super) fn check_cache(
        &self,
        history: &History,
        order: &OrderCheck<'_>,
        events: &HashMap<&str, &Event>,
    ) -> Result<(), Violation> {
        if !is_cache_channel(&history.channel) {
            return Ok(());
        }
        for (id, event) in events {
            let was_there = event.in_place_since.is_some_and(|since| since < history.requested_at)
                && event.published.outcome != Outcome::Rejected
                && !event.is_excused
                && !event.published.id.starts_with(super::WHISPER);
            let was_lost = || {
                let lost =
                    |period: &super::Period| period.overlaps(event.begun, history.acknowledged);
                let is_announced = history.is_cut && self.moves.iter().any(lost);
                is_announced || self.losses.iter().any(lost)
            };
            let is_newer = was_there
                && match &history.cached {
                    Some(cached) => order.precedes(cached, id),
                    None => true,
                };
            if is_newer && !was_lost() {
                let got = history.cached.as_deref().unwrap_or("no event");
                let text = format!("got {got} from the cache instead of {:?}", event.published);
                return Err(history.violation(Rule::Cache, history.acknowledged, &text));
            }
        }
        Ok(())
    }
}

/// Compares the cached events that new subscribers and the API returned, each with its source; all must be the same.
pub(crate) fn caches_differ(
    channel: &str,
    given: &[(String, Option<String>)],
) -> Option<Violation> {
    let (_, first) = given.first()?;
    given.iter().any(|(_, value)| value != first).then(|| {
        Violation::new(
            Rule::Cache,
            channel,
            format!("{channel}: nodes return different events: {given:?}"),
        )
    })
}
