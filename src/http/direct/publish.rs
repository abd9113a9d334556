//! A signed publish.

use super::{DirectRequests, head::Head, response};
use crate::{
    broker::IdempotencyKey,
    http::{
        HttpContext, auth,
        event_body::text,
        publish::SinglePublish,
        route::{ApiCall, Route},
    },
    hub::Hub,
    shard::Handled,
};
use hyper::Method;
use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

impl DirectRequests {
    /// Publishes an event. `None` if the request is another one, or is to be rejected; nothing has happened then.
    pub(super) fn publish(
        &self,
        http: &HttpContext,
        head: &Head<'_>,
        body: &[u8],
        output: &mut Vec<u8>,
        began: Instant,
    ) -> Option<Handled> {
        let now = SystemTime::now();
        let (hub, authenticated) = authorized(http, head, now)?;
        authenticated.check_body(body).ok()?;
        let body = text(body).ok()?;
        let mut publish = SinglePublish::parse(&body, &hub.app().config).ok()?;
        if let Some(key) = head.idempotency_key {
            publish.set_key(IdempotencyKey::parse(std::str::from_utf8(key).ok()?).ok()?);
        }
        let request_id = response::request_id(http, head)?;
        self.count(http, head, began)?;
        hub.admit_request(began).ok()?;
        let consumed = head.len + head.content_length?;
        let Some((body, reached)) = publish.publish_here(http, &hub) else {
            let client = self.client(http, head).address;
            let request = (request_id.into_owned(), client, began);
            self.begin_publish(publish.encode(http, hub)?, request)?;
            return Some(Handled::Begun { consumed });
        };
        http.node.metrics().publish_responded(200);
        response::ok(output, http, &request_id, &body, now);
        response::log(&request_id, ("POST", "publish", 200), began);
        Some(Handled::Response { consumed, reached })
    }

    /// Counts the connection at its first request. `None` if the rate is exceeded.
    fn count(&self, http: &HttpContext, head: &Head<'_>, now: Instant) -> Option<()> {
        let tracker = &self.pending.tracker;
        if !tracker.has_requested() {
            let address = self.client(http, head).address;
            http.node.count_connection(address, now).ok()?;
        }
        tracker.request_started();
        Some(())
    }
}

/// The app of a signed publish, whose body is not checked yet. `None` if the request is another one, or is to be rejected.
pub(super) fn authorized<'a>(
    http: &'a HttpContext,
    head: &Head<'a>,
    now: SystemTime,
) -> Option<(Arc<Hub>, auth::Authenticated<'a>)> {
    if head.upgrade_key.is_some() || head.origin.is_some() {
        return None;
    }
    let route = Route::parse(&Method::POST, head.path, &http.prefix).ok()?;
    let Route::Api { app_id, call: ApiCall::Publish } = route else { return None };
    let hub = http.node.hub(&app_id)?;
    let app = hub.app();
    let is_limited = http.all_well_known || app.config.has_well_known_secret();
    if !app.config.enabled || is_limited && !head.is_from_loopback() {
        return None;
    }
    let line = auth::RequestLine {
        method: &Method::POST,
        path: head.path,
        query: head.query,
        prefix: &http.prefix,
    };
    let authenticated = auth::authenticate(&app, line, now, |_| false).ok()?;
    Some((hub, authenticated))
}
