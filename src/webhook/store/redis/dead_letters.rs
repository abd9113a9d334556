//! Dead letters, stored beside the queue of their endpoint.

use super::{
    calls::{QUEUE_MEMORY, StoreClient},
    read,
    values::QueueState,
};
use crate::broker::{Unavailable, redis::Unexpected};
use std::time::Duration;

impl StoreClient {
    /// Replaces the request `id` by `parts`, each with its number of events and its body, if it is
    /// the oldest of the queue.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the change may have been made.
    pub(in crate::webhook) async fn split(
        &self,
        queue: &str,
        id: u64,
        parts: &[(usize, &[u8])],
    ) -> Result<(), Unavailable> {
        let mut call = self
            .app
            .call(&self.scripts.split)?
            .key(self.queue(queue))
            .key(self.app.log_state_key())
            .number(id);
        for (events, body) in parts {
            call = call.number(events).arg(body);
        }
        self.run(call).await.map(drop)
    }

    /// Moves the request `id` to the dead letters if it is the oldest of the queue. They have at most
    /// `most_bytes` in at most `most` requests; returns the number of events dropped to make room.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the change may have been made.
    pub(in crate::webhook) async fn add_dead_letter(
        &self,
        queue: &str,
        id: u64,
        most_bytes: usize,
        most: usize,
    ) -> Result<usize, Unavailable> {
        let call = self
            .app
            .call(&self.scripts.add_dead_letter)?
            .key(self.queue(queue))
            .key(self.app.log_state_key())
            .key(self.dead_letters(queue))
            .number(id)
            .number(most_bytes)
            .number(most)
            .number(QUEUE_MEMORY.as_millis());
        let dropped = self.run(call).await?.count();
        dropped.map_err(|Unexpected| self.app.unexpected_reply())
    }

    /// Removes the dead letter `done` and those older than `lifetime`, and returns the one at `turn`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the change may have been made.
    pub(in crate::webhook) async fn dead_letter(
        &self,
        queue: &str,
        done: Option<u64>,
        lifetime: Duration,
        turn: usize,
    ) -> Result<QueueState, Unavailable> {
        let call = self
            .app
            .call(&self.scripts.dead_letter)?
            .key(self.dead_letters(queue))
            .key(self.app.log_state_key())
            .number(done.unwrap_or(0))
            .number(lifetime.as_millis())
            .number(turn);
        let (reply, now_ms) = self.app.run(call).await?;
        read::head(reply, now_ms).map_err(|Unexpected| self.app.unexpected_reply())
    }

    /// The key of the dead letters of an endpoint. Its name in Redis is part of the key layout.
    fn dead_letters(&self, queue: &str) -> String {
        format!("{}:{queue}", self.app.key("aside"))
    }
}
