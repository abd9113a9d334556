//! `GET /apps/{id}/channels/{channel}/history`: the events of a channel that are kept. Parameters and fields are a
//! part of Sockudo's.

use super::{
    HttpContext,
    auth::Authenticated,
    event_body::parse_channel,
    response::{ApiError, HttpResponse, ok},
};
use crate::{
    broker::HistoryRead,
    channel::{HistoryItem, HistoryPage, HistoryQuery},
    hub::Hub,
};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Maximum and default of `limit`.
const LIMIT_MAX: usize = 1_000;
/// Parameters of Sockudo without a meaning here. To ignore them would answer another question.
const UNSUPPORTED: [&str; 4] = ["start_time_ms", "end_time_ms", "start", "end"];

/// The direction's name in the response.
fn direction(query: &HistoryQuery) -> &'static str {
    if query.newest_first { "newest_first" } else { "oldest_first" }
}

/// The largest number that every reader of JSON has exactly.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// A number of 1 or more.
fn number((name, text): (&str, Option<&str>)) -> Result<Option<u64>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let number = text.parse().ok().filter(|number| (1..=NUMBER_MAX).contains(number));
    number.map(Some).ok_or_else(|| {
        ApiError::bad_request(format!("{name} must be a number from 1 to {NUMBER_MAX}"))
    })
}

/// The query in the parameters of a request.
fn parse(parameters: &Authenticated<'_>) -> Result<HistoryQuery, ApiError> {
    if let Some(name) = UNSUPPORTED.iter().find(|name| parameters.parameter(name).is_some()) {
        let message = format!("{name} is not supported: use start_serial and end_serial");
        return Err(ApiError::bad_request(message));
    }
    let newest_first = match parameters.parameter("direction") {
        None | Some("newest_first" | "backwards" | "reverse") => true,
        Some("oldest_first" | "forwards" | "forward") => false,
        Some(_) => {
            return Err(ApiError::bad_request("direction must be newest_first or oldest_first"));
        }
    };
    let limit = number(("limit", parameters.parameter("limit")))?
        .map_or(LIMIT_MAX, |limit| usize::try_from(limit).unwrap_or(LIMIT_MAX).min(LIMIT_MAX));
    let start = number(("start_serial", parameters.parameter("start_serial")))?;
    let end = number(("end_serial", parameters.parameter("end_serial")))?;
    let mut query = HistoryQuery {
        limit,
        newest_first,
        start: start.unwrap_or(0),
        end: end.unwrap_or(u64::MAX),
        epoch: None,
    };
    if let Some(cursor) = parameters.parameter("cursor") {
        let parts = cursor.split_once(':');
        let (epoch, serial) = parts
            .and_then(|(epoch, serial)| Some((epoch, serial.parse::<u64>().ok()?)))
            .ok_or_else(|| ApiError::bad_request("cursor must be a next_cursor"))?;
        query.epoch = Some(epoch.into());
        if newest_first {
            query.end = query.end.min(serial.saturating_sub(1));
        } else {
            query.start = query.start.max(serial.saturating_add(1));
        }
    }
    Ok(query)
}

fn item(epoch: &str, item: &HistoryItem, now: SystemTime) -> Value {
    let published_at = now.checked_sub(item.age).unwrap_or(UNIX_EPOCH);
    let since_epoch = published_at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let text = item.frame.as_text().unwrap_or_default();
    let message: Value = serde_json::from_str(text).unwrap_or_default();
    json!({
        "stream_id": epoch,
        "serial": item.sequence,
        "published_at_ms": u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        "event_name": message["event"],
        "payload_size_bytes": text.len(),
        "message": message,
    })
}

/// The body of the response.
fn body(query: &HistoryQuery, page: Option<&HistoryPage>, now: SystemTime) -> Value {
    let items = page.map_or(&[][..], |page| &page.items);
    let epoch = page.map(|page| &*page.epoch);
    let last = items.last().filter(|_| page.is_some_and(|page| page.has_more));
    let next = last.map(|last| format!("{}:{}", epoch.unwrap_or_default(), last.sequence));
    json!({
        "items": items.iter().map(|one| item(epoch.unwrap_or_default(), one, now)).collect::<Vec<_>>(),
        "direction": direction(query),
        "limit": query.limit,
        "has_more": next.is_some(),
        "next_cursor": next,
        "continuity": {
            "stream_id": epoch,
            "oldest_available_serial": page.and_then(|page| page.oldest),
            "newest_available_serial": page.and_then(|page| page.oldest.map(|_| page.newest)),
            "retained_messages": page.map_or(0, |page| page.kept),
            "retained_bytes": page.map_or(0, |page| page.kept_bytes),
            "complete": page.is_none_or(|page| !page.is_truncated),
            "truncated_by_retention": page.is_some_and(|page| page.is_truncated),
        },
    })
}

impl HttpContext {
    /// `GET /apps/{id}/channels/{channel}/history`. A channel without kept events has an empty page, one whose events are
    /// never kept is an error.
    pub(super) async fn channel_history(
        &self,
        hub: &Hub,
        parameters: &Authenticated<'_>,
        name: &str,
    ) -> Result<HttpResponse, ApiError> {
        let name = parse_channel(name, &hub.app().config)?;
        let query = parse(parameters)?;
        let page = match self.node.broker().history(hub, &name, &query).await? {
            HistoryRead::NotKept => {
                return Err(ApiError::not_found("No history of this channel is kept"));
            }
            HistoryRead::OtherLog => {
                let message = "The cursor is of events that were lost: read again without it";
                return Err(ApiError::bad_request(message));
            }
            HistoryRead::Empty => None,
            HistoryRead::Page(page) => Some(page),
        };
        Ok(ok(body(&query, page.as_ref(), SystemTime::now()).to_string()))
    }
}
