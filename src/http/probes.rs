//! What operators and their tools ask: alive, ready, and the metrics.

use super::{
    Http, MetricsAccess,
    reply::{ApiError, Reply, json_reply, ok, with_type},
};
use crate::{node::Node, signature::same_secret};
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// How long a connection to the listener of the metrics may last; a scrape opens another.
const SCRAPE_MAX: Duration = Duration::from_secs(60);
/// The type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Http {
    /// The process is alive.
    pub(super) fn up() -> Reply {
        ok(r#"{"health":"OK"}"#)
    }

    /// The node takes traffic, or why it does not.
    pub(super) fn ready(&self) -> Reply {
        let reasons = self.node.unready_because();
        if !reasons.is_empty() {
            let body = json!({"ready": false, "reasons": reasons}).to_string();
            return json_reply(StatusCode::SERVICE_UNAVAILABLE, body);
        }
        ok(r#"{"ready":true}"#)
    }

    /// The metrics, for whom they are for.
    pub(super) fn metrics(&self, headers: &HeaderMap) -> Result<Reply, ApiError> {
        match &self.metrics {
            MetricsAccess::Nobody => {
                Err(ApiError::not_found("Metrics are off: set metrics.token or metrics.listen"))
            }
            MetricsAccess::Everybody => Ok(page(&self.node)),
            MetricsAccess::Token(token) if bears(headers, token) => Ok(page(&self.node)),
            MetricsAccess::Token(_) => Err(ApiError::unauthorized(
                "Metrics need `Authorization: Bearer` with metrics.token",
            )
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        }
    }
}

fn page(node: &Node) -> Reply {
    with_type(StatusCode::OK, METRICS_TYPE, node.metrics_page())
}

fn bears(headers: &HeaderMap, token: &str) -> bool {
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, sent) = sent.and_then(|value| value.split_once(' ')).unwrap_or_default();
    scheme.eq_ignore_ascii_case("bearer") && same_secret(sent.trim(), token)
}

/// Serves nothing but the metrics, without a token, until dropped.
pub async fn serve_metrics(listener: TcpListener, node: Arc<Node>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No file descriptors, probably: the next scrape may find some.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let node = Arc::clone(&node);
        let service = service_fn(move |request: Request<Incoming>| {
            let reply = match request.uri().path() {
                "/" | "/metrics" => page(&node),
                _ => ApiError::not_found("Nothing but /metrics is served here").into_reply(),
            };
            async { Ok::<hyper::Response<Full<Bytes>>, Infallible>(reply) }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(tokio::time::timeout(SCRAPE_MAX, serving));
    }
}
