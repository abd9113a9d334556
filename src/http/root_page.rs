//! `GET /`: a page for browsers, which says what this is. Nothing on it is a secret: with apps of your
//! own it only says whether the server is ready.

use super::{
    HttpContext,
    response::{HttpResponse, ok, with_type},
};
use crate::{config::Config, snippet::EchoOptions};
use hyper::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, VARY},
};

const CSS: &str = include_str!("root.css");
/// The only style that the page may have is [`CSS`], by its SHA-256; everything else is forbidden.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'sha256-BxK9a7JeK7IoUi+ogSxwEA9K8dTBe8V+vO+erpWKcRs='; \
                              base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What `GET /` shows.
#[derive(Debug)]
pub(super) struct RootPage {
    /// Whether programs get 200 (`server.health_at_root`).
    is_health_check: bool,
    /// The key of the development app, while it is the only one.
    development_key: Option<String>,
}

impl RootPage {
    pub(super) fn new(config: &Config) -> Self {
        let development = config.apps.first().filter(|_| config.serves_only_development());
        Self {
            is_health_check: config.server.health_at_root,
            development_key: development.map(|app| app.key.clone()),
        }
    }
}

impl HttpContext {
    /// The page for browsers; for programs the same as `/up`, or `None` if they get nothing here.
    pub(super) fn root(&self, headers: &HeaderMap, is_tls: bool) -> Option<HttpResponse> {
        if !accepts_html(headers) {
            return self.root_page.is_health_check.then(|| ok(r#"{"health":"OK"}"#));
        }
        let body = self.html(headers, is_tls);
        let mut response = with_type(StatusCode::OK, "text/html; charset=utf-8", body);
        for (name, value) in [
            (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
            (CACHE_CONTROL, "no-store"),
            (VARY, "accept"),
            (HeaderName::from_static("x-content-type-options"), "nosniff"),
            (HeaderName::from_static("referrer-policy"), "no-referrer"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Some(response)
    }

    fn html(&self, headers: &HeaderMap, is_tls: bool) -> String {
        let state = if self.node.not_ready_reasons().is_empty() {
            r#"<p class="ready">It is ready.</p>"#
        } else {
            r#"<p class="not-ready">It is running, and not ready yet.</p>"#
        };
        let key = self.root_page.development_key.as_deref();
        let development = key.map(|key| self.development(key, headers, is_tls));
        let development = development.unwrap_or_default();
        format!(
            r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Campanile</title>
<style>{CSS}</style>
</head>
<body>
<main>
<h1>Campanile</h1>
<p>This is a broadcast server for the Pusher Channels protocol. Applications publish events to it over HTTP;
pages receive them over WebSockets, with Laravel Echo or pusher-js.</p>
{state}
{development}</main>
</body>
</html>
"#
        )
    }

    /// What is needed to try the development app, which is served on loopback only.
    fn development(&self, key: &str, headers: &HeaderMap, is_tls: bool) -> String {
        let authority = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let default_port = if is_tls { "443" } else { "80" };
        let (host, port) = split_port(authority).unwrap_or((authority, default_port));
        let path = &self.prefix;
        let echo = EchoOptions { key, host, port, path, is_tls }.to_string();
        let (echo, path) = (escaped(&echo), escaped(path));
        format!(
            r#"<p>Only the development app is configured, so the server answers on this machine only.
<a href="{path}/console">Open the console</a> to see what happens in it.</p>
<h2>Receive events on a page</h2>
<pre tabindex="0"><code>{echo}</code></pre>
<h2>Publish one</h2>
<pre tabindex="0"><code>campanile publish my-channel hello '{{"text":"Hi there"}}'</code></pre>
"#
        )
    }
}

/// Whether the client asks for a page, as browsers do. `*/*` does not, which programs send.
fn accepts_html(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|range| {
        let kind = range.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("text/html")
    })
}

/// The host and the port of an authority that has both.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = authority.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    is_port.then_some((host, port))
}

/// A text in HTML, also in a quoted attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_ask_for_html_and_programs_do_not() {
        for (accept, is_browser) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("application/json, Text/HTML; q=0.5", true),
            ("*/*", false),
            ("text/*", false),
            ("application/json", false),
            ("text/htmlx", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(accepts_html(&headers), is_browser, "{accept:?}");
        }
        assert!(!accepts_html(&HeaderMap::new()));
    }

    #[test]
    fn a_port_is_split_from_its_host() {
        for (authority, split) in [
            ("localhost:8080", Some(("localhost", "8080"))),
            ("[::1]:80", Some(("[::1]", "80"))),
            ("[::1]", None),
            ("localhost", None),
            ("localhost:", None),
        ] {
            assert_eq!(split_port(authority), split, "{authority}");
        }
    }

    #[test]
    fn markup_in_a_text_is_escaped() {
        assert_eq!(escaped(r#"<a b="c">'&"#), "&lt;a b=&quot;c&quot;&gt;&#39;&amp;");
    }
}
