//! What is sent to a page.

use serde::Serialize;
use serde_json::json;
use std::{fmt::Display, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The page is gone.
#[derive(Debug)]
pub(super) struct Closed;

/// A message in the queue of a page, with its share of the bytes that may wait.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) text: String,
    /// Held until the message is written.
    pub(super) share: Option<OwnedSemaphorePermit>,
}

impl From<String> for Queued {
    /// A short message, which is not counted.
    fn from(text: String) -> Self {
        Self { text, share: None }
    }
}

/// Maximum size of the messages that wait for a page, in bytes. A larger one waits alone.
pub(super) const WAITING_MAX: usize = 4 << 20;

/// The answers to one request of a page. The queue behind it is bounded in messages and in bytes: a page
/// that does not read delays its own watches only.
#[derive(Clone, Debug)]
pub(super) struct Output {
    id: u64,
    queue: mpsc::Sender<Queued>,
    waiting: Arc<Semaphore>,
}

impl Output {
    /// The answers to the request `id`.
    pub(super) fn new(id: u64, queue: mpsc::Sender<Queued>, waiting: Arc<Semaphore>) -> Self {
        Self { id, queue, waiting }
    }

    async fn send(&self, text: String) -> Result<(), Closed> {
        let bytes = u32::try_from(text.len().clamp(1, WAITING_MAX)).map_err(|_| Closed)?;
        let share = Arc::clone(&self.waiting).acquire_many_owned(bytes).await;
        let share = Some(share.map_err(|_| Closed)?);
        self.queue.send(Queued { text, share }).await.map_err(|_| Closed)
    }

    /// Answers the request: the result of a call, or the first state of a watch.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub(super) async fn result(&self, result: impl Serialize) -> Result<(), Closed> {
        self.send(result_message(self.id, result)).await
    }

    /// Rejects the request.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub(super) async fn error(&self, error: impl Display) -> Result<(), Closed> {
        self.send(error_message(self.id, error)).await
    }

    /// Sends more of a watch.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub(super) async fn data(&self, data: impl Serialize) -> Result<(), Closed> {
        self.send(json!({"watch": self.id, "data": data}).to_string()).await
    }
}

/// The result of a request.
pub(super) fn result_message(id: u64, result: impl Serialize) -> String {
    json!({"id": id, "result": result}).to_string()
}

/// A rejection, which says in a sentence what was expected.
pub(super) fn error_message(id: u64, error: impl Display) -> String {
    json!({"id": id, "error": error.to_string()}).to_string()
}
