//! Publishes that leave together: those that begin on one thread before its runtime comes to send them, in one call of
//! `lua/publish_group.lua` for each partition.
//!
//! A publish stays one of its own: it has its deadline, its ids and its retries, and the call has a reply for each.

use super::{
    link_state::JoinedLink,
    names::KeyNames,
    scripts::{ScriptCall, ScriptReply, Scripts, Status},
};
use parking_lot::Mutex;
use redis::{RedisResult, Value, make_extension_error};
use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::oneshot;

/// Publishes that wait for their thread to send them.
#[derive(Debug)]
pub(super) struct PublishGroups {
    /// Each thread has a queue, or shares it with others.
    queues: [Mutex<Vec<QueuedPublish>>; QUEUES],
}

/// A publish that is sent with the next group of its thread.
#[derive(Debug)]
struct QueuedPublish {
    link: JoinedLink,
    call: ScriptCall,
    reply_sender: oneshot::Sender<RedisResult<Value>>,
}

/// Publishes for one partition over one link.
#[derive(Debug)]
struct PublishGroup {
    publishes: Vec<QueuedPublish>,
    /// Their keys, and the approximate size of their calls.
    keys: usize,
    bytes: usize,
}

/// The reply to a publish; an error if it was not sent.
pub(super) type PublishReply = oneshot::Receiver<RedisResult<Value>>;

const QUEUES: usize = 64;
/// Maximum keys and bytes of a group, so that its script does not keep Redis busy for long. A larger publish is a group of its own.
const KEYS_MAX: usize = 512;
const BYTES_MAX: usize = 64 * 1024;

impl Default for PublishGroups {
    fn default() -> Self {
        Self { queues: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl PublishGroups {
    /// Adds the call of a publish to the queue of this thread. Returns its reply, and the queue if it was empty: the caller
    /// makes it be sent after the tasks that are ready now, which may publish as well.
    pub(super) fn add(&self, call: ScriptCall, link: JoinedLink) -> (PublishReply, Option<usize>) {
        let (reply_sender, reply) = oneshot::channel();
        let queue = queue_of_thread();
        let mut queued = self.queues[queue].lock();
        queued.push(QueuedPublish { link, call, reply_sender });
        (reply, (queued.len() == 1).then_some(queue))
    }

    /// Sends the publishes of a queue, and passes on their replies.
    pub(super) async fn send(&self, queue: usize, scripts: &Scripts, names: &KeyNames) {
        let groups = self.take(queue).into_iter().map(|group| group.send(scripts, names));
        futures_util::future::join_all(groups).await;
    }

    /// Takes the publishes of a queue, in groups. Those for one partition stay in order.
    fn take(&self, queue: usize) -> Vec<PublishGroup> {
        let queued = std::mem::take(&mut *self.queues[queue].lock());
        let mut groups: Vec<PublishGroup> = Vec::new();
        // A cancelled publish is not sent.
        for publish in queued.into_iter().filter(|publish| !publish.reply_sender.is_closed()) {
            let (keys, bytes) = (publish.call.keys(), publish.call.len());
            let latest = groups.iter_mut().rev().find(|group| group.is_for(&publish));
            match latest.filter(|group| group.has_room(keys, bytes)) {
                Some(group) => {
                    group.publishes.push(publish);
                    group.keys += keys;
                    group.bytes += bytes;
                }
                None => groups.push(PublishGroup { publishes: vec![publish], keys, bytes }),
            }
        }
        groups
    }
}

impl PublishGroup {
    fn is_for(&self, other: &QueuedPublish) -> bool {
        let QueuedPublish { link, call, .. } = &self.publishes[0];
        call.partition() == other.call.partition() && Arc::ptr_eq(&link.token, &other.link.token)
    }

    fn has_room(&self, keys: usize, bytes: usize) -> bool {
        self.keys + keys <= KEYS_MAX && self.bytes + bytes <= BYTES_MAX
    }

    /// Sends the publishes, and passes on their replies.
    async fn send(mut self, scripts: &Scripts, names: &KeyNames) {
        let JoinedLink { connection, token } = self.publishes[0].link.clone();
        if self.publishes.len() == 1 {
            let publish = self.publishes.remove(0);
            let reply = publish.call.run(&connection).await;
            // The publish may have stopped waiting.
            let _ = publish.reply_sender.send(reply);
            return;
        }
        let partition = self.publishes[0].call.partition();
        let call = ScriptCall::fenced(&scripts.publish_group, partition, names, &token);
        let call = self.publishes.iter().fold(call, |call, one| call.append_fenced(&one.call));
        let replies = match call.run(&connection).await {
            Ok(reply) => split_reply(reply, self.publishes.len()),
            Err(error) => self.publishes.iter().map(|_| Err(error.clone())).collect(),
        };
        for (publish, reply) in self.publishes.into_iter().zip(replies) {
            let _ = publish.reply_sender.send(reply);
        }
    }
}

/// The queue of the calling thread.
fn queue_of_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static QUEUE: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % QUEUES);
    }
    QUEUE.get()
}

/// The reply to each publish of a group. If the reply to the group can't be read, neither can theirs.
fn split_reply(reply: Value, publishes: usize) -> Vec<RedisResult<Value>> {
    let values = if let Value::Array(values) = reply { values } else { Vec::new() };
    let status = ScriptReply::new(Value::Array(values.iter().take(2).cloned().collect()))
        .and_then(|mut reply| reply.status());
    match status {
        Ok((Status::Done, _)) if values.len() == 2 + publishes => {
            values.into_iter().skip(2).map(reply_of_one).collect()
        }
        Ok((Status::Fenced, _)) => vec![Ok(Value::Array(values)); publishes],
        _ => vec![Ok(Value::Nil); publishes],
    }
}

/// The reply to one publish, as if it had been sent alone.
fn reply_of_one(reply: Value) -> RedisResult<Value> {
    let Value::Array(values) = &reply else { return Ok(reply) };
    let [Value::BulkString(status), Value::BulkString(text)] = &values[..] else {
        return Ok(reply);
    };
    if status != b"failed" {
        return Ok(reply);
    }
    let text = String::from_utf8_lossy(text);
    let is_code = |word: &str| word.bytes().all(|byte| byte.is_ascii_uppercase());
    let (code, detail) = match text.split_once(' ') {
        Some((code, detail)) if is_code(code) => (code, detail),
        _ => ("ERR", &*text),
    };
    Err(make_extension_error(code.to_owned(), Some(detail.to_owned())))
}

#[cfg(test)]
mod tests;
