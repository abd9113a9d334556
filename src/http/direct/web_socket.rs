//! A WebSocket handshake.

use super::{DirectRequests, head::Head, response};
use crate::{
    http::{HttpContext, query, route::Route, upgrade},
    node::ConnectRequest,
    shard::Handled,
};
use hyper::Method;
use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Instant,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

impl DirectRequests {
    /// Answers the handshake of a client, admitted or not. `None` if the request is another one, or an app has to be
    /// looked up; nothing has happened then.
    pub(super) fn upgrade(
        &self,
        http: &HttpContext,
        head: &Head<'_>,
        output: &mut Vec<u8>,
    ) -> Option<Handled> {
        let began = Instant::now();
        let key = head.upgrade_key?;
        let route = Route::parse(&Method::GET, head.path, &http.prefix).ok()?;
        let Route::WebSocket { key: app_key, token } = route else { return None };
        if !upgrade::is_key(key) || http.node.hub_by_key(&app_key).is_none() {
            return None;
        }
        let request_id = response::request_id(http, head)?;
        let protocol = query::value(head.query, "protocol");
        let origin = head.origin.map(String::from_utf8_lossy);
        let request = ConnectRequest {
            key: &app_key,
            token: token.as_deref(),
            protocol: protocol.as_deref(),
            origin: origin.as_deref(),
            peer: self.client(http, head),
            is_from_loopback: head.is_from_loopback(),
        };
        // Without Redis, and for a known app, nothing is waited for. The future is large, and not moved.
        let admission =
            pin!(http.node.admit(request)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(admission) = admission else { return None };
        let admission = admission.map(Box::new);
        self.pending.tracker.request_started();
        if let Err(code) = &admission {
            http.log_rejection(&request, code);
        }
        response::switching_protocols(output, &derive_accept_key(key), &request_id);
        response::log(&request_id, ("GET", "websocket", 101), began);
        Some(Handled::Upgrade { consumed: head.len, client: admission })
    }
}
