//! `GET /apps/{id}/activity`: the busiest channels and the slowest connections of this node.

use super::{
    HttpContext,
    auth::Authenticated,
    response::{ApiError, HttpResponse, ok},
};
use crate::hub::{ActivityOrder, Hub};
use hyper::StatusCode;
use serde_json::json;
use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};
use tokio::time;

/// Maximum number of concurrent requests of a node. Each holds a number for each channel of its app.
pub(super) const CONCURRENT_MAX: usize = 8;
const LIMIT: RangeInclusive<u64> = 1..=100;
const LIMIT_DEFAULT: u64 = 20;
const INTERVAL_MS: RangeInclusive<u64> = 100..=5_000;
const INTERVAL_MS_DEFAULT: u64 = 1_000;

fn number(
    (name, text): (&str, Option<&str>),
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u64, ApiError> {
    let Some(text) = text else { return Ok(default) };
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        ApiError::bad_request(format!("{name} must be {} to {}", range.start(), range.end()))
    })
}

impl HttpContext {
    /// Reads the sequences of channels twice, `interval_ms` apart.
    pub(super) async fn activity(
        &self,
        hub: &Hub,
        parameters: &Authenticated<'_>,
    ) -> Result<HttpResponse, ApiError> {
        let limit = number(("limit", parameters.parameter("limit")), LIMIT_DEFAULT, LIMIT)?;
        let limit = usize::try_from(limit).expect("at most 100");
        let interval = ("interval_ms", parameters.parameter("interval_ms"));
        let interval = number(interval, INTERVAL_MS_DEFAULT, INTERVAL_MS)?;
        let order = parameters
            .parameter("order")
            .map_or(Some(ActivityOrder::default()), ActivityOrder::parse);
        let order = order.ok_or_else(|| {
            ApiError::bad_request("order must be messages, events or subscriptions")
        })?;
        let permits = (hub.try_acquire_activity(), self.activity_permits.try_acquire());
        let (Some(_of_app), Some(_of_node)) = permits else {
            let message = "Too many requests for the activity: try again";
            let status = StatusCode::TOO_MANY_REQUESTS;
            return Err(ApiError::retry_after(status, message, Duration::from_secs(1)));
        };
        let (before, began) = (hub.channel_sequences(), Instant::now());
        time::sleep(Duration::from_millis(interval)).await;
        let channels = hub.busiest_channels(&before, order, limit);
        let interval_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let channels: Vec<_> = channels
            .iter()
            .map(|channel| {
                json!({
                    "channel": channel.name.as_str(),
                    "events": channel.events,
                    "subscriptions": channel.subscriptions,
                })
            })
            .collect();
        let slow: Vec<_> = hub
            .slow_connections(limit)
            .await
            .iter()
            .map(|connection| {
                json!({
                    "socket_id": connection.socket_id.to_string(),
                    "address": connection.address.to_string(),
                    "waiting_bytes": connection.waiting_bytes,
                })
            })
            .collect();
        let body = json!({
            "interval_ms": interval_ms,
            "channels": channels,
            "slow_connections": slow,
        });
        Ok(ok(body.to_string()))
    }
}
