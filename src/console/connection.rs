//! The watch `connection`: one connection, and its messages.

use super::{
    connections::{closed_connection, connection},
    context::{Context, SeenApp},
    event::describe,
    explain::{explain_close, sentence_of},
    output::{Closed, Output},
    overview::now_ms,
    request::ConnectionParams,
    sampler::Sampler,
};
use crate::{
    hub::{ConnectionFilter, ConnectionState, MessageCounts, WatchedMessage},
    protocol::{ChannelName, SocketId},
    recent,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{self, Instant};

/// How often it is told that messages were left out.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the counts are read, in intervals.
const INTERVALS_PER_COUNTS: u64 = 3;

/// The socket id of the parameters.
///
/// # Errors
///
/// It is none.
pub(super) fn socket_id(params: &ConnectionParams) -> Result<SocketId, &'static str> {
    let parsed = SocketId::parse(&params.socket_id).ok().flatten();
    parsed.ok_or("the socket id must be one such as 123.456")
}

/// Sends the connection and its messages until it is closed, or the page is gone.
pub(super) async fn watch(
    context: &Context,
    app: &SeenApp,
    params: &ConnectionParams,
    output: &Output,
) -> Result<(), Closed> {
    let socket_id = match socket_id(params) {
        Ok(socket_id) => socket_id,
        Err(error) => return output.error(error).await,
    };
    // Before the state is read, so that no message after it is missed.
    let question = context.question().await;
    let mut watcher = app.hub.watch_connection(socket_id);
    let found = app.hub.connections(ConnectionFilter::One(socket_id), 1).await;
    drop(question);
    let Some(open) = found.first() else {
        return match closed(app, socket_id) {
            Some(closed) => output.result(closed).await,
            None => output.error("no such connection is open, and none was closed lately").await,
        };
    };
    let mut state = connection(open);
    state["channels"] = open.channels.iter().map(ChannelName::as_str).collect();
    output.result(state).await?;
    let mut sampler = Sampler::new(Instant::now().into());
    let mut ticks = time::interval_at(Instant::now() + INTERVAL, INTERVAL);
    let mut intervals = 0;
    loop {
        tokio::select! {
            message = watcher.next() => match message {
                Some(WatchedMessage::Closed(code, reason, counts)) => {
                    return output.data(end(code, &reason, counts)).await;
                }
                Some(message) => {
                    if sampler.admit() {
                        output.data(item(&message, app.shows_payloads())).await?;
                    }
                }
                None => return Ok(()),
            },
            _ = ticks.tick() => {
                if let Some(told) = sampler.end_period(Instant::now().into(), watcher.take_missed()) {
                    output.data(told).await?;
                }
                intervals += 1;
                if intervals % INTERVALS_PER_COUNTS == 0 {
                    let question = context.question().await;
                    let found = app.hub.connections(ConnectionFilter::One(socket_id), 1).await;
                    drop(question);
                    if let Some(open) = found.first() {
                        output.data(counts(open)).await?;
                    }
                }
            }
        }
    }
}

/// Closes a connection.
///
/// # Errors
///
/// There is no such connection.
pub(super) async fn disconnect(
    context: &Context,
    app: &SeenApp,
    params: &ConnectionParams,
) -> Result<Value, String> {
    let socket_id = socket_id(params)?;
    let _question = context.question().await;
    let one = || app.hub.connections(ConnectionFilter::One(socket_id), 1);
    if one().await.is_empty() {
        return Err("no such connection is open".to_owned());
    }
    app.hub.disconnect(socket_id);
    // The shards have done it when they answer again.
    one().await;
    let app_id = app.hub.app_id();
    tracing::info!(app = &*app_id, %socket_id, "console closed a connection");
    Ok(Value::Bool(true))
}

/// A connection that was closed lately.
fn closed(app: &SeenApp, socket_id: SocketId) -> Option<Value> {
    let closed = recent::CLOSED.since(0);
    let found = closed.iter().rev().find(|closed| {
        closed.record.socket_id == socket_id && closed.record.app == app.hub.app_id()
    })?;
    let mut state = closed_connection(found);
    state["channels"] = found.record.channels.iter().map(ChannelName::as_str).collect();
    Some(state)
}

fn item(message: &WatchedMessage, shows_data: bool) -> Value {
    let (kind, text) = match message {
        WatchedMessage::In(text) => ("in", text.as_str()),
        WatchedMessage::Out(frame) => ("out", frame.as_text().unwrap_or_default()),
        WatchedMessage::Closed(..) => ("closed", ""),
    };
    let mut item = describe(text, shows_data);
    item["type"] = kind.into();
    item["time"] = now_ms().into();
    item
}

/// The counts of an open connection, which its messages here do not show: some are left out.
fn counts(open: &ConnectionState) -> Value {
    json!({
        "type": "state",
        "messages_in": open.messages.received,
        "messages_out": open.messages.sent,
        "waiting_bytes": open.waiting_bytes,
    })
}

fn end(code: u16, reason: &str, counts: MessageCounts) -> Value {
    let code = Some(code).filter(|code| *code != 0);
    json!({
        "type": "closed",
        "time": now_ms(),
        "code": code,
        "reason": sentence_of("closed without a close frame of the server", reason),
        "explanation": explain_close(code.unwrap_or(1006), reason),
        "messages_in": counts.received,
        "messages_out": counts.sent,
    })
}
