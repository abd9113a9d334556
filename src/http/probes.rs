//! The probes of operators: `/up`, `/ready` and `/metrics`.

use super::{
    HttpConnectionLimiter, HttpContext, ListenerKind, MetricsAccess,
    response::{ApiError, HttpResponse, LogReason, json_response, ok, with_type},
    serve,
};
use crate::{node::Node, shutdown::Shutdown, signature::secrets_equal};
use arc_swap::ArcSwap;
use hyper::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
};
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, time};

/// Maximum number of connections to the metrics listener: more than concurrent scrapes, and fewer
/// than the file descriptors reserved for other things than clients.
const SCRAPES_MAX: usize = 32;
/// How long to wait for an evicted connection to close.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// The type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl HttpContext {
    /// Liveness: always 200.
    pub(super) fn up() -> HttpResponse {
        ok(r#"{"health":"OK"}"#)
    }

    /// Readiness: 200, or 503 with the reasons.
    pub(super) fn ready(&self) -> HttpResponse {
        let reasons = self.node.not_ready_reasons();
        if !reasons.is_empty() {
            let body = json!({"ready": false, "reasons": reasons}).to_string();
            let mut response = json_response(StatusCode::SERVICE_UNAVAILABLE, body);
            response
                .extensions_mut()
                .insert(LogReason(format!("not ready: {}", reasons.join(", "))));
            return response;
        }
        ok(r#"{"ready":true}"#)
    }

    /// The metrics, if the request may read them.
    pub(super) fn metrics(&self, headers: &HeaderMap) -> Result<HttpResponse, ApiError> {
        match &self.metrics {
            MetricsAccess::Disabled => {
                Err(ApiError::not_found("Metrics are off: set metrics.token or metrics.listen"))
            }
            MetricsAccess::Public => Ok(self.metrics_page()),
            MetricsAccess::Token(token) if has_bearer_token(headers, token) => {
                Ok(self.metrics_page())
            }
            MetricsAccess::Token(_) => Err(ApiError::unauthorized(
                "Metrics need `Authorization: Bearer` with metrics.token",
            )
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        }
    }

    /// The metrics, without authentication.
    pub(super) fn metrics_page(&self) -> HttpResponse {
        with_type(StatusCode::OK, METRICS_TYPE, self.node.metrics_page())
    }
}

fn has_bearer_token(headers: &HeaderMap, token: &str) -> bool {
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, sent) = sent.and_then(|value| value.split_once(' ')).unwrap_or_default();
    scheme.eq_ignore_ascii_case("bearer") && secrets_equal(sent.trim(), token)
}

/// Serves only the metrics, without a token, until dropped. At the limit of connections, the
/// longest-idle one is closed, as on the main port; until then new connections wait.
pub async fn serve_metrics(
    listener: TcpListener,
    http: Arc<ArcSwap<HttpContext>>,
    node: Arc<Node>,
) {
    let limiter = HttpConnectionLimiter::new(SCRAPES_MAX, usize::MAX, node);
    // Scrapes do not delay a shutdown, and are served while the server drains.
    let shutdown = Shutdown::new();
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Probably no file descriptors are left: a later scrape may succeed.
            time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let pending = loop {
            match limiter.admit(Instant::now()) {
                Some(pending) => break pending,
                None => time::sleep(FULL_PAUSE).await,
            }
        };
        let (http, drain) = (Arc::clone(&http), shutdown.guard());
        tokio::spawn(serve(
            http,
            (stream, peer, Vec::new()),
            pending,
            ListenerKind::Metrics,
            drain,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_opens_the_metrics() {
        for (sent, is_good) in [
            ("Bearer a-token", true),
            ("bearer  a-token ", true),
            ("a-token", false),
            ("Basic a-token", false),
            ("Bearer", false),
            ("Bearer ", false),
            ("Bearer a-toke", false),
            ("Bearer a-tokens", false),
            ("Bearer A-token", false),
        ] {
            let value = HeaderValue::from_static(sent);
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            assert_eq!(has_bearer_token(&headers, "a-token"), is_good, "{sent:?}");
        }
        assert!(!has_bearer_token(&HeaderMap::new(), "a-token"));
    }
}
