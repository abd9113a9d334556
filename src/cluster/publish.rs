//! Publishing through Redis: an event is accepted for everybody, or it reached nobody.

use super::{
    cache::{self, Entry},
    envelope::{Envelope, EnvelopeId},
    scripts::{Answer, Call},
    shared::{Joined, Shared, Unavailable},
};
use crate::{
    hub::Counts,
    protocol::{ChannelName, Frame, FrameKind, SocketId},
};
use redis::{RedisError, Value};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;

/// An event for one channel, encoded.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The channel.
    pub channel: ChannelName,
    /// The event as the clients get it.
    pub frame: Frame,
    /// Who does not get it.
    pub except: Option<SocketId>,
    /// For how long a cache channel remembers it; zero for not at all.
    pub remember: Duration,
}

/// Why an event was not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotPublished {
    /// It reached nobody, and never will.
    Unreached,
    /// Redis had it, but never answered: it was delivered once, or not at all.
    Unknown,
}

/// How long to wait before asking a Redis again that refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// How much longer than a publish may wait its id is known: it is repeated before that.
const REPEAT_MARGIN: Duration = Duration::from_secs(5);

/// What Redis says of an event that it has accepted.
struct Receipt {
    counts: Counts,
    /// 0 where nobody keeps count.
    sequence: u64,
}

/// What came of one attempt.
enum Attempt {
    Done(Vec<Receipt>, u64),
    /// It was too late for it.
    Late,
    /// Redis answered that it does not do it now.
    Refused,
    /// Redis has begun again, and this node is still to join it.
    OtherGeneration,
    /// There was no answer: it may have been done.
    Lost,
}

impl Outgoing {
    /// For how long the channel keeps the event, in ms: 0 if it keeps what it has, and -1 if the event
    /// is too large to be kept and what the channel has is outdated.
    fn remember_ms(&self, max_cache_bytes: usize) -> i64 {
        if !self.is_cached() {
            0
        } else if max_cache_bytes < self.cache_bytes() {
            -1
        } else {
            i64::try_from(self.remember.as_millis()).unwrap_or(i64::MAX)
        }
    }

    fn is_cached(&self) -> bool {
        self.channel.is_cache() && self.frame.kind() == FrameKind::Event
    }

    fn cache_bytes(&self) -> usize {
        cache::weight(&self.channel, self.frame.bytes().len())
    }
}

/// What became of events that were accepted.
struct Published {
    counts: Vec<Counts>,
    /// What is to be accounted of them.
    kept: Vec<Entry>,
}

impl Published {
    fn new(
        events: &[Outgoing],
        ids: &[EnvelopeId],
        max_cache_bytes: usize,
        (receipts, at_us): (Vec<Receipt>, u64),
    ) -> Self {
        let cached = events.iter().zip(ids).filter(|(event, _)| event.is_cached());
        let kept = cached.map(|(event, id)| {
            let keep_ms = u64::try_from(event.remember_ms(max_cache_bytes)).unwrap_or(0);
            let bytes = if keep_ms == 0 { 0 } else { event.cache_bytes() };
            Entry { channel: event.channel.clone(), id: *id, at_us, bytes, keep_ms }
        });
        let kept = kept.collect();
        Self { counts: receipts.into_iter().map(|receipt| receipt.counts).collect(), kept }
    }
}

impl Shared {
    /// Publishes events, all in one step where they lie on one Redis, and says who was there.
    ///
    /// # Errors
    ///
    /// [`NotPublished`]: the node was not joined for as long as a publish waits, or Redis did not
    /// answer.
    pub(super) async fn publish(
        self: &Arc<Self>,
        app_id: &Arc<str>,
        events: &[Outgoing],
        max_cache_bytes: usize,
    ) -> Result<Vec<Counts>, NotPublished> {
        let give_up = Instant::now() + self.broker_wait;
        let result = if events.iter().any(Outgoing::is_cached) {
            self.publish_cached(app_id, events, max_cache_bytes, give_up).await
        } else {
            self.publish_all(app_id, events, max_cache_bytes, give_up).await
        };
        if let Err(why) = &result {
            self.metrics.refused(*why);
        }
        result
    }

    /// Publishes in a task: what Redis keeps is accounted even if the publisher hangs up.
    async fn publish_cached(
        self: &Arc<Self>,
        app_id: &Arc<str>,
        events: &[Outgoing],
        max_cache_bytes: usize,
        give_up: Instant,
    ) -> Result<Vec<Counts>, NotPublished> {
        let place = time::timeout_at(give_up.into(), self.accounts.place()).await;
        let Ok(place) = place else { return Err(NotPublished::Unreached) };
        let (shared, app_id, events) = (Arc::clone(self), Arc::clone(app_id), events.to_vec());
        let task = tokio::spawn(async move {
            let _place = place;
            shared.publish_all(&app_id, &events, max_cache_bytes, give_up).await
        });
        task.await.unwrap_or(Err(NotPublished::Unknown))
    }

    async fn publish_all(
        &self,
        app_id: &Arc<str>,
        events: &[Outgoing],
        max_cache_bytes: usize,
        give_up: Instant,
    ) -> Result<Vec<Counts>, NotPublished> {
        // On a Redis Cluster each in its own slot.
        let at_once = if self.is_cluster { 1 } else { events.len().max(1) };
        let parts = events.chunks(at_once);
        let each =
            parts.map(|events| self.publish_together(app_id, events, max_cache_bytes, give_up));
        let results = futures_util::future::join_all(each).await;
        let is_certain = !results.iter().any(|result| matches!(result, Err(NotPublished::Unknown)));
        let (parts, mut counts, mut kept) = (results.len(), Vec::new(), Vec::new());
        let mut reached = 0;
        for published in results.into_iter().flatten() {
            reached += 1;
            counts.extend(published.counts);
            kept.extend(published.kept);
        }
        if !kept.is_empty() {
            self.accounts.add(app_id, max_cache_bytes, kept);
        }
        if reached == parts {
            return Ok(counts);
        }
        // If some were accepted, it is not true that nobody got anything.
        Err(if reached == 0 && is_certain {
            NotPublished::Unreached
        } else {
            NotPublished::Unknown
        })
    }

    async fn publish_together(
        &self,
        app_id: &str,
        events: &[Outgoing],
        max_cache_bytes: usize,
        give_up: Instant,
    ) -> Result<Published, NotPublished> {
        let ids: Vec<EnvelopeId> = events.iter().map(|_| self.envelope_id()).collect();
        let mut may_be_done = false;
        loop {
            let asked = (give_up, may_be_done, max_cache_bytes);
            let attempt = self.attempt(app_id, events, &ids, asked).await;
            match attempt {
                Some(Attempt::Done(receipts, at_us)) => {
                    return Ok(Published::new(events, &ids, max_cache_bytes, (receipts, at_us)));
                }
                Some(Attempt::Refused) => {
                    time::sleep(
                        REFUSED_PAUSE.min(give_up.saturating_duration_since(Instant::now())),
                    )
                    .await;
                }
                Some(Attempt::Lost) => {
                    may_be_done = true;
                    // The link is about to be found broken.
                    self.suspect();
                }
                Some(Attempt::OtherGeneration) => self.suspect(),
                Some(Attempt::Late) | None => {}
            }
            let is_over = matches!(attempt, Some(Attempt::Late) | None);
            if is_over || give_up <= Instant::now() {
                return Err(if may_be_done {
                    NotPublished::Unknown
                } else {
                    NotPublished::Unreached
                });
            }
        }
    }

    /// One attempt; nothing if the node was not joined in time.
    async fn attempt(
        &self,
        app_id: &str,
        events: &[Outgoing],
        ids: &[EnvelopeId],
        (give_up, is_repeated, max_cache_bytes): (Instant, bool, usize),
    ) -> Option<Attempt> {
        let Joined { mut connection, generation } = self.joined(give_up).await?;
        let mut topics = Vec::with_capacity(events.len());
        let mut call = Call::of(&self.scripts.publish)
            .number(self.clock.at(give_up))
            .arg(if is_repeated { "1" } else { "0" })
            .number((self.broker_wait + REPEAT_MARGIN).as_millis())
            .arg(&*generation);
        for (event, id) in events.iter().zip(ids) {
            let topic = self.names.channel(app_id, &event.channel);
            let remember_ms = event.remember_ms(max_cache_bytes);
            let envelope = Envelope {
                id: *id,
                is_repeated,
                except: event.except,
                remember_ms: u64::try_from(remember_ms).unwrap_or(0),
                frame: event.frame.clone(),
            };
            call = call
                .key(&topic)
                .key(self.names.last_event(app_id, &event.channel))
                .key(self.names.latest_ids(app_id, &event.channel))
                .arg(id.0.to_be_bytes())
                .arg(envelope.encode())
                .number(remember_ms);
            topics.push(topic);
        }
        if !self.is_cluster {
            call = call.key(self.names.generation());
        }
        let answer = self.answer(give_up, call.run(&mut connection)).await;
        Some(match answer {
            Some(Ok(value)) => {
                let attempt = read(value, events.len()).unwrap_or(Attempt::Refused);
                if let Attempt::Done(receipts, _) = &attempt {
                    let now = Instant::now();
                    for (topic, receipt) in topics.iter().zip(receipts) {
                        self.accepted.note(topic, receipt.sequence, now);
                    }
                }
                attempt
            }
            Some(Err(error)) if was_refused(&error) => {
                tracing::debug!(%error, "redis refused a publish");
                Attempt::Refused
            }
            Some(Err(_)) | None => Attempt::Lost,
        })
    }

    /// Publishes a client event at once, or not at all: nobody waits for a typing indicator.
    pub(super) async fn whisper(&self, app_id: &str, event: Outgoing) -> Result<(), Unavailable> {
        let give_up = Instant::now() + self.broker_wait;
        self.joined_now().ok_or(Unavailable)?;
        let id = self.envelope_id();
        match self.attempt(app_id, &[event], &[id], (give_up, false, 0)).await {
            Some(Attempt::Done(..)) => Ok(()),
            Some(Attempt::Late | Attempt::Refused | Attempt::OtherGeneration | Attempt::Lost)
            | None => Err(Unavailable),
        }
    }
}

/// Whether Redis said that it has not done what it was asked.
pub(super) fn was_refused(error: &RedisError) -> bool {
    matches!(error.kind(), redis::ErrorKind::Server(_) | redis::ErrorKind::Extension)
}

fn read(value: Value, events: usize) -> Option<Attempt> {
    let mut answer = Answer::new(value).ok()?;
    match answer.text().ok()?.as_str() {
        "late" => return Some(Attempt::Late),
        "other" => return Some(Attempt::OtherGeneration),
        "ok" => {}
        _ => return None,
    }
    let at_us = answer.number().ok()?;
    let mut receipts = Vec::with_capacity(events);
    for _ in 0..events {
        let counts = Counts { subscriptions: answer.count().ok()?, users: answer.count().ok()? };
        receipts.push(Receipt { counts, sequence: answer.number().ok()? });
    }
    Some(Attempt::Done(receipts, at_us))
}
