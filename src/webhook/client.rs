//! Posts requests to an endpoint.

use super::envelope::WebhookRequest;
use crate::{
    config::Secret,
    http_client::{ClientResponse, Connector, HttpClient, HttpError, HttpTimeouts, Origin},
};
use arc_swap::ArcSwap;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Uri,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The body is read for a second, so that the connection can be reused.
pub(super) const TIMEOUTS: HttpTimeouts =
    HttpTimeouts { head: Duration::from_secs(10), body: Duration::from_secs(1) };

const KEY: HeaderName = HeaderName::from_static("x-pusher-key");
const SIGNATURE: HeaderName = HeaderName::from_static("x-pusher-signature");

/// The parts of an endpoint's URL.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) origin: Arc<Origin>,
    /// Path and query, which may contain a token.
    path: Secret,
}

impl Target {
    /// Parses a URL that the configuration has accepted.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        // Not `as_str`, which has no slash before the query of a URL without a path.
        let path = url.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let path = Secret::new(path);
        Some(Self { origin: Arc::new(Origin::from_uri(&url)?), path })
    }
}

/// Sends requests to an endpoint.
pub(super) trait Post: Send {
    /// Posts a request and waits for the response, at most for the time of [`TIMEOUTS`].
    fn post(
        &mut self,
        request: &WebhookRequest,
    ) -> impl Future<Output = Result<ClientResponse, HttpError>> + Send;

    /// Called when nothing is to be sent for now.
    fn on_idle(&mut self);
}

/// An HTTP client for one endpoint.
#[derive(Debug)]
pub(super) struct EndpointClient {
    http: HttpClient,
    target: Arc<Target>,
    headers: Arc<ArcSwap<HeaderMap>>,
}

impl EndpointClient {
    /// A client without a connection. `headers` are those of [`headers`].
    pub(super) fn new(
        connector: Arc<ArcSwap<Connector>>,
        target: Arc<Target>,
        headers: Arc<ArcSwap<HeaderMap>>,
    ) -> Self {
        let http = HttpClient::new(connector, Arc::clone(&target.origin), TIMEOUTS);
        Self { http, target, headers }
    }
}

impl Post for EndpointClient {
    async fn post(&mut self, request: &WebhookRequest) -> Result<ClientResponse, HttpError> {
        let mut http_request = Request::post(self.target.path.expose())
            .body(Full::new(request.body.clone()))
            .expect("the path is that of a URL");
        http_request.headers_mut().clone_from(&*self.headers.load());
        let signature = HeaderValue::from_str(&request.signature).expect("hex is ASCII");
        http_request.headers_mut().insert(SIGNATURE, signature);
        self.http.send(http_request).await
    }

    fn on_idle(&mut self) {
        self.http.close();
    }
}

/// The headers of every request except `Host` and the signature. Configured headers cannot replace the
/// important ones: the configuration rejects those.
pub(super) fn headers(key: &str, configured: &BTreeMap<String, Secret>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let agent = HeaderValue::from_static(concat!("campanile/", env!("CARGO_PKG_VERSION")));
    headers.insert(USER_AGENT, agent);
    for (name, value) in configured {
        let name = HeaderName::try_from(name);
        let value = HeaderValue::from_str(value.expose());
        if let (Ok(name), Ok(mut value)) = (name, value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    // Exactly this value: Node's SDK compares it as a whole.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(key) = HeaderValue::from_bytes(key.as_bytes()) {
        headers.insert(KEY, key);
    }
    headers
}

#[cfg(test)]
mod tests;
