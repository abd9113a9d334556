//! Hands the messages of the consoles of other nodes to that of this node. The broker does not know their
//! content.

use std::{fmt, sync::OnceLock};

/// A message of the console of another node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerMessage<'a> {
    /// To all nodes.
    Question(&'a str),
    /// To this node.
    Answer(&'a str),
}

/// Receives a message, with the name of the process that has sent it. Must not wait.
pub(super) type Receiver = Box<dyn Fn(&str, PeerMessage<'_>) + Send + Sync>;

/// The console of this node, if it has one.
#[derive(Default)]
pub(super) struct ConsolePeers(OnceLock<Receiver>);

impl fmt::Debug for ConsolePeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConsolePeers").field(&self.0.get().is_some()).finish()
    }
}

/// Maximum size of a question and of an answer, in bytes.
const QUESTION_MAX: usize = 16 * 1_024;
pub(super) const ANSWER_MAX: usize = 1 << 20;

impl ConsolePeers {
    /// Sets what receives the messages. A second one is not set: a process has one console.
    pub(super) fn set(&self, receiver: Receiver) {
        let _ = self.0.set(receiver);
    }

    /// Gives a message to the console, unless it is too large.
    pub(super) fn receive(&self, process: &str, message: PeerMessage<'_>) {
        let (PeerMessage::Question(text) | PeerMessage::Answer(text)) = message;
        let max = match message {
            PeerMessage::Question(_) => QUESTION_MAX,
            PeerMessage::Answer(_) => ANSWER_MAX,
        };
        if text.len() <= max
            && let Some(receiver) = self.0.get()
        {
            receiver(process, message);
        }
    }
}
