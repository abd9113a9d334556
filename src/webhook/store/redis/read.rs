//! Parses the replies of the store's scripts.

use super::values::{CommitResult, Head, LogView, PollReply, QueueState};
use crate::broker::redis::{ScriptReply, Unexpected};
use std::time::Duration;

pub(super) fn poll(mut reply: ScriptReply, now_ms: u64) -> Result<PollReply, Unexpected> {
    if reply.text()? == "held" {
        let by = reply.text()?;
        return Ok(PollReply::Held { by, remaining: Duration::from_millis(reply.number()?) });
    }
    let (is_new, lost) = (reply.number()? == 1, reply.count()?);
    let length = reply.count()?;
    let waiting = reply.counts()?;
    let records = reply.all_bytes()?;
    let mut delayed = reply.texts()?.into_iter();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (delayed.next(), delayed.next()) {
        pairs.push((name, value));
    }
    let is_all = length <= records.len();
    Ok(PollReply::Ours(LogView { is_new, now_ms, lost, records, is_all, waiting, delayed: pairs }))
}

/// `None` if the lease has expired.
pub(super) fn commit(mut reply: ScriptReply) -> Result<Option<CommitResult>, Unexpected> {
    if reply.text()? == "lost" {
        return Ok(None);
    }
    let (dropped, waiting) = (reply.counts()?, reply.counts()?);
    Ok(Some(CommitResult { dropped, waiting, left: reply.count()? }))
}

pub(super) fn head(mut reply: ScriptReply, now_ms: u64) -> Result<QueueState, Unexpected> {
    let (expired, waiting) = (reply.count()?, reply.count()?);
    let entry = reply.bytes()?;
    let count = reply.count().unwrap_or(0);
    if entry.is_empty() {
        return Ok(QueueState { expired, waiting, head: None, count });
    }
    let mut parts = entry.splitn(4, |byte| *byte == b' ');
    let mut number = || -> Result<u64, Unexpected> {
        let digits = parts.next().and_then(|part| std::str::from_utf8(part).ok());
        digits.and_then(|digits| digits.parse().ok()).ok_or(Unexpected)
    };
    let (id, created_ms, events) = (number()?, number()?, number()?);
    let head = Head {
        id,
        age: Duration::from_millis(now_ms.saturating_sub(created_ms)),
        events: usize::try_from(events).map_err(|_| Unexpected)?,
        body: parts.next().ok_or(Unexpected)?.to_vec(),
    };
    Ok(QueueState { expired, waiting, head: Some(head), count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::Value;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_poll_is_parsed() {
        let poll = |values| poll(ScriptReply::new(Value::Array(values)).unwrap(), 1_000);
        let held = vec![text("held"), text("ab.1"), Value::Int(40)];
        let Ok(PollReply::Held { by, remaining }) = poll(held) else { panic!("it is held") };
        assert_eq!((by.as_str(), remaining), ("ab.1", Duration::from_millis(40)));
        let ours = vec![
            text("ours"),
            Value::Int(1),
            Value::Int(2),
            Value::Int(3),
            Value::Array(vec![Value::Int(7)]),
            Value::Array(vec![text("5 {}"), text("6 {}")]),
            Value::Array(vec![text("v t"), text("9 {}")]),
        ];
        let Ok(PollReply::Ours(view)) = poll(ours) else { panic!("it is ours") };
        assert!(view.is_new && !view.is_all);
        assert_eq!((view.now_ms, view.lost, view.waiting), (1_000, 2, vec![7]));
        assert_eq!(view.records, [b"5 {}", b"6 {}"]);
        assert_eq!(view.delayed, [("v t".to_owned(), "9 {}".to_owned())]);
        assert!(poll(vec![text("ours")]).is_err());
    }

    #[test]
    fn the_head_of_a_queue_is_parsed() {
        let queue_of = |entry: &str| {
            let reply = Value::Array(vec![Value::Int(1), Value::Int(2), text(entry)]);
            head(ScriptReply::new(reply).unwrap(), 2_000)
        };
        let queue = queue_of("12 1500 3 {\"a b\": 1}").unwrap();
        let first = queue.head.unwrap();
        assert_eq!((queue.expired, queue.waiting, first.id, first.events), (1, 2, 12, 3));
        assert_eq!(first.age, Duration::from_millis(500));
        assert_eq!(first.body, b"{\"a b\": 1}");
        assert!(queue_of("").unwrap().head.is_none());
        for unexpected_data in ["x", "1 2 3", "a 1 1 {}", "1 1 -1 {}"] {
            assert!(queue_of(unexpected_data).is_err(), "{unexpected_data}");
        }
    }
}
