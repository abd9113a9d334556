//! The call that syncs a topic, and its reply.

use super::{
    channel_logs::{LogRead, log_key},
    cluster_state::ClusterState,
    envelope::{ControlMessage, Envelope, EnvelopeId, Message},
    fencing_token::FencingToken,
    in_flight::transfer_time_of,
    names::{TopicName, TopicSubject},
    random,
    scripts::{ScriptCall, ScriptReply, Status, Unexpected},
    topic::{LogUse, SyncRequest, Synced},
    webhook_interest::WebhookInterest,
};
use crate::{channel::sends_subscription_count, config::AppConfig};
use redis::Value;
use std::time::{Duration, Instant};

/// Time within which Redis must execute a small sync, by its clock.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);

/// The call that writes the contribution of `node` to a topic. `node` differs from the token's node in a
/// cleanup.
pub(super) fn sync_call(
    (shared, token): (&ClusterState, &FencingToken),
    name: &TopicName,
    (config, interest): (&AppConfig, WebhookInterest),
    node: &str,
    request: &SyncRequest,
    now: Instant,
) -> ScriptCall {
    let names = &shared.names;
    let (hash, partition) = (names.topic_key(name), names.partition(name));
    let (mut flags, last, field, max_members, max_total) = subject_params(shared, name, config);
    let index = index_of(shared, name);
    if index.is_some() {
        flags.push('i');
    }
    if request.is_full {
        flags.push('f');
        // Removing the contribution of another node needs no snapshot.
        if name.subject != TopicSubject::Connections && node == token.node {
            flags.push('s');
        }
    }
    flags.extend(request_flags(request));
    let mut call = ScriptCall::fenced(&shared.scripts.sync, partition, names, token)
        .key(&hash)
        .key(index.unwrap_or_else(|| hash.clone()))
        .key(last)
        .key(names.node_topics_key(node, partition))
        .key(log_key(names, name));
    let mut control_message = String::new();
    if !interest.is_empty() {
        flags.extend(interest.flags());
        if partition != names.app_partition(&name.app_id) {
            flags.push('p');
        }
        if shared.script_notifies(&name.app_id, partition) {
            control_message =
                ControlMessage::WebhookLogNonEmpty { app_id: name.app_id.to_string() }.encode();
        }
        call = call
            .key(names.webhook_log_key(&name.app_id, partition))
            .key(names.webhook_log_state_key(&name.app_id, partition));
    }
    let (epoch, received) =
        request.received.as_ref().map_or(("", 0), |(epoch, reached)| (epoch, *reached));
    let call = call
        .number(
            shared
                .redis_clocks
                .at(partition, now + SYNC_TIMEOUT + transfer_time_of(call_bytes(request))),
        )
        .arg(node)
        .arg(random::hex_id())
        .number(request.own_total_without_joins)
        .arg(flags)
        .number(max_members)
        .number(max_total)
        .arg(field)
        .number(received)
        .arg(epoch)
        .arg(names.control_channel())
        .arg(control_message)
        .number(shared.logs.kept.as_millis());
    let call = with_log_query(call, shared, request).number(request.joins.len());
    with_users(call, request)
}

/// The flags of `lua/sync.lua` for what this node knows.
fn request_flags(request: &SyncRequest) -> impl Iterator<Item = char> + use<> {
    let flags = [
        ('l', request.log != LogUse::NoReaders),
        ('h', request.had_contribution),
        ('k', request.has_other_contributions),
    ];
    flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag)
}

/// Adds the part of the channel's log that is requested.
fn with_log_query(call: ScriptCall, shared: &ClusterState, request: &SyncRequest) -> ScriptCall {
    let first = match (request.history, request.log) {
        (Some(_), _) => "-".to_owned(),
        (None, LogUse::From(first)) => first.to_string(),
        (None, LogUse::NoReaders | LogUse::Readers) => String::new(),
    };
    let limits = shared.logs.log_limits();
    let events = limits.events.max(request.history.unwrap_or(0));
    call.arg(first).number(events).number(limits.bytes)
}

/// The parameters that depend on the subject: flags of `lua/sync.lua`, the key of the cached event,
/// the field of the index, the maximum number of members and the maximum total.
fn subject_params<'a>(
    shared: &ClusterState,
    name: &'a TopicName,
    config: &AppConfig,
) -> (String, String, &'a str, usize, usize) {
    let mut flags = String::new();
    // An unused key in the same slot, for subjects without a cached event.
    let none = || format!("{}:none", shared.names.topic_key(name));
    match &name.subject {
        TopicSubject::Channel(channel) => {
            if sends_subscription_count(channel, config) {
                flags.push('t');
            }
            let last = shared.names.cached_event_key(&name.app_id, channel);
            (flags, last, channel.as_str(), config.max_presence_members, 0)
        }
        TopicSubject::User(user_id) => {
            flags.push('o');
            (flags, none(), user_id, 0, 0)
        }
        TopicSubject::Connections => (flags, none(), "", 0, config.max_connections),
    }
}

/// The index that lists a topic.
pub(super) fn index_of(shared: &ClusterState, name: &TopicName) -> Option<String> {
    let partition = shared.names.partition(name);
    match &name.subject {
        TopicSubject::Channel(channel) if channel.is_listed() => {
            Some(shared.names.channel_index_key(&name.app_id, partition))
        }
        TopicSubject::User(_) => Some(shared.names.user_index_key(&name.app_id, partition)),
        TopicSubject::Channel(_) | TopicSubject::Connections => None,
    }
}

/// The approximate size of a sync and its reply, in bytes.
fn call_bytes(request: &SyncRequest) -> usize {
    let joins = request.joins.iter();
    let joins: usize = joins.map(|join| 64 + join.user_id.len() + join.user_info.len()).sum();
    512 + joins + request.reply_bytes
}

fn with_users(mut call: ScriptCall, request: &SyncRequest) -> ScriptCall {
    for join in &request.joins {
        call = call
            .arg(&*join.user_id)
            .arg(&*join.user_info)
            .number(join.connections)
            .arg(if join.is_new { "1" } else { "0" });
    }
    for user_id in &request.removed_users {
        call = call.arg(&**user_id);
    }
    call
}

/// The outcome of a sync.
#[derive(Debug)]
pub(super) enum SyncOutcome {
    Done(Box<Synced>),
    /// It was too late, and was not executed.
    Late,
    /// The fencing token is outdated, and it was not executed.
    Fenced,
}

/// Parses the script's reply, with the server's clock in ms.
pub(super) fn parse_sync_reply(
    value: Value,
    now: Instant,
) -> Result<(SyncOutcome, u64), Unexpected> {
    let mut reply = ScriptReply::new(value)?;
    let (status, redis_ms) = reply.status()?;
    match status {
        Status::Late => return Ok((SyncOutcome::Late, redis_ms)),
        Status::Fenced => return Ok((SyncOutcome::Fenced, redis_ms)),
        Status::Done => {}
    }
    let (epoch, version, sequence) = (reply.text()?, reply.number()?, reply.number()?);
    let (total, _members, own_total) = (reply.count()?, reply.count()?, reply.count()?);
    let accepted = reply.text()?.bytes().map(|byte| byte == b'1').collect();
    let roster = reply.texts()?;
    let last = reply.bytes()?;
    let last_ms = reply.number().unwrap_or(0);
    let is_logged = reply.number()? == 1;
    let published = reply.all_bytes()?;
    let latest = EnvelopeId::from_bytes(&reply.bytes()?);
    let log = LogRead::parse(&mut reply, sequence, redis_ms, now)?;
    let changes = published.iter().filter_map(|message| Message::decode(message, now).ok());
    let pairs =
        roster.chunks_exact(2).map(|pair| (pair[0].as_str().into(), pair[1].as_str().into()));
    let synced = Synced {
        epoch,
        version,
        sequence,
        total,
        own_total,
        accepted,
        members: pairs.collect(),
        cached_event: Envelope::decode(&last, now)
            .ok()
            .map(|envelope| (envelope.id, envelope.frame, Duration::from_millis(last_ms))),
        last_event_id: latest,
        webhook_log_became_nonempty: is_logged,
        changes: changes.collect(),
        log,
    };
    Ok((SyncOutcome::Done(Box::new(synced)), redis_ms))
}

#[cfg(test)]
pub(super) mod tests;
