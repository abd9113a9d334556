//! The requests that are set aside, stored beside the queue of their endpoint.

use super::{QUEUE_MEMORY, QueueState, Store, read};
use crate::cluster::{error::Unavailable, names::Names, scripts::Unexpected};
use std::time::Duration;

impl Store {
    /// Replaces the request `id` by `parts`, each with its number of events and its body, if it is
    /// the oldest of the queue.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the change may have been made.
    pub async fn split(
        &self,
        queue: &str,
        id: u64,
        parts: &[(usize, &[u8])],
    ) -> Result<(), Unavailable> {
        let (names, joined) = (&self.shared.names, self.joined()?);
        let mut call = self
            .call(&self.shared.scripts.split, &joined)
            .key(names.queue(&self.app_id, queue))
            .key(names.log_state(&self.app_id))
            .number(id);
        for (events, body) in parts {
            call = call.number(events).arg(body);
        }
        self.run(&joined, call).await.map(drop)
    }

    /// Sets the request `id` aside if it is the oldest of the queue. At most `most_bytes` in at
    /// most `most` requests are set aside; returns the number of events dropped to make room.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the change may have been made.
    pub async fn set_aside(
        &self,
        queue: &str,
        id: u64,
        most_bytes: usize,
        most: usize,
    ) -> Result<usize, Unavailable> {
        let (names, joined) = (&self.shared.names, self.joined()?);
        let call = self
            .call(&self.shared.scripts.set_aside, &joined)
            .key(names.queue(&self.app_id, queue))
            .key(names.log_state(&self.app_id))
            .key(names.asides(&self.app_id, queue))
            .number(id)
            .number(most_bytes)
            .number(most)
            .number(QUEUE_MEMORY.as_millis());
        let dropped = self.run(&joined, call).await?.count();
        dropped.map_err(|Unexpected| self.unexpected_reply())
    }

    /// Removes the request `done` and those older than `lifetime` from the requests that are set
    /// aside, and returns the one at `turn`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the change may have been made.
    pub async fn aside(
        &self,
        queue: &str,
        done: Option<u64>,
        lifetime: Duration,
        turn: usize,
    ) -> Result<QueueState, Unavailable> {
        let (names, joined) = (&self.shared.names, self.joined()?);
        let call = self
            .call(&self.shared.scripts.aside, &joined)
            .key(names.asides(&self.app_id, queue))
            .key(names.log_state(&self.app_id))
            .number(done.unwrap_or(0))
            .number(lifetime.as_millis())
            .number(turn);
        let (answer, now_ms) = self.run_at(&joined, call).await?;
        read::head(answer, now_ms).map_err(|Unexpected| self.unexpected_reply())
    }
}

impl Names {
    /// The key of the requests that an endpoint rejects.
    fn asides(&self, app_id: &str, queue: &str) -> String {
        format!("{}:{queue}", self.of_app("aside", app_id))
    }
}
