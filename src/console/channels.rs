//! The watch `channels`: the occupied channels of an app, and what they have delivered.

use super::{
    context::{APP_CHANGED, Context, SeenApp},
    output::{Closed, Output},
    request::{ChannelOrder, ChannelsParams},
};
use crate::{
    channel::Counts,
    hub::{ActivityOrder, ChannelSequences},
    protocol::ChannelName,
};
use serde_json::{Value, json};
use std::{cmp::Reverse, time::Duration};
use tokio::time::{self, Instant};

/// The interval of the list.
const INTERVAL: Duration = Duration::from_secs(2);
/// Maximum number of channels that are shown.
const CHANNELS_MAX: usize = 200;

/// Sends the channels until the page is gone.
pub(super) async fn watch(
    context: &Context,
    app: &SeenApp,
    params: &ChannelsParams,
    output: &Output,
) -> Result<(), Closed> {
    let mut before = (app.hub.channel_sequences(), Instant::now());
    let mut is_first = true;
    let mut ticks = time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !app.is_current() {
            return output.error(APP_CHANGED).await;
        }
        let listed = list(context, app, params, &before.0).await;
        let now = (app.hub.channel_sequences(), Instant::now());
        let interval_ms = u64::try_from((now.1 - before.1).as_millis()).unwrap_or(u64::MAX);
        let data = match listed {
            Ok((total, channels)) => {
                json!({"total": total, "channels": channels, "interval_ms": interval_ms})
            }
            Err(error) => return output.error(error).await,
        };
        before = now;
        if std::mem::take(&mut is_first) {
            output.result(data).await?;
        } else {
            output.data(data).await?;
        }
    }
}

/// The number of channels that match, and the first of them.
async fn list(
    context: &Context,
    app: &SeenApp,
    params: &ChannelsParams,
    before: &ChannelSequences,
) -> Result<(usize, Vec<Value>), &'static str> {
    let occupied = context.node().broker().channels(&app.hub, "").await;
    let occupied = occupied.map_err(|_| "the cluster is unavailable")?;
    let (mut total, mut found) = (0, Vec::new());
    occupied.for_each(|name, counts| {
        if name.as_str().contains(&params.search) {
            total += 1;
            let events = app.hub.events_since(before, name);
            found.push((name.clone(), counts, events));
            if 2 * CHANNELS_MAX <= found.len() {
                keep_first(&mut found, params.order);
            }
        }
    });
    keep_first(&mut found, params.order);
    let channels = found.iter().map(|(name, counts, events)| {
        let users = name.is_presence().then_some(counts.users);
        json!({
            "channel": name.as_str(),
            "subscriptions": counts.subscriptions,
            "users": users,
            "events": events,
        })
    });
    Ok((total, channels.collect()))
}

/// Keeps the channels that are shown, in order.
fn keep_first(channels: &mut Vec<(ChannelName, Counts, u64)>, order: ChannelOrder) {
    let rank = |events: u64, subscriptions: usize| {
        let order = match order {
            ChannelOrder::Events => ActivityOrder::Events,
            ChannelOrder::Subscriptions => ActivityOrder::Subscriptions,
            ChannelOrder::Messages => ActivityOrder::Messages,
            ChannelOrder::Name => return (0, 0, 0),
        };
        order.rank(events, subscriptions as u64)
    };
    channels.sort_by_cached_key(|(name, counts, events)| {
        (Reverse(rank(*events, counts.subscriptions)), name.clone())
    });
    channels.truncate(CHANNELS_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_ordered_and_bounded() {
        let channel = |name: &str, subscriptions, events| {
            let counts = Counts { subscriptions, ..Counts::default() };
            (ChannelName::parse(name, 200).unwrap(), counts, events)
        };
        let names = |order| {
            let mut channels = vec![channel("c", 1, 10), channel("b", 5, 3), channel("a", 7, 1)];
            keep_first(&mut channels, order);
            channels.iter().map(|(name, ..)| name.as_str().to_owned()).collect::<String>()
        };
        assert_eq!(names(ChannelOrder::Events), "cba");
        assert_eq!(names(ChannelOrder::Subscriptions), "abc");
        assert_eq!(names(ChannelOrder::Messages), "bca");
        assert_eq!(names(ChannelOrder::Name), "abc");
        let mut many: Vec<_> =
            (0..=CHANNELS_MAX).map(|number| channel(&format!("{number:03}"), 1, 1)).collect();
        keep_first(&mut many, ChannelOrder::Name);
        assert_eq!(many.len(), CHANNELS_MAX);
        assert_eq!(many[0].0.as_str(), "000");
    }
}
