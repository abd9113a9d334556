//! CORS headers: which replies pages of other origins may read. The API is signed, so the
//! permission alone grants nothing; it follows the app's `allowed_origins`.

use super::reply::{Reply, with_type};
use crate::app::App;
use hyper::{
    HeaderMap, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderValue, ORIGIN, VARY,
    },
};

/// Adds the CORS headers that let the requesting page read `reply`, if the app allows its origin.
pub(super) fn allow(app: &App, request: &HeaderMap, reply: &mut Reply) {
    let Some(origin) = request.get(ORIGIN) else { return };
    let headers = reply.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if origin.to_str().is_ok_and(|origin| app.allows_origin(Some(origin))) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("X-Request-Id"));
    }
}

/// Answers a preflight request.
pub(super) fn preflight(app: &App, request: &HeaderMap, allowed: &'static str) -> Reply {
    let mut reply = with_type(StatusCode::NO_CONTENT, "text/plain", "");
    allow(app, request, &mut reply);
    if reply.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        let headers = reply.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(allowed));
        let accepted = HeaderValue::from_static("Content-Type, X-Pusher-Library, X-Request-Id");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, accepted);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    reply
}
