//! CORS headers: which responses pages of other origins may read. The API is signed, so the
//! permission alone grants nothing; it follows the app's `allowed_origins`.

use super::response::{HttpResponse, with_type};
use crate::app::App;
use hyper::{
    HeaderMap, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderValue, ORIGIN, VARY,
    },
};

/// Adds the CORS headers that let the requesting page read `response`, if the app allows its origin.
pub(super) fn allow(app: &App, request: &HeaderMap, response: &mut HttpResponse) {
    let Some(origin) = request.get(ORIGIN) else { return };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if origin.to_str().is_ok_and(|origin| app.allows_origin(Some(origin))) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("X-Request-Id"));
    }
}

/// Answers a preflight request.
pub(super) fn preflight(app: &App, request: &HeaderMap, allowed: &'static str) -> HttpResponse {
    let mut response = with_type(StatusCode::NO_CONTENT, "text/plain", "");
    allow(app, request, &mut response);
    if response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(allowed));
        let accepted = HeaderValue::from_static(
            "Content-Type, X-Idempotency-Key, X-Pusher-Library, X-Request-Id",
        );
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, accepted);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AppConfig;

    /// The headers of responses to a page of `origin`: to a request, and to a preflight.
    fn response_headers(origin: Option<&str>) -> [HeaderMap; 2] {
        let allowed_origins = vec!["a.test".to_owned()];
        let app = App::new(AppConfig { allowed_origins, ..AppConfig::development() });
        let mut request = HeaderMap::new();
        if let Some(origin) = origin {
            request.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        let mut response = with_type(StatusCode::OK, "text/plain", "");
        allow(&app, &request, &mut response);
        let preflight = preflight(&app, &request, "POST");
        assert_eq!(preflight.status(), 204);
        [response, preflight].map(|response| response.headers().clone())
    }

    #[test]
    fn only_pages_of_allowed_origins_read_answers() {
        for headers in response_headers(Some("https://a.test")) {
            assert_eq!(headers[VARY], "Origin");
            assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.test");
            assert_eq!(headers[ACCESS_CONTROL_EXPOSE_HEADERS], "X-Request-Id");
        }
        for headers in response_headers(Some("https://b.test")) {
            assert_eq!(headers[VARY], "Origin", "a cache must not give it to a page of a.test");
            assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
            assert!(!headers.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS));
        }
        for headers in response_headers(None) {
            assert!(!headers.contains_key(VARY));
            assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        }
    }

    #[test]
    fn a_preflight_says_what_a_page_of_an_allowed_origin_may_do() {
        let [_, headers] = response_headers(Some("https://a.test"));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "POST");
        assert_eq!(
            headers[ACCESS_CONTROL_ALLOW_HEADERS],
            "Content-Type, X-Idempotency-Key, X-Pusher-Library, X-Request-Id"
        );
        assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "600");
        let [_, headers] = response_headers(Some("https://b.test"));
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
    }
}
