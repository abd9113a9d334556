//! Records the attempts to deliver for the console, and sends a body again on request.

use super::{Webhooks, client::Post, endpoint::Endpoint, envelope::WebhookRequest};
use crate::{
    clock,
    config::Secret,
    http_client::{ClientResponse, HttpError},
    recent::{self, BODY_MAX, WebhookAttempt},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

/// Posts a request once, and records the attempt if there is a console: with the id of the record.
pub(super) async fn post_recorded(
    post: &mut impl Post,
    endpoint: &Endpoint,
    request: &WebhookRequest,
    is_retry: bool,
) -> (Result<ClientResponse, HttpError>, Option<u64>) {
    let began = clock::now();
    let result = post.post(request).await;
    let took = clock::now().saturating_duration_since(began);
    let app = Some(endpoint.app_id.as_str());
    let recorded =
        recent::WEBHOOKS.record(app, || record(endpoint, request, is_retry, &result, took));
    (result, recorded)
}

/// Records that the events of a recorded attempt have left the queue without being delivered.
pub(super) fn record_given_up(recorded: Option<u64>) {
    if let Some(id) = recorded {
        let given_up =
            |attempt: &WebhookAttempt| WebhookAttempt { is_given_up: true, ..attempt.clone() };
        recent::WEBHOOKS.change(id, given_up);
    }
}

fn record(
    endpoint: &Endpoint,
    request: &WebhookRequest,
    is_retry: bool,
    result: &Result<ClientResponse, HttpError>,
    took: Duration,
) -> WebhookAttempt {
    WebhookAttempt {
        app: endpoint.app_id.as_str().into(),
        webhook: endpoint.name().to_string(),
        url: endpoint.url.clone(),
        endpoint: endpoint.target.origin.authority().to_owned(),
        body: Some(&request.body).filter(|body| body.len() <= BODY_MAX).cloned(),
        is_retry,
        is_given_up: false,
        status: result.as_ref().ok().map(|response| response.status.as_u16()),
        error: result.as_ref().err().map(ToString::to_string),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}

impl Webhooks {
    /// Sends a body again to the webhook of an app that has this URL, once, with a signature of the
    /// current secret. Returns the status of the response.
    ///
    /// # Errors
    ///
    /// The webhook is no longer configured, or there was no response.
    pub async fn resend(&self, app_id: &str, url: &Secret, body: Bytes) -> Result<u16, String> {
        let app = self.apps.get(app_id).map(|app| Arc::clone(&app));
        let endpoints = app.map(|app| app.settings().endpoints.clone()).unwrap_or_default();
        let endpoint = endpoints.iter().find(|endpoint| endpoint.url == *url);
        let endpoint = endpoint.ok_or("the webhook is not configured any more")?;
        let request = WebhookRequest::again(&endpoint.signer.load(), body, clock::now());
        let mut client = endpoint.client(Arc::clone(&self.connector));
        let (response, _) = post_recorded(&mut client, endpoint, &request, true).await;
        response.map(|response| response.status.as_u16()).map_err(|error| error.to_string())
    }
}
