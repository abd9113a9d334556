//! The requests that are set aside, stored beside the queue of their endpoint.

use super::{
    calls::{QUEUE_MEMORY, StoreClient},
    read,
    values::QueueState,
};
use crate::broker::redis::{Unavailable, Unexpected};
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

    /// Sets the request `id` aside if it is the oldest of the queue. At most `most_bytes` in at
    /// most `most` requests are set aside; returns the number of events dropped to make room.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the change may have been made.
    pub(in crate::webhook) async fn set_aside(
        &self,
        queue: &str,
        id: u64,
        most_bytes: usize,
        most: usize,
    ) -> Result<usize, Unavailable> {
        let call = self
            .app
            .call(&self.scripts.set_aside)?
            .key(self.queue(queue))
            .key(self.app.log_state_key())
            .key(self.asides(queue))
            .number(id)
            .number(most_bytes)
            .number(most)
            .number(QUEUE_MEMORY.as_millis());
        let dropped = self.run(call).await?.count();
        dropped.map_err(|Unexpected| self.app.unexpected_reply())
    }

    /// Removes the request `done` and those older than `lifetime` from the requests that are set
    /// aside, and returns the one at `turn`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the change may have been made.
    pub(in crate::webhook) async fn aside(
        &self,
        queue: &str,
        done: Option<u64>,
        lifetime: Duration,
        turn: usize,
    ) -> Result<QueueState, Unavailable> {
        let call = self
            .app
            .call(&self.scripts.aside)?
            .key(self.asides(queue))
            .key(self.app.log_state_key())
            .number(done.unwrap_or(0))
            .number(lifetime.as_millis())
            .number(turn);
        let (answer, now_ms) = self.app.run(call).await?;
        read::head(answer, now_ms).map_err(|Unexpected| self.app.unexpected_reply())
    }

    /// The key of the requests that an endpoint rejects.
    fn asides(&self, queue: &str) -> String {
        format!("{}:{queue}", self.app.key("aside"))
    }
}
