//! The watch `connections`: the open, the closed and the rejected connections of an app.

use super::{
    context::{APP_CHANGED, Context, Extent, SeenApp},
    explain::{explain_close, sentence_of},
    output::{Closed, Output},
    overview::now_ms,
    request::SearchParams,
};
use crate::{
    hub::{ConnectionFilter, ConnectionState},
    recent::{self, ClosedConnection, Recorded, RejectedConnection},
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;

/// The interval of the lists.
const INTERVAL: Duration = Duration::from_secs(2);
/// Maximum number of open connections that are shown, and of each list for a page of another node.
const CONNECTIONS_MAX: usize = 200;
const FOR_PEER_MAX: usize = 50;

/// Sends the lists until the page is gone.
pub(super) async fn watch(
    context: &Context,
    app: &SeenApp,
    params: &SearchParams,
    output: &Output,
) -> Result<(), Closed> {
    let mut is_first = true;
    let mut ticks = time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !app.is_current() {
            return output.error(APP_CHANGED).await;
        }
        let data = lists(context, app, &params.search).await;
        if std::mem::take(&mut is_first) {
            output.result(data).await?;
        } else {
            output.data(data).await?;
        }
    }
}

async fn lists(context: &Context, app: &SeenApp, search: &str) -> Value {
    let filter = ConnectionFilter::Contains(search.into());
    let question = context.question().await;
    let mut open = app.hub.connections(filter, CONNECTIONS_MAX).await;
    drop(question);
    let max = match context.extent {
        Extent::AllNodes | Extent::OfThisNode => CONNECTIONS_MAX,
        Extent::ForPeer => FOR_PEER_MAX,
    };
    open.sort_by_key(|connection| std::cmp::Reverse(connection.admitted_at));
    open.truncate(max);
    let app_id = app.hub.app_id();
    let closed = recent::CLOSED.since(0);
    let of_app = closed.iter().rev().filter(|closed| closed.record.app == app_id);
    let closed: Vec<_> = of_app.take(max).map(closed_connection).collect();
    // A key that no app has is shown to those who may see all apps.
    let is_visible = |rejected: &RejectedConnection| match &rejected.app {
        Some(of) => *of == app_id,
        None => context.sees_server(),
    };
    let rejected = recent::REJECTED.since(0);
    let seen = rejected.iter().rev().filter(|rejected| is_visible(&rejected.record));
    let rejected: Vec<_> = seen.take(max).map(rejection).collect();
    json!({
        "total": app.hub.connection_count(),
        "connections": open.iter().map(connection).collect::<Vec<_>>(),
        "closed": closed,
        "rejected": rejected,
    })
}

/// An open connection.
pub(super) fn connection(open: &ConnectionState) -> Value {
    let open_ms = Instant::now().saturating_duration_since(open.admitted_at).as_millis();
    json!({
        "socket_id": open.socket_id.to_string(),
        "address": open.address,
        "connected_at": now_ms().saturating_sub(u64::try_from(open_ms).unwrap_or(u64::MAX)),
        "closed_at": null,
        "code": null,
        "reason": null,
        "explanation": null,
        "subscriptions": open.subscriptions,
        "user_id": open.user_id.as_deref(),
        "client": null,
        "origin": open.origin.as_deref(),
        "messages_in": open.messages.received,
        "messages_out": open.messages.sent,
        "waiting_bytes": open.waiting_bytes,
    })
}

/// A closed connection.
pub(super) fn closed_connection(closed: &Arc<Recorded<ClosedConnection>>) -> Value {
    let Recorded { time_ms, record, .. } = &**closed;
    let message = record.message.as_deref().unwrap_or_default();
    json!({
        "socket_id": record.socket_id.to_string(),
        "address": record.address,
        "connected_at": time_ms.saturating_sub(record.duration_ms),
        "closed_at": time_ms,
        "code": record.code,
        "reason": sentence_of(record.reason, message),
        // A client sees 1006 where there was no close frame.
        "explanation": explain_close(record.code.unwrap_or(1006), message),
        "subscriptions": record.subscriptions,
        "user_id": record.user_id.as_deref(),
        "client": null,
        "origin": record.origin.as_deref(),
        "messages_in": record.messages_in,
        "messages_out": record.messages_out,
        "waiting_bytes": null,
    })
}

fn rejection(rejected: &Arc<Recorded<RejectedConnection>>) -> Value {
    let Recorded { time_ms, record, .. } = &**rejected;
    json!({
        "time": time_ms,
        "address": record.address,
        "key": record.key,
        "status_or_code": record.code,
        "reason": sentence_of(record.reason, &record.message),
        "origin": record.origin,
        "explanation": explain_close(record.code, &record.message),
    })
}
