//! Queries of the HTTP API about all nodes. The reply does not depend on the node that is asked. Each
//! query is one command, the list of channels (`channels`) one for each page.

use super::{
    clock::now,
    cluster_state::ClusterState,
    envelope::{ControlMessage, Envelope},
    fencing_token::FencingToken,
    link_state::JoinedLink,
    names::{TopicName, TopicSubject},
    partition::Partition,
    reason::{UnavailableReason, was_rejected},
    scripts::{ScriptCall, ScriptReply, Status, Unexpected},
};
use crate::{
    broker::error::Unavailable,
    channel::{ChannelSummary, Counts},
    hub::UserClose,
    protocol::{ChannelName, Member, replace_lone_surrogates},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The parts of a channel's state to query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ChannelQuery {
    /// Counts and the cached event.
    Summary,
    /// Also the ids of the members.
    Users,
    /// Also the ids and the infos of the members.
    UsersWithInfo,
}

/// The state of one channel, with its members if requested.
#[derive(Debug, Default)]
pub(super) struct ChannelDetails {
    /// The counts and the cached event.
    pub(super) summary: ChannelSummary,
    /// The ids of the members, in order, and their infos if requested.
    pub(super) users: Vec<(Arc<str>, Arc<str>)>,
}

#[derive(Deserialize)]
struct EventFrame<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

impl ClusterState {
    /// One channel, whether or not it exists.
    pub(super) async fn channel(
        &self,
        app_id: &str,
        channel: &ChannelName,
        query: ChannelQuery,
    ) -> Result<ChannelDetails, Unavailable> {
        let partition = self.names.channel_partition(app_id, channel);
        let mut reply = self
            .run_fenced(partition, |token| {
                ScriptCall::fenced(&self.scripts.channel, partition, &self.names, token)
                    .key(self.names.channel_topic_key(app_id, channel))
                    .key(self.names.cached_event_key(app_id, channel))
                    .arg(match query {
                        ChannelQuery::Summary => "0",
                        ChannelQuery::Users => "1",
                        ChannelQuery::UsersWithInfo => "2",
                    })
            })
            .await?;
        parse_channel_reply(&mut reply).map_err(|Unexpected| {
            self.metrics.count_unexpected_data("a reply about a channel");
            Unavailable
        })
    }

    /// The number of connections of the app on all nodes.
    pub(super) async fn connections(&self, app_id: &str) -> Result<usize, Unavailable> {
        let name = TopicName { app_id: app_id.into(), subject: TopicSubject::Connections };
        let (topic, partition) = (self.names.topic_key(&name), self.names.partition(&name));
        let mut reply = self
            .run_fenced(partition, |token| {
                // Connections have no cached event: this key does not exist.
                ScriptCall::fenced(&self.scripts.channel, partition, &self.names, token)
                    .key(&topic)
                    .key(format!("{topic}:none"))
                    .arg("0")
            })
            .await?;
        reply.count().map_err(|Unexpected| self.unexpected())
    }

    /// Makes every node close the connections that are signed in as the user.
    pub(super) async fn close_user(
        &self,
        app_id: &str,
        user_id: &str,
        close: UserClose,
    ) -> Result<(), Unavailable> {
        let (app_id, user_id) = (app_id.to_owned(), user_id.to_owned());
        let control_message = ControlMessage::CloseUser { app_id, user_id, close }.encode();
        self.publish_control(&control_message).await
    }

    /// Publishes a control message for all nodes.
    pub(super) async fn publish_control(&self, control_message: &str) -> Result<(), Unavailable> {
        let deadline = now() + self.broker_wait;
        let call = |token: &_| self.control_message_call(control_message, token, deadline);
        self.run_fenced(Partition::LEASES, call).await.map(drop)
    }

    /// The call that publishes a control message for all nodes, until `deadline`.
    pub(super) fn control_message_call(
        &self,
        control_message: &str,
        token: &FencingToken,
        deadline: Instant,
    ) -> ScriptCall {
        let partition = Partition::LEASES;
        ScriptCall::fenced(&self.scripts.notify, partition, &self.names, token)
            .number(self.redis_clocks.at(partition, deadline))
            .arg(self.names.control_channel())
            .arg(control_message)
    }

    /// Runs a fenced script until it succeeds, within the wait of a request. The script must be
    /// idempotent.
    pub(super) async fn run_fenced(
        &self,
        partition: Partition,
        call: impl Fn(&FencingToken) -> ScriptCall,
    ) -> Result<ScriptReply, Unavailable> {
        self.run_timed(partition, call).await.map(|(reply, ..)| reply)
    }

    /// Like [`Self::run_fenced`]; also returns the fencing token that was valid.
    pub(super) async fn run_with_token(
        &self,
        partition: Partition,
        call: impl Fn(&FencingToken) -> ScriptCall,
    ) -> Result<(ScriptReply, Arc<FencingToken>), Unavailable> {
        self.run_timed(partition, call).await.map(|(reply, token, _)| (reply, token))
    }

    /// Like [`Self::run_with_token`]; also returns the server's clock in ms.
    pub(super) async fn run_timed(
        &self,
        partition: Partition,
        call: impl Fn(&FencingToken) -> ScriptCall,
    ) -> Result<(ScriptReply, Arc<FencingToken>, u64), Unavailable> {
        let deadline = now() + self.broker_wait;
        loop {
            let JoinedLink { connection, token } =
                self.wait_joined(deadline).await.ok_or(Unavailable)?;
            let requested_at = now();
            let reply = self.await_reply(deadline, call(&token).run(&connection)).await;
            match reply.ok_or(Unavailable)? {
                Ok(value) => {
                    let mut reply = ScriptReply::new(value).map_err(|_| self.unexpected())?;
                    let (status, redis_ms) = reply.status().map_err(|_| self.unexpected())?;
                    match status {
                        Status::Done => return Ok((reply, token, redis_ms)),
                        Status::Late => {
                            self.redis_clocks.record(partition, redis_ms, (requested_at, now()));
                        }
                        Status::Fenced => self.on_fenced(&token),
                    }
                }
                Err(error) if !was_rejected(&error) => self.mark_suspect(),
                Err(error) => return Err(self.unavailable(&error)),
            }
            if deadline <= now() {
                return Err(Unavailable);
            }
        }
    }

    pub(super) fn unexpected(&self) -> Unavailable {
        self.metrics.count_unexpected_data("a reply");
        Unavailable
    }

    fn unavailable(&self, error: &redis::RedisError) -> Unavailable {
        tracing::debug!(reason = &*UnavailableReason::from(error).text, "redis rejected a query");
        if was_rejected(error) {
            self.metrics.count_unexpected_data("a key of another type");
        }
        Unavailable
    }
}

fn parse_channel_reply(reply: &mut ScriptReply) -> Result<ChannelDetails, Unexpected> {
    let counts = Counts { subscriptions: reply.count()?, users: reply.count()? };
    let ids = reply.texts()?;
    // Either as many infos as ids, or none.
    let mut infos = reply.texts()?.into_iter();
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
    let envelope = reply.bytes()?;
    let ttl = Duration::from_millis(reply.number().unwrap_or(0));
    let cached = Envelope::decode(&envelope, now()).ok().and_then(|envelope| {
        let frame: EventFrame<'_> = serde_json::from_str(envelope.frame.as_text()?).ok()?;
        Some((replace_lone_surrogates(frame.data.get()).into_owned(), ttl))
    });
    Ok(ChannelDetails { summary: ChannelSummary { counts, cached }, users })
}
