//! Parses a request's path and method into a route.

use super::response::ApiError;
use crate::hub::UserClose;
use crate::protocol::ResumeToken;
use hyper::Method;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// A route, with the names in the path decoded.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Route<'a> {
    WebSocket {
        key: Cow<'a, str>,
        /// The token in the segment before the key, valid or not.
        token: Option<Cow<'a, str>>,
    },
    /// The path that all others begin with.
    Root,
    Up,
    Ready,
    Metrics,
    /// The metrics, on the metrics listener.
    Scrape,
    /// A preflight request of a browser for a path of the app.
    Preflight {
        app_id: Cow<'a, str>,
        allowed: &'static str,
    },
    Api {
        app_id: Cow<'a, str>,
        call: ApiCall<'a>,
    },
    Console(ConsolePath<'a>),
}

/// A path of the console.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ConsolePath<'a> {
    /// The page without the slash at its end, which relative addresses in it need.
    Redirect,
    /// A file; the page if the name is empty.
    Asset(Cow<'a, str>),
    Session,
    Login,
    Logout,
    /// The WebSocket.
    Live,
}

/// A call of the HTTP API.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ApiCall<'a> {
    Publish,
    PublishBatch,
    Channels,
    Channel(Cow<'a, str>),
    ChannelUsers(Cow<'a, str>),
    ChannelHistory(Cow<'a, str>),
    Connections,
    Activity,
    Diagnostics,
    CloseUser(Cow<'a, str>, UserClose),
    Reload,
}

impl ApiCall<'_> {
    fn allowed(&self) -> &'static str {
        match self {
            Self::Publish | Self::PublishBatch | Self::CloseUser(..) | Self::Reload => "POST",
            Self::Channels
            | Self::Channel(_)
            | Self::ChannelUsers(_)
            | Self::ChannelHistory(_)
            | Self::Connections
            | Self::Activity
            | Self::Diagnostics => "GET",
        }
    }
}

fn decoded(segment: &str) -> Result<Cow<'_, str>, ApiError> {
    percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| ApiError::bad_request("The path is not UTF-8 when percent-decoded"))
}

impl<'a> Route<'a> {
    /// A label for the log, without names from the path, which may be secrets.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::WebSocket { .. } => "websocket",
            Self::Root => "root",
            Self::Up => "up",
            Self::Ready => "ready",
            Self::Metrics | Self::Scrape => "metrics",
            Self::Preflight { .. } => "preflight",
            Self::Console(_) => "console",
            Self::Api { call, .. } => match call {
                ApiCall::Publish => "publish",
                ApiCall::PublishBatch => "publish_batch",
                ApiCall::Channels => "channels",
                ApiCall::Channel(_) => "channel",
                ApiCall::ChannelUsers(_) => "channel_users",
                ApiCall::ChannelHistory(_) => "channel_history",
                ApiCall::Connections => "connections",
                ApiCall::Activity => "activity",
                ApiCall::Diagnostics => "diagnostics",
                ApiCall::CloseUser(_, UserClose::Terminate) => "terminate_user",
                ApiCall::CloseUser(_, UserClose::Reconnect) => "force_reconnect",
                ApiCall::Reload => "reload",
            },
        }
    }

    /// The app of the route: its id, or its key for WebSocket clients.
    pub(super) fn app(&self) -> Option<&str> {
        match self {
            Self::WebSocket { key, .. } => Some(key),
            Self::Preflight { app_id, .. } | Self::Api { app_id, .. } => Some(app_id),
            Self::Root
            | Self::Up
            | Self::Ready
            | Self::Metrics
            | Self::Scrape
            | Self::Console(_) => None,
        }
    }

    /// Whether responses count as publishes in the metrics.
    pub(super) fn is_publish(&self) -> bool {
        matches!(self, Self::Api { call: ApiCall::Publish | ApiCall::PublishBatch, .. })
    }

    /// Parses a path, which starts with `prefix`.
    ///
    /// A call of the HTTP API may lack it. PHP's SDK resolves `apps/…` against its option `path` as
    /// RFC 3986 says, which drops the last segment of `/ws`, and Laravel sets no path by default.
    ///
    /// # Errors
    ///
    /// 404 for an unknown path, 405 for another method.
    pub(super) fn parse(method: &Method, path: &'a str, prefix: &str) -> Result<Self, ApiError> {
        let is_call_without_prefix = path.starts_with("/apps/");
        let inner = path
            .strip_prefix(prefix)
            .or(is_call_without_prefix.then_some(path))
            .and_then(|path| if path.is_empty() { Some("") } else { path.strip_prefix('/') })
            .ok_or_else(|| Self::nothing_at(path, prefix))?;
        let mut segments = inner.splitn(3, '/');
        let first = segments.next().unwrap_or_default();
        match (first, segments.next(), segments.next()) {
            ("app", Some(key), None) if !key.is_empty() => {
                get_only(method, Self::WebSocket { key: decoded(key)?, token: None })
            }
            ("app", Some(token), Some(rest)) if token.starts_with(ResumeToken::SEGMENT_PREFIX) => {
                let key =
                    rest.strip_prefix("app/").filter(|key| !key.is_empty() && !key.contains('/'));
                let key = decoded(key.ok_or_else(|| Self::nothing_at(path, prefix))?)?;
                let token = decoded(&token[ResumeToken::SEGMENT_PREFIX.len()..])?;
                get_only(method, Self::WebSocket { key, token: Some(token) })
            }
            ("", None, None) => get_only(method, Self::Root),
            ("up", None, None) => get_only(method, Self::Up),
            ("ready", None, None) => get_only(method, Self::Ready),
            ("metrics", None, None) => get_only(method, Self::Metrics),
            ("console", rest, None) => Self::console(method, rest).map(Self::Console),
            ("apps", Some(""), _) => Err(ApiError::bad_request("The path names no app id")),
            ("apps", Some(app_id), Some(rest)) => {
                let call = Self::call(rest)?.ok_or_else(|| Self::nothing_at(path, prefix))?;
                Self::api(method, decoded(app_id)?, call)
            }
            _ => Err(Self::nothing_at(path, prefix)),
        }
    }

    /// The path of the console after its name, `None` without a slash.
    fn console(method: &Method, rest: Option<&'a str>) -> Result<ConsolePath<'a>, ApiError> {
        let (path, allowed) = match rest {
            None => (ConsolePath::Redirect, Method::GET),
            Some("session") => (ConsolePath::Session, Method::GET),
            Some("login") => (ConsolePath::Login, Method::POST),
            Some("logout") => (ConsolePath::Logout, Method::POST),
            Some("live") => (ConsolePath::Live, Method::GET),
            Some(name) => (ConsolePath::Asset(decoded(name)?), Method::GET),
        };
        if *method == allowed {
            return Ok(path);
        }
        Err(ApiError::wrong_method(if allowed == Method::GET { "GET" } else { "POST" }))
    }

    /// Parses the path of a request to the metrics listener.
    ///
    /// # Errors
    ///
    /// As [`Route::parse`].
    pub(super) fn parse_scrape(method: &Method, path: &str) -> Result<Self, ApiError> {
        match path {
            "/" | "/metrics" => get_only(method, Self::Scrape),
            _ => Err(ApiError::not_found("Only /metrics is served here")),
        }
    }

    pub(super) fn nothing_at(path: &str, prefix: &str) -> ApiError {
        let path = &path[..path.floor_char_boundary(100)];
        ApiError::not_found(format!(
            "Nothing at {path}: the API is under {prefix}/apps/APP_ID/, \
             WebSockets connect to {prefix}/app/APP_KEY"
        ))
    }

    fn api(method: &Method, app_id: Cow<'a, str>, call: ApiCall<'a>) -> Result<Self, ApiError> {
        let allowed = call.allowed();
        match method.as_str() {
            "OPTIONS" => Ok(Self::Preflight { app_id, allowed }),
            sent if sent == allowed => Ok(Self::Api { app_id, call }),
            _ => Err(ApiError::wrong_method(allowed)),
        }
    }

    fn call(rest: &'a str) -> Result<Option<ApiCall<'a>>, ApiError> {
        let mut segments = rest.splitn(3, '/');
        let first = segments.next().unwrap_or_default();
        Ok(Some(match (first, segments.next(), segments.next()) {
            ("events", None, None) => ApiCall::Publish,
            ("batch_events", None, None) => ApiCall::PublishBatch,
            ("connections", None, None) => ApiCall::Connections,
            ("activity", None, None) => ApiCall::Activity,
            ("diagnostics", None, None) => ApiCall::Diagnostics,
            ("reload", None, None) => ApiCall::Reload,
            ("channels", None, None) => ApiCall::Channels,
            ("channels", Some(name), None) if !name.is_empty() => ApiCall::Channel(decoded(name)?),
            ("channels", Some(name), Some("users")) => ApiCall::ChannelUsers(decoded(name)?),
            ("channels", Some(name), Some("history")) => ApiCall::ChannelHistory(decoded(name)?),
            ("users", Some(user_id), Some("terminate_connections")) => {
                ApiCall::CloseUser(decoded(user_id)?, UserClose::Terminate)
            }
            ("users", Some(user_id), Some("force_reconnect")) => {
                ApiCall::CloseUser(decoded(user_id)?, UserClose::Reconnect)
            }
            _ => return Ok(None),
        }))
    }
}

/// A route that allows GET, and HEAD for probes.
fn get_only<'a>(method: &Method, route: Route<'a>) -> Result<Route<'a>, ApiError> {
    let is_probe = matches!(route, Route::Root | Route::Up | Route::Ready | Route::Scrape);
    match *method {
        Method::GET => Ok(route),
        Method::HEAD if is_probe => Ok(route),
        _ if is_probe => Err(ApiError::wrong_method("GET, HEAD")),
        _ => Err(ApiError::wrong_method("GET")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn route(method: &Method, path: &'static str, prefix: &str) -> Option<Route<'static>> {
        Route::parse(method, path, prefix).ok()
    }

    fn call(method: &Method, path: &'static str) -> Option<ApiCall<'static>> {
        let Some(Route::Api { app_id, call }) = route(method, path, "") else { return None };
        (app_id == "3").then_some(call)
    }

    #[test]
    fn every_endpoint_is_parsed() {
        let web_socket = |key: &'static str, token: Option<&'static str>| {
            Some(Route::WebSocket { key: key.into(), token: token.map(Into::into) })
        };
        assert_eq!(route(&Method::GET, "/app/K", ""), web_socket("K", None));
        assert_eq!(route(&Method::GET, "/app/resume-T/app/K", ""), web_socket("K", Some("T")));
        assert_eq!(route(&Method::GET, "/ws/app/resume-/app/K", "/ws"), web_socket("K", Some("")));
        assert_eq!(route(&Method::GET, "/app/resume-T", ""), web_socket("resume-T", None));
        for (path, prefix) in [("/", ""), ("/ws", "/ws"), ("/ws/", "/ws")] {
            assert_eq!(route(&Method::HEAD, path, prefix), Some(Route::Root));
            assert_eq!(route(&Method::POST, path, prefix), None);
        }
        assert_eq!(route(&Method::GET, "/", "/ws"), None);
        assert_eq!(route(&Method::HEAD, "/up", ""), Some(Route::Up));
        assert_eq!(route(&Method::GET, "/ready", ""), Some(Route::Ready));
        assert_eq!(route(&Method::GET, "/metrics", ""), Some(Route::Metrics));
        assert_eq!(call(&Method::POST, "/apps/3/events"), Some(ApiCall::Publish));
        assert_eq!(call(&Method::POST, "/apps/3/batch_events"), Some(ApiCall::PublishBatch));
        assert_eq!(call(&Method::GET, "/apps/3/channels"), Some(ApiCall::Channels));
        assert_eq!(
            call(&Method::GET, "/apps/3/channels/a%3Bb"),
            Some(ApiCall::Channel("a;b".into()))
        );
        assert_eq!(
            call(&Method::GET, "/apps/3/channels/a/users"),
            Some(ApiCall::ChannelUsers("a".into()))
        );
        assert_eq!(
            call(&Method::GET, "/apps/3/channels/a/history"),
            Some(ApiCall::ChannelHistory("a".into()))
        );
        assert_eq!(call(&Method::GET, "/apps/3/connections"), Some(ApiCall::Connections));
        assert_eq!(call(&Method::GET, "/apps/3/activity"), Some(ApiCall::Activity));
        assert_eq!(call(&Method::GET, "/apps/3/diagnostics"), Some(ApiCall::Diagnostics));
        assert_eq!(call(&Method::POST, "/apps/3/reload"), Some(ApiCall::Reload));
        for (path, close) in [
            ("/apps/3/users/7/terminate_connections", UserClose::Terminate),
            ("/apps/3/users/7/force_reconnect", UserClose::Reconnect),
        ] {
            assert_eq!(call(&Method::POST, path), Some(ApiCall::CloseUser("7".into(), close)));
        }
    }

    #[test]
    fn the_console_has_its_page_its_files_and_its_requests() {
        let path = |method: &Method, path| {
            let Route::Console(path) = route(method, path, "/ws")? else { return None };
            Some(path)
        };
        for (of_path, expected) in [
            ("/ws/console", ConsolePath::Redirect),
            ("/ws/console/", ConsolePath::Asset("".into())),
            ("/ws/console/app.js", ConsolePath::Asset("app.js".into())),
            ("/ws/console/session", ConsolePath::Session),
            ("/ws/console/live", ConsolePath::Live),
        ] {
            assert_eq!(path(&Method::GET, of_path), Some(expected));
            assert_eq!(path(&Method::POST, of_path), None);
        }
        assert_eq!(path(&Method::POST, "/ws/console/login"), Some(ConsolePath::Login));
        assert_eq!(path(&Method::POST, "/ws/console/logout"), Some(ConsolePath::Logout));
        for other in ["/console/", "/ws/console/a/b", "/ws/console/login", "/ws/consolex"] {
            assert_eq!(path(&Method::GET, other), None, "{other}");
        }
    }

    #[test]
    fn unknown_paths_are_not_found() {
        for path in [
            "//",
            "/app",
            "/app/",
            "/app/K/x",
            "/app/K/app/K",
            "/app/resume-T/app",
            "/app/resume-T/app/",
            "/app/resume-T/app/K/x",
            "/app/resume-T/K",
            "/apps/3",
            "/apps/3/",
            "/apps/3/nope",
            "/apps/3/events/x",
            "/pusher/app/K/1/x/xhr_streaming",
            "//apps/3/events",
            "/upx",
        ] {
            assert_eq!(route(&Method::GET, path, ""), None, "{path}");
        }
    }

    #[test]
    fn the_prefix_is_required_by_all_but_the_http_api() {
        assert_eq!(route(&Method::GET, "/ws/up", "/ws"), Some(Route::Up));
        assert_eq!(route(&Method::GET, "/up", "/ws"), None);
        assert_eq!(route(&Method::GET, "/wsx/up", "/ws"), None);
        assert_eq!(route(&Method::GET, "/app/K", "/ws"), None);
        assert_eq!(route(&Method::GET, "/metrics", "/ws"), None);
        let channels = Route::Api { app_id: "3".into(), call: ApiCall::Channels };
        assert_eq!(route(&Method::GET, "/ws/apps/3/channels", "/ws"), Some(channels));
        let channels = Route::Api { app_id: "3".into(), call: ApiCall::Channels };
        assert_eq!(route(&Method::GET, "/apps/3/channels", "/ws"), Some(channels));
        assert_eq!(route(&Method::GET, "/wsapps/3/channels", "/ws"), None);
        assert_eq!(route(&Method::GET, "/other/apps/3/channels", "/ws"), None);
    }

    #[test]
    fn other_methods_are_not_allowed() {
        assert_eq!(call(&Method::GET, "/apps/3/events"), None);
        assert_eq!(call(&Method::POST, "/apps/3/channels"), None);
        assert_eq!(route(&Method::POST, "/up", ""), None);
        let preflight = Route::Preflight { app_id: "3".into(), allowed: "POST" };
        assert_eq!(route(&Method::OPTIONS, "/apps/3/events", ""), Some(preflight));
    }

    #[test]
    fn an_error_quotes_at_most_100_bytes_of_an_unknown_path() {
        let repeated = |path: &str| {
            let error = Route::parse(&Method::GET, path, "/ws").unwrap_err();
            let text = format!("{error:?}");
            let (_, rest) = text.split_once("Nothing at ").unwrap();
            rest.split_once(": the API is under /ws/apps/").unwrap().0.to_owned()
        };
        let path = format!("/{}", "y".repeat(99));
        assert_eq!(repeated(&path), path);
        assert_eq!(repeated(&format!("{path}z")), path);
        // The cut does not split a character.
        let path = format!("/{}", "y".repeat(98));
        assert_eq!(repeated(&format!("{path}\u{e9}")), path);
    }

    #[test]
    fn a_route_has_its_label_for_the_log_and_its_app() {
        for (path, label, app) in [
            ("GET /app/K", "websocket", Some("K")),
            ("GET /", "root", None),
            ("GET /up", "up", None),
            ("GET /ready", "ready", None),
            ("GET /metrics", "metrics", None),
            ("OPTIONS /apps/3/events", "preflight", Some("3")),
            ("POST /apps/3/events", "publish", Some("3")),
            ("POST /apps/3/batch_events", "publish_batch", Some("3")),
            ("GET /apps/3/channels", "channels", Some("3")),
            ("GET /apps/3/channels/a", "channel", Some("3")),
            ("GET /apps/3/channels/a/users", "channel_users", Some("3")),
            ("GET /apps/3/channels/a/history", "channel_history", Some("3")),
            ("GET /apps/3/connections", "connections", Some("3")),
            ("GET /apps/3/activity", "activity", Some("3")),
            ("GET /apps/3/diagnostics", "diagnostics", Some("3")),
            ("POST /apps/3/users/7/terminate_connections", "terminate_user", Some("3")),
            ("POST /apps/3/users/7/force_reconnect", "force_reconnect", Some("3")),
        ] {
            let (method, path) = path.split_once(' ').unwrap();
            let route = route(&method.parse().unwrap(), path, "").unwrap();
            assert_eq!((route.label(), route.app()), (label, app));
            assert_eq!(route.is_publish(), label.starts_with("publish"), "{label}");
        }
        assert_eq!(route(&Method::GET, "/apps/3/users/7/x", ""), None);
        assert_eq!(route(&Method::GET, "/apps/3/channels/", ""), None);
        assert_eq!(route(&Method::GET, "/apps/3/channels/a/x", ""), None);
    }

    /// Method, path and id of each operation of `docs/openapi.yaml`, which is indented by two
    /// spaces for each level.
    fn documented() -> Vec<(Method, String, String)> {
        let (mut path, mut method, mut found) = (String::new(), String::new(), Vec::new());
        for line in include_str!("../../docs/openapi.yaml").lines() {
            let text = line.trim_start();
            match (line.len() - text.len(), text.strip_suffix(':')) {
                (2, Some(key)) => path = key.to_owned(),
                (4, Some(key)) => method = key.to_uppercase(),
                _ => {}
            }
            if let Some(id) = text.strip_prefix("operationId: ") {
                found.push((method.parse().unwrap(), path.clone(), id.to_owned()));
            }
        }
        found
    }

    #[test]
    fn the_openapi_document_has_each_route_and_no_other() {
        let documented = documented();
        let mut labels = BTreeSet::new();
        for (method, path, id) in &documented {
            let path = path.replace(['{', '}'], "");
            let route = Route::parse(method, &path, "").unwrap();
            let of_other_methods = match *method {
                Method::HEAD => "head_",
                Method::OPTIONS => "preflight_",
                _ => "",
            };
            let label = id.strip_prefix(of_other_methods).unwrap();
            if let Route::Preflight { allowed, .. } = route {
                let of_path = |of: &(Method, String, String)| of.0 == *allowed && of.2 == label;
                assert!(documented.iter().any(of_path), "{id}");
            } else {
                assert_eq!(route.label(), label);
            }
            labels.insert(label);
            for other in ["GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"] {
                let other: Method = other.parse().unwrap();
                let is_documented = documented
                    .iter()
                    .any(|(method, of, _)| *method == other && of.replace(['{', '}'], "") == path);
                let is_parsed = Route::parse(&other, &path, "").is_ok();
                assert_eq!(is_parsed, is_documented, "{other} {path}");
            }
        }
        let (_, label) = include_str!("route.rs").split_once("fn label(").unwrap();
        let (label, _) = label.split_once("fn app(").unwrap();
        // The requests of the console are between its page and the server.
        let of_api = |label: &&str| !["preflight", "console"].contains(label);
        let in_source = label.split('"').skip(1).step_by(2).filter(of_api);
        assert_eq!(labels, in_source.collect());
    }
}
