//! What is sent to a page.

use serde::Serialize;
use serde_json::json;
use std::fmt::Display;
use tokio::sync::mpsc;

/// The page is gone.
#[derive(Debug)]
pub(super) struct Closed;

/// The answers to one request of a page. The queue behind it is bounded: a page that does not read
/// delays its own watches only.
#[derive(Clone, Debug)]
pub(super) struct Output {
    id: u64,
    queue: mpsc::Sender<String>,
}

impl Output {
    /// The answers to the request `id`.
    pub(super) fn new(id: u64, queue: mpsc::Sender<String>) -> Self {
        Self { id, queue }
    }

    async fn send(&self, message: String) -> Result<(), Closed> {
        self.queue.send(message).await.map_err(|_| Closed)
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
