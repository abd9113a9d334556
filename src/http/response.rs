//! Responses, and errors with their status.

use crate::{
    broker::{PublishError, Unavailable},
    node::AppsUnavailable,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
};
use serde_json::json;
use std::time::Duration;

pub(super) type HttpResponse = Response<Full<Bytes>>;

/// An error response: the status, and a message for the developer of the application that says what
/// was expected.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    /// The code in the body, for programs: the status, or a more specific number.
    code: u16,
    message: String,
    /// The text for the log, if the message has content that must not be logged.
    logged: Option<Box<str>>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: status.as_u16(), message: message.into(), logged: None, header: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub(super) fn wrong_method(allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("Method not allowed: use {allowed}"))
            .with_header(ALLOW, HeaderValue::from_static(allowed))
    }

    /// An error that asks the client to retry after `wait`, rounded up to whole seconds.
    pub(super) fn retry_after(
        status: StatusCode,
        message: impl Into<String>,
        wait: Duration,
    ) -> Self {
        let seconds = wait.as_secs() + u64::from(0 < wait.subsec_nanos());
        Self::new(status, message).with_header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// The database of apps does not answer.
    pub(super) fn apps_unavailable(_unavailable: AppsUnavailable) -> Self {
        let message = "Apps cannot be looked up, because their database does not answer: try again";
        Self::retry_after(StatusCode::SERVICE_UNAVAILABLE, message, Duration::from_secs(1))
    }

    /// Adds which part of the request is invalid.
    pub(super) fn within(mut self, part: &str) -> Self {
        self.logged = self.logged.map(|text| format!("{part}: {text}").into());
        self.message = format!("{part}: {}", self.message);
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Sets the text for the log, for messages that quote a query string, a signature or a payload.
    pub(super) fn logged_as(mut self, text: impl Into<Box<str>>) -> Self {
        self.logged = Some(text.into());
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn header(&self) -> Option<&(HeaderName, HeaderValue)> {
        self.header.as_ref()
    }

    /// The text for the log.
    pub(super) fn log_reason(&self) -> &str {
        self.logged.as_deref().unwrap_or(&self.message)
    }

    /// The body of the response.
    pub(super) fn body(&self) -> String {
        json!({"error": self.message, "code": self.code}).to_string()
    }

    pub(super) fn into_response(self) -> HttpResponse {
        let mut response = json_response(self.status, self.body());
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(LogReason(self.logged.map_or(self.message, String::from)));
        response
    }
}

/// The reason of a rejection for the log. It is attached to the response, and not sent.
#[derive(Clone, Debug)]
pub(super) struct LogReason(pub(super) String);

/// The code in the body when it is unknown whether an event was published.
const OUTCOME_UNKNOWN: u16 = 5031;
/// When an application may retry after the broker was unavailable.
const RETRY_AFTER_OUTAGE: Duration = Duration::from_secs(1);

impl From<PublishError> for ApiError {
    fn from(why: PublishError) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        match why {
            PublishError::NotDelivered => Self::retry_after(
                status,
                "The event was not delivered: the cluster is unavailable; retry",
                RETRY_AFTER_OUTAGE,
            ),
            PublishError::OutcomeUnknown => Self {
                code: OUTCOME_UNKNOWN,
                ..Self::retry_after(
                    status,
                    "Redis did not confirm the publish: on each channel, each event was published once, \
                     or not at all",
                    RETRY_AFTER_OUTAGE,
                )
            },
        }
    }
}

impl From<Unavailable> for ApiError {
    fn from(_: Unavailable) -> Self {
        let message = "The cluster is unavailable; retry";
        Self::retry_after(StatusCode::SERVICE_UNAVAILABLE, message, RETRY_AFTER_OUTAGE)
    }
}

/// 200 with a JSON object, which all SDKs read as success.
pub(super) fn ok(body: impl Into<Bytes>) -> HttpResponse {
    json_response(StatusCode::OK, body)
}

pub(super) fn json_response(status: StatusCode, body: impl Into<Bytes>) -> HttpResponse {
    with_type(status, "application/json", body)
}

pub(super) fn with_type(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> HttpResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_rounded_up_to_whole_seconds() {
        for (wait_ms, expected) in [
            (0, "1"),
            (1, "1"),
            (999, "1"),
            (1_000, "1"),
            (1_001, "2"),
            (2_000, "2"),
            (59_500, "60"),
        ] {
            let wait = Duration::from_millis(wait_ms);
            let response =
                ApiError::retry_after(StatusCode::TOO_MANY_REQUESTS, "x", wait).into_response();
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()[RETRY_AFTER], expected, "{wait_ms} ms");
        }
    }

    #[test]
    fn the_part_of_a_request_is_named_in_the_answer_and_in_the_log() {
        let rejection = |error: ApiError| {
            error.into_response().extensions().get::<LogReason>().unwrap().0.clone()
        };
        let error = || ApiError::bad_request("secret text").within("batch[3]");
        assert_eq!(rejection(error()), "batch[3]: secret text");
        let quoting = ApiError::bad_request("secret text").logged_as("text").within("batch[3]");
        assert_eq!(quoting.message, "batch[3]: secret text");
        assert_eq!(rejection(quoting), "batch[3]: text");
        let response = ApiError::wrong_method("GET").into_response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()[ALLOW]),
            (405, &HeaderValue::from_static("GET"))
        );
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
    }

    #[test]
    fn an_outage_says_whether_the_event_was_published() {
        for (error, code, words) in [
            (ApiError::from(PublishError::NotDelivered), 503, "was not delivered"),
            (ApiError::from(PublishError::OutcomeUnknown), 5031, "published once, or not at all"),
            (ApiError::from(Unavailable), 503, "cluster is unavailable; retry"),
        ] {
            assert!(error.message.contains(words), "{}", error.message);
            assert_eq!(error.code, code);
            let response = error.into_response();
            assert_eq!(
                (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
                (503, &"1".parse().unwrap())
            );
        }
    }
}
