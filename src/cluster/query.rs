//! What the HTTP API asks of all nodes: each question is one command, and its answer does not
//! depend on whom it is asked.

use super::{
    envelope::{Envelope, Notice},
    names::{Subject, TopicName},
    publish::was_refused,
    scripts::{Answer, Call, Unexpected},
    shared::{Shared, Unavailable},
};
use crate::{
    hub::{ChannelSummary, Counts},
    protocol::{ChannelName, Member, repaired},
};
use redis::{Cmd, FromRedisValue, RedisResult, Value, cmd};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The parts of a channel's state to query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// Counts and the last event.
    Summary,
    /// Also the ids of the members.
    Users,
    /// Also the ids and the infos of the members.
    UsersWithInfo,
}

/// One channel, with its members where they are asked for.
#[derive(Debug, Default)]
pub struct ChannelAnswer {
    /// Its counts and its last event.
    pub summary: ChannelSummary,
    /// The ids of the members, in order, and their infos if requested.
    pub users: Vec<(Arc<str>, Arc<str>)>,
}

/// What an index entry says of a channel.
fn counts(entry: &str) -> Option<Counts> {
    let mut numbers = entry.split(' ');
    let subscriptions = numbers.next()?.parse().ok()?;
    Some(Counts { subscriptions, users: numbers.next()?.parse().ok()? })
}

#[derive(Deserialize)]
struct EventFrame<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Shared {
    /// The occupied channels whose names begin with `prefix`.
    pub(super) async fn channels(
        &self,
        app_id: &str,
        prefix: &str,
    ) -> Result<Vec<(ChannelName, Counts)>, Unavailable> {
        let mut command = cmd("HGETALL");
        command.arg(self.names.index(app_id));
        let entries: Vec<(String, String)> = self.ask(&command).await?;
        let occupied = entries.into_iter().filter_map(|(name, entry)| {
            let counts = counts(&entry).filter(|counts| 0 < counts.subscriptions)?;
            let name = name.starts_with(prefix).then_some(name)?;
            Some((ChannelName::parse(&name, usize::MAX).ok()?, counts))
        });
        Ok(occupied.collect())
    }

    /// One channel, whether or not it exists.
    pub(super) async fn channel(
        &self,
        app_id: &str,
        channel: &ChannelName,
        asked: Asked,
    ) -> Result<ChannelAnswer, Unavailable> {
        let give_up = Instant::now() + self.broker_wait;
        let mut connection = self.joined(give_up).await.ok_or(Unavailable)?.connection;
        let call = Call::of(&self.scripts.channel)
            .key(self.names.channel(app_id, channel))
            .key(self.names.last_event(app_id, channel))
            .arg(match asked {
                Asked::Summary => "0",
                Asked::Users => "1",
                Asked::UsersWithInfo => "2",
            });
        let value = self.answer(give_up, call.run(&mut connection)).await.ok_or(Unavailable)?;
        let value = value.map_err(|error| self.unavailable(&error))?;
        read_channel(value).map_err(|Unexpected| {
            self.metrics.foreign("an answer about a channel");
            Unavailable
        })
    }

    /// How many connections the app has on all nodes.
    pub(super) async fn connections(&self, app_id: &str) -> Result<usize, Unavailable> {
        let name = TopicName { app_id: app_id.into(), subject: Subject::Connections };
        let mut command = cmd("HGET");
        command.arg(self.names.topic(&name)).arg("t");
        let total: Option<usize> = self.ask(&command).await?;
        Ok(total.unwrap_or(0))
    }

    /// Has every node close the connections that are signed in as the user.
    pub(super) async fn terminate(&self, app_id: &str, user_id: &str) -> Result<(), Unavailable> {
        let notice = Notice::Terminate { app_id: app_id.into(), user_id: user_id.into() };
        let mut command = cmd(if self.is_cluster { "SPUBLISH" } else { "PUBLISH" });
        command.arg(self.names.all_nodes()).arg(notice.encode());
        self.ask::<i64>(&command).await.map(drop)
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Unavailable> {
        let give_up = Instant::now() + self.broker_wait;
        loop {
            let mut connection = self.joined(give_up).await.ok_or(Unavailable)?.connection;
            let answer: Option<RedisResult<T>> =
                self.answer(give_up, connection.query(command)).await;
            match answer.ok_or(Unavailable)? {
                Ok(answer) => return Ok(answer),
                // Asking twice does no harm.
                Err(error) if !was_refused(&error) && Instant::now() < give_up => self.suspect(),
                Err(error) => return Err(self.unavailable(&error)),
            }
        }
    }

    fn unavailable(&self, error: &redis::RedisError) -> Unavailable {
        tracing::debug!(%error, "redis gave no answer");
        if was_refused(error) {
            self.metrics.foreign("a key of another type");
        }
        Unavailable
    }
}

fn read_channel(value: Value) -> Result<ChannelAnswer, Unexpected> {
    let mut answer = Answer::new(value)?;
    let counts = Counts { subscriptions: answer.count()?, users: answer.count()? };
    let ids = answer.texts()?;
    // Either as many infos as ids, or none.
    let mut infos = answer.texts()?.into_iter();
    let mut users: Vec<(Arc<str>, Arc<str>)> = ids
        .into_iter()
        .filter_map(|id| match infos.next() {
            None => Some((id.into(), "".into())),
            Some(info) => {
                Member::from_parts(&id, &info).map(|member| (member.user_id, member.user_info))
            }
        })
        .collect();
    users.sort_unstable();
    let envelope = answer.bytes()?;
    let ttl = Duration::from_millis(answer.number().unwrap_or(0));
    let cached = Envelope::decode(&envelope, Instant::now()).ok().and_then(|envelope| {
        let frame: EventFrame<'_> = serde_json::from_str(envelope.frame.text_of()?).ok()?;
        Some((repaired(frame.data.get()).into_owned(), ttl))
    });
    Ok(ChannelAnswer { summary: ChannelSummary { counts, cached }, users })
}
