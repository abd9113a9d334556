//! The watch `channel`: the state, the members and the events of one channel.

use super::{
    context::{APP_CHANGED, Context, SeenApp},
    event::{describe, origin},
    output::{Closed, Output},
    overview::now_ms,
    publish::channel,
    request::ChannelParams,
    sampler::Sampler,
};
use crate::{hub::WatchedEvent, protocol::ChannelName};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{self, Instant};

/// How often the counts and the members are read, and how often those of many members.
const INTERVAL: Duration = Duration::from_secs(1);
const LARGE_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of members that are shown.
const USERS_MAX: usize = 1_000;

/// The members of a presence channel with their info, if it is shown.
type Users = BTreeMap<Arc<str>, Value>;

/// The state of a channel at one time.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    subscriptions: usize,
    /// `None` unless it is a presence channel.
    user_count: Option<usize>,
    users: Option<Users>,
    is_cached: bool,
}

/// Sends the channel until the page is gone.
pub(super) async fn watch(
    context: &Context,
    app: &SeenApp,
    params: &ChannelParams,
    output: &Output,
) -> Result<(), Closed> {
    let name = match channel(&params.channel, &app.hub.app().config) {
        Ok(name) => name,
        Err(error) => return output.error(error).await,
    };
    // Before the state is read, so that no event after it is missed.
    let mut watch = context.node().broker().watch(&app.hub, &name);
    let mut state = match read_state(context, app, &name, None).await {
        Ok(state) => state,
        Err(error) => return output.error(error).await,
    };
    output.result(state_of(&name, &state)).await?;
    let mut sampler = Sampler::new(Instant::now().into());
    let mut read_at = Instant::now();
    let mut ticks = time::interval_at(Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = watch.next() => {
                let Some(event) = event else { return Ok(()) };
                if sampler.admit() {
                    output.data(event_of(&event, app.shows_payloads())).await?;
                }
            }
            _ = ticks.tick() => {
                if !app.is_current() {
                    return output.error(APP_CHANGED).await;
                }
                if let Some(sampled) = sampler.end_period(Instant::now().into(), watch.take_missed()) {
                    output.data(sampled).await?;
                }
                if state.is_large() && read_at.elapsed() < LARGE_INTERVAL {
                    continue;
                }
                read_at = Instant::now();
                // An outage is shown by the overview; the channel is read again after it.
                if let Ok(now) = read_state(context, app, &name, Some(&state)).await {
                    send_changes(&name, &state, &now, output).await?;
                    state = now;
                }
            }
        }
    }
}

impl State {
    /// Whether it has more members than are shown.
    fn is_large(&self) -> bool {
        self.user_count.is_some_and(|users| USERS_MAX < users)
    }
}

/// Reads a channel. All members are read to show some: of a large channel for one page at a time, and
/// without their info once it was read `before`.
async fn read_state(
    context: &Context,
    app: &SeenApp,
    name: &ChannelName,
    before: Option<&State>,
) -> Result<State, &'static str> {
    let unavailable = |_| "the cluster is unavailable";
    let broker = context.node().broker();
    let summary = broker.channel(&app.hub, name).await.map_err(unavailable)?;
    let mut state = State {
        subscriptions: summary.counts.subscriptions,
        is_cached: summary.cached.is_some(),
        ..State::default()
    };
    if name.is_presence() {
        let shows_info = app.shows_payloads();
        let large = before.filter(|before| before.is_large());
        let question = if large.is_some() { Some(context.question().await) } else { None };
        let needs_info = shows_info && large.is_none();
        let users = broker.users(&app.hub, name, needs_info).await.map_err(unavailable)?;
        drop(question);
        state.user_count = Some(users.len());
        let info = |info: &str| {
            if shows_info { serde_json::from_str(info).unwrap_or_default() } else { Value::Null }
        };
        let known = large.and_then(|large| large.users.as_ref());
        let shown = users.into_iter().take(USERS_MAX);
        let shown = shown.map(|(id, text)| match known.and_then(|known| known.get(&id)) {
            Some(known) if shows_info => (id, known.clone()),
            Some(_) | None => (id, info(&text)),
        });
        state.users = Some(shown.collect());
    }
    Ok(state)
}

async fn send_changes(
    name: &ChannelName,
    before: &State,
    now: &State,
    output: &Output,
) -> Result<(), Closed> {
    if let Some(members) = members_of(before, now) {
        output.data(members).await?;
    }
    let counts = |state: &State| (state.subscriptions, state.user_count, state.is_cached);
    if counts(before) != counts(now) {
        let mut state = state_of(name, now);
        state["type"] = "state".into();
        output.data(state).await?;
    }
    Ok(())
}

/// The members that have joined and left, if there are any.
fn members_of(before: &State, now: &State) -> Option<Value> {
    let (before, now) = before.users.as_ref().zip(now.users.as_ref())?;
    let added = now.iter().filter(|(id, _)| !before.contains_key(*id));
    let added: Vec<_> = added.map(user).collect();
    let removed: Vec<_> = before.keys().filter(|id| !now.contains_key(*id)).collect();
    let is_changed = !added.is_empty() || !removed.is_empty();
    let removed: Vec<_> = removed.iter().map(|id| &***id).collect();
    is_changed.then(|| json!({"type": "members", "added": added, "removed": removed}))
}

fn user((id, info): (&Arc<str>, &Value)) -> Value {
    json!({"id": &**id, "info": info})
}

fn state_of(name: &ChannelName, state: &State) -> Value {
    json!({
        "channel": name.as_str(),
        "occupied": 0 < state.subscriptions,
        "subscriptions": state.subscriptions,
        "users": state.users.as_ref().map(|users| users.iter().map(user).collect::<Vec<_>>()),
        "user_count": state.user_count,
        "cached": state.is_cached,
    })
}

fn event_of(event: &WatchedEvent, shows_data: bool) -> Value {
    let mut item = describe(event.frame.as_text().unwrap_or_default(), shows_data);
    item["type"] = "event".into();
    item["time"] = now_ms().into();
    item["from"] = origin(&event.frame).into();
    item["socket_id"] = event.except.map(|socket_id| socket_id.to_string()).into();
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_compared_by_their_ids() {
        let state = |ids: &[&str]| State {
            users: Some(ids.iter().map(|&id| (id.into(), Value::Null)).collect()),
            ..State::default()
        };
        let changed = members_of(&state(&["a", "b"]), &state(&["b", "c"]));
        let added = json!([{"id": "c", "info": null}]);
        assert_eq!(changed, Some(json!({"type": "members", "added": added, "removed": ["a"]})));
        assert_eq!(members_of(&state(&["a"]), &state(&["a"])), None);
        assert_eq!(members_of(&State::default(), &State::default()), None);
    }
}
