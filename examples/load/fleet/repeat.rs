//! Repeated actions of a worker: churn and client events.

use super::{
    command::{Action, Range},
    connection::Stage,
    worker::Worker,
};
use crate::{
    frame,
    number::{index, narrow, now_us, whole, wide},
    payload::{self, Stamp},
    wire,
};

/// The maximum number of actions per turn, so that the worker keeps reading.
const STEPS_PER_TURN: u64 = 256;

impl Worker {
    /// Executes the actions that are due.
    pub(super) fn step_repeated(&mut self) {
        let Some(mut repeated) = self.repeated.take() else { return };
        let order = repeated.order;
        let due = whole(repeated.begun.elapsed().as_secs_f64() * order.per_second);
        let mine = self.members(order.range);
        let count = wide(mine.len());
        let until = due.min(repeated.steps + STEPS_PER_TURN);
        while count != 0 && repeated.steps < until {
            let (round, place) = (repeated.steps / count, repeated.steps % count);
            let at = mine.start + index(place);
            match order.action {
                Action::Churn if round % 2 == 0 => self.resubscribe(at),
                Action::Churn => self.reconnect(at),
                Action::Whisper => self.whisper(at, order.payload_bytes),
            }
            repeated.steps += 1;
        }
        self.repeated = Some(repeated);
    }

    /// The indexes of a range's connections. They are contiguous, since one command opened them.
    fn members(&self, range: Range) -> std::ops::Range<usize> {
        let start = self.connections.iter().position(|one| range.holds(one.id));
        let Some(start) = start else { return 0..0 };
        let length = self.connections[start..].iter().take_while(|one| range.holds(one.id)).count();
        start..start + length
    }

    /// Unsubscribes and subscribes without waiting, like pusher-js.
    fn resubscribe(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if connection.stage != Stage::Ready {
            return;
        }
        connection.since_us = now_us();
        let text = wire::unsubscribe(&self.plans[usize::from(connection.plan)], connection.id);
        self.send_text(at, &text);
        self.subscribe(at);
        self.tally.counters.resubscribed += 1;
    }

    /// Closes a connection and opens another one at the same index.
    fn reconnect(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if connection.stage != Stage::Ready {
            return;
        }
        let (id, plan) = (connection.id, connection.plan);
        connection.close();
        self.tally.counters.reconnected += 1;
        if let Err(error) = self.connect(Some(at), id, plan) {
            self.tally.counters.lost += 1;
            self.tally.counters.fault(|| format!("cannot connect again: {error}"));
        }
    }

    fn whisper(&mut self, at: usize, payload_bytes: usize) {
        let connection = &self.connections[at];
        if connection.stage != Stage::Ready {
            return;
        }
        let channel = self.plans[usize::from(connection.plan)].channel_of(connection.id);
        let mut text =
            format!(r#"{{"event":"client-load","channel":"{channel}","data":"#).into_bytes();
        let number = narrow(self.tally.counters.whispered) % payload::NUMBER_MAX;
        payload::push_object(&mut text, Stamp { at_us: now_us(), number }, payload_bytes);
        text.push(b'}');
        self.outgoing.clear();
        let mask = wire::mask(&mut self.seed);
        frame::push_masked(&mut self.outgoing, frame::TEXT, &text, mask);
        self.send(at);
        self.tally.counters.whispered += 1;
    }
}
