//! Whether every promise was kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::kit::{Subscription, View, Violation, same_order, subscriptions, until_everywhere};

use super::chaos::Chaos;
use super::clients::{Life, Session};
use super::world::World;

/// The first promise that was not kept.
pub(super) async fn after(
    world: &World,
    chaos: &Chaos,
    lives: &[Life],
    quiet: Duration,
) -> Result<(), Violation> {
    everything_settles(chaos, lives, quiet).await?;
    let published = world.ledger.by_id();
    let mut by_channel: BTreeMap<String, Vec<Subscription>> = BTreeMap::new();
    for (name, entries) in lives.iter().flat_map(Life::all) {
        for subscription in subscriptions(&name, &entries) {
            by_channel.entry(subscription.channel.clone()).or_default().push(subscription);
        }
    }
    for subscription in by_channel.values().flatten() {
        subscription.check(&published)?;
        subscription.members()?;
    }
    for subscriptions in by_channel.values() {
        one_order(subscriptions)?;
    }
    rosters_are_right(&by_channel, &truth(lives))
}

/// Every wish of every open connection is fulfilled, and every node says so. A connection may still be closed while
/// nodes find out what they missed, so the truth is asked for again and again.
async fn everything_settles(
    chaos: &Chaos,
    lives: &[Life],
    quiet: Duration,
) -> Result<(), Violation> {
    let start = Instant::now();
    loop {
        let unfulfilled = open(lives).find_map(|(_, session)| {
            let heard = |channel: &str| session.listener.acknowledgements(channel);
            let channel =
                session.wanted.iter().find(|(channel, asked)| heard(channel) < **asked)?;
            let text = format!("{} waits for {} for ever", session.name, channel.0);
            Some(violation(&session.name, channel.0, text))
        });
        let wrong = match unfulfilled {
            Some(violation) => violation,
            None => match until_everywhere(&chaos.addresses(), Duration::ZERO, &truth(lives)).await
            {
                Ok(()) => return Ok(()),
                Err(text) => violation("", "", text),
            },
        };
        if quiet < start.elapsed() {
            return Err(wrong);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Open connections and their users.
fn open(lives: &[Life]) -> impl Iterator<Item = (&str, &Session)> {
    let present =
        lives.iter().filter_map(|life| Some((life.user.as_str(), life.present.as_ref()?)));
    present.filter(|(_, session)| session.listener.closed().is_none())
}

/// What the clients themselves know about who is where.
fn truth(lives: &[Life]) -> View {
    let mut view = View::default();
    for (user, session) in open(lives) {
        view.connections += 1;
        for channel in session.wanted.keys() {
            if channel.starts_with("presence-") {
                view.users.entry(channel.clone()).or_default().insert(user.to_owned());
            } else {
                *view.counts.entry(channel.clone()).or_default() += 1;
            }
        }
    }
    view
}

/// What each watcher that is still there was told adds up to the truth.
fn rosters_are_right(
    by_channel: &BTreeMap<String, Vec<Subscription>>,
    truth: &View,
) -> Result<(), Violation> {
    for (channel, subscriptions) in
        by_channel.iter().filter(|(name, _)| name.starts_with("presence-"))
    {
        let nobody = BTreeSet::new();
        let present = truth.users.get(channel).unwrap_or(&nobody);
        let lasting = subscriptions.iter().filter(|one| one.left.is_none() && !one.is_cut);
        for subscription in lasting {
            let told = subscription.members()?;
            if told != *present {
                let (extra, missing) = (told.difference(present), present.difference(&told));
                let text = format!(
                    "{} on {channel} was told too much {:?}, too little {:?}",
                    subscription.client,
                    extra.collect::<Vec<_>>(),
                    missing.collect::<Vec<_>>()
                );
                return Err(violation(&subscription.client, channel, text));
            }
        }
    }
    Ok(())
}

/// There is an order of all events of a channel that agrees with what each subscription heard.
fn one_order(subscriptions: &[Subscription]) -> Result<(), Violation> {
    let mut later: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut earlier: HashMap<&str, usize> = HashMap::new();
    for subscription in subscriptions {
        let ids: Vec<&str> = subscription.sequence().map(|(_, id)| id).collect();
        for id in &ids {
            earlier.entry(id).or_default();
        }
        for pair in ids.windows(2) {
            later.entry(pair[0]).or_default().push(pair[1]);
            *earlier.entry(pair[1]).or_default() += 1;
        }
    }
    let all = earlier.len();
    let mut free: Vec<&str> =
        earlier.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    let mut placed = 0;
    while let Some(id) = free.pop() {
        placed += 1;
        for next in later.get(id).into_iter().flatten() {
            let count = earlier.get_mut(next).expect("every event was counted");
            *count -= 1;
            if *count == 0 {
                free.push(next);
            }
        }
    }
    if placed == all {
        return Ok(());
    }
    for (at, one) in subscriptions.iter().enumerate() {
        for other in &subscriptions[..at] {
            same_order(one, other)?;
        }
    }
    let channel = &subscriptions[0].channel;
    Err(violation(
        "",
        channel,
        format!("{channel}: three or more subscriptions contradict one another"),
    ))
}

fn violation(client: &str, channel: &str, text: String) -> Violation {
    Violation { text, client: client.to_owned(), channel: channel.to_owned(), at: Instant::now() }
}
