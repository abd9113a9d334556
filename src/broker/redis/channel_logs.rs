//! The logs of channels, which Redis keeps (`lua/publish.lua`) while they have readers, connections that may resume, or for
//! histories.

use super::{
    envelope::Envelope,
    names::{TopicName, TopicSubject},
    scripts::{ScriptReply, Unexpected},
};
use crate::{
    broker::logs::{HistoryRule, PendingLogRequest},
    channel::{ChannelLog, LogStart, LoggedEvent, Position, ReplayLimits},
    hub::Hub,
    protocol::{ChannelName, Frame, FrameKind, SocketId},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// An event by its sequence in the channel; `None` for what is not replayed.
pub(super) type ReceivedEvent = (u64, Option<LoggedEvent>);

/// The log of a channel, as a sync has read it.
#[derive(Clone, Debug)]
pub(super) struct LogRead(Arc<ChannelLog>);

/// Logged events that were dropped before their time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct LogDrops {
    /// Because the log of their channel was full.
    pub(super) of_channel: u64,
    /// Because all logs of the partition were.
    pub(super) of_partition: u64,
}

impl LogRead {
    /// Parses the last values of a reply (`lua/sync.lua`, `lua/history.lua`): the epoch of the log, and its latest entries.
    /// `sequence` and `redis_ms` are the channel's sequence and the server's clock. `None` if there is no log.
    pub(super) fn parse(
        reply: &mut ScriptReply,
        sequence: u64,
        redis_ms: u64,
        now: Instant,
    ) -> Result<Option<Self>, Unexpected> {
        let (epoch, entries) = (reply.text()?, reply.all_bytes()?);
        if epoch.is_empty() {
            return Ok(None);
        }
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
        // An entry that can't be read ends the part that is complete.
        let entries = entries.chunks_exact(3).map_while(|entry| {
            let (sequence, published_ms) = (number(&entry[0])?, number(&entry[1])?);
            let age = Duration::from_millis(redis_ms.saturating_sub(published_ms));
            let published_at = now.checked_sub(age).unwrap_or(now);
            if entry[2].is_empty() {
                return Some((sequence, None));
            }
            let envelope = Envelope::decode(&entry[2], now).ok()?;
            let event = (envelope.frame.kind() == FrameKind::Event).then_some(LoggedEvent {
                sequence,
                published_at,
                frame: envelope.frame,
                except: envelope.except,
            });
            Some((sequence, event))
        });
        let end = Position { epoch: epoch.into(), sequence };
        Ok(Some(Self(Arc::new(ChannelLog::from_latest(end, entries)))))
    }

    /// A log, as if it had been read.
    #[cfg(test)]
    pub(super) fn of(log: ChannelLog) -> Self {
        Self(Arc::new(log))
    }

    pub(super) fn log(&self) -> &ChannelLog {
        &self.0
    }

    /// Adds the events that were published after the log was read.
    pub(super) fn extend(&mut self, received: Vec<ReceivedEvent>) {
        let log = Arc::get_mut(&mut self.0).expect("a log that was just read is not shared yet");
        for (sequence, event) in received {
            log.add_latest(sequence, event);
        }
    }
}

/// Where a subscriber begins in the log of its channel: if it has requested it, or receives what the history of the channel
/// has by `rule`.
pub(super) fn log_start(
    request: &PendingLogRequest,
    read: Option<&LogRead>,
    limits: ReplayLimits,
    rule: Option<&HistoryRule>,
    now: Instant,
) -> Option<LogStart> {
    let LogRead(log) = read?;
    let replay = match (request, rule.filter(|rule| rule.replays_first)) {
        (PendingLogRequest::After(position, receiver), _) => log.after(position, *receiver, limits),
        (PendingLogRequest::Begin | PendingLogRequest::No, Some(rule)) => {
            Ok(log.latest(rule.limits, limits.bytes, now))
        }
        (PendingLogRequest::Begin, None) => Ok(Vec::new()),
        (PendingLogRequest::No, None) => return None,
    };
    Some(LogStart { end: log.end(), replay, is_reader: request.is_reader() })
}

/// Whether the cached event of a cache channel is the last event of the replay, or the client has it.
pub(super) fn has_cached_event(request: &PendingLogRequest, start: Option<&LogStart>) -> bool {
    let resumes = matches!(request, PendingLogRequest::After(..));
    let replay = start.and_then(|start| start.replay.as_ref().ok());
    replay.is_some_and(|replay| resumes || !replay.is_empty())
}

/// Delivers a frame to the subscribers of this node. `logged` is the sequence of an event in the log that some of them follow.
pub(super) fn deliver(
    hub: &Hub,
    channel: &ChannelName,
    frame: &Frame,
    except: Option<SocketId>,
    logged: u64,
) {
    if let Some(mut locked) = hub.lock(channel) {
        locked.deliver_logged(frame, except, logged);
    }
}

/// The key of the log of a topic's channel. Other topics have an unused key in the same slot.
pub(super) fn log_key(names: &super::names::KeyNames, name: &TopicName) -> String {
    match &name.subject {
        TopicSubject::Channel(channel) => names.channel_log_key(&name.app_id, channel),
        TopicSubject::User(_) | TopicSubject::Connections => {
            format!("{}:none", names.topic_key(name))
        }
    }
}
