//! The publishers of the simulated world. Some give their events a key, and publish them again, through any node, until
//! they are accepted.

use super::{
    CHANNELS, World, channel_name,
    history::{PublishOutcome, PublishedEvent},
};
use crate::{
    broker::{AppEvent, IdempotencyKey, PublishError},
    clock,
    protocol::EventData,
};
use rand::RngExt as _;
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinHandle, time::Instant};

/// A publish that a node carries out.
#[derive(Debug)]
pub(super) struct PublishAttempt {
    /// The slot of the node.
    slot: usize,
    event: usize,
    task: JoinHandle<()>,
}

/// How often an event with a key is published at most.
const ATTEMPTS_MAX: usize = 6;

impl World {
    /// Publishes a new event. Every third has a key, and every sixth is published through two nodes at once.
    pub(super) fn publish(&mut self, slot: usize, channel: usize) {
        if self.nodes[slot].is_none() {
            return;
        }
        let draw = self.publisher_random.random_range(0..6);
        let event = {
            let mut events = self.history.events.lock().expect("one thread");
            events.push(PublishedEvent {
                channel,
                slots: Vec::new(),
                has_key: draw < 2,
                begun: Instant::now(),
                replied: None,
            });
            events.len() - 1
        };
        self.attempt(slot, event);
        if draw == 0 {
            self.attempt((slot + 1) % self.nodes.len(), event);
        }
    }

    fn attempt(&mut self, slot: usize, number: usize) {
        let Some(node) = &self.nodes[slot] else {
            return self.retry_later(number);
        };
        let events = Arc::clone(&self.history.events);
        let (channel, has_key) = {
            let event = &mut events.lock().expect("one thread")[number];
            event.slots.push(slot);
            (channel_name(CHANNELS[event.channel]), event.has_key)
        };
        let (broker, hub) = (node.broker.clone(), Arc::clone(&node.hub));
        let task = tokio::spawn(async move {
            let (data, key) = (format!("\"{number}\""), format!("key {number}"));
            let event = AppEvent {
                name: "e".into(),
                data: EventData::new(&data),
                channels: vec![channel],
                except: None,
                idempotency_key: has_key.then(|| IdempotencyKey::parse(key).expect("a good key")),
            };
            let outcome = match broker.publish(&hub, &[event], clock::now()).await {
                Ok(_) => PublishOutcome::Accepted,
                Err(PublishError::NotDelivered) => PublishOutcome::Rejected,
                Err(PublishError::OutcomeUnknown) => PublishOutcome::Unknown,
            };
            events.lock().expect("one thread")[number].reply(outcome);
        });
        self.publishes.push(PublishAttempt { slot, event: number, task });
    }

    /// Publishes events with keys again that were not accepted, and whose time has come.
    pub(super) fn retry_publishes(&mut self) {
        let finished: Vec<_> =
            self.publishes.extract_if(.., |attempt| attempt.task.is_finished()).collect();
        for attempt in finished {
            self.retry_later(attempt.event);
        }
        let now = Instant::now();
        let due: Vec<_> = self.retries.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, event) in due {
            let slot = self.publisher_random.random_range(0..self.nodes.len());
            self.attempt(slot, event);
        }
    }

    fn retry_later(&mut self, number: usize) {
        let pause = Duration::from_millis(self.publisher_random.random_range(50..2_000));
        let event = &self.history.events.lock().expect("one thread")[number];
        let is_accepted = matches!(event.replied, Some((_, PublishOutcome::Accepted)));
        if event.has_key && !is_accepted && event.slots.len() < ATTEMPTS_MAX {
            self.retries.push((Instant::now() + pause, number));
        }
    }

    /// Ends the publishes of a killed node, whose outcome is unknown to their publishers.
    pub(super) fn abort_publishes(&mut self, slot: usize) {
        let aborted: Vec<_> =
            self.publishes.extract_if(.., |attempt| attempt.slot == slot).collect();
        for attempt in aborted {
            attempt.task.abort();
            let event = attempt.event;
            self.history.events.lock().expect("one thread")[event].reply(PublishOutcome::Unknown);
            self.retry_later(event);
        }
    }
}
