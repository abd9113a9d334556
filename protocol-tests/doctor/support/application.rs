//! A stand-in for the application: its page, and its authentication endpoint with one mistake or none.

use std::net::SocketAddr;
use std::sync::Arc;

use kit::{KEY, SECRET, sign};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the application does with a request to its authentication endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Auth {
    /// It signs requests with the cookie and the token of the page, as Laravel does.
    Right,
    /// It rejects users whom it knows.
    Forbidden,
    /// Its page has no token, so that requests of the page get 419.
    NoToken,
    /// The route does not exist.
    NoRoute,
    /// It redirects guests to the page for logging in.
    RedirectsToLogin,
    /// It signs with another secret.
    OtherSecret,
    /// It signs with another key.
    OtherKey,
    /// It answers with a page in place of JSON.
    Page,
    /// It lets pages of this other origin use it.
    AllowsOrigin,
    /// It answers guests with 401.
    Unauthorized,
    /// As Laravel with Sanctum: the token is in a cookie, and the page has none.
    Sanctum,
    /// It signs presence channels without saying who the member is.
    NoMember,
    /// It signs, and answers with a warning before the JSON.
    Warning,
    /// It answers with the signature without its key.
    WithoutKey,
    /// It is not Laravel, and rejects users whom it knows.
    NodeForbidden,
    /// It is not Laravel: no token, a path with a slash and a query, and CORS for its answers only.
    Node,
}

/// A running application.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) address: SocketAddr,
}

/// The session of the user that has logged in.
pub(crate) const SESSION: &str = "laravel_session=of-ann";
const TOKEN: &str = "token-of-the-page";

struct Request {
    method: String,
    path: String,
    head: String,
    body: String,
}

impl Application {
    pub(crate) async fn start(auth: Auth) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let auth = Arc::new(auth);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let auth = Arc::clone(&auth);
                tokio::spawn(async move { serve(stream, *auth).await });
            }
        });
        Self { address }
    }

    /// The page of the application.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The authentication endpoint.
    pub(crate) fn auth_endpoint(&self) -> String {
        format!("http://{}/broadcasting/auth", self.address)
    }
}

/// Answers one request. A client that goes away is no failure of the application.
async fn serve(mut stream: TcpStream, auth: Auth) {
    let Some(request) = read(&mut stream).await else { return };
    let (status, headers, body) = answer(&request, auth);
    let powered = if is_node(auth) { "" } else { "X-Powered-By: PHP/8.3.0\r\n" };
    let text = format!(
        "HTTP/1.1 {status} Status\r\n{powered}Content-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    );
    let _client_is_gone = stream.write_all(text.as_bytes()).await;
}

/// Whether the application is not one of PHP.
fn is_node(auth: Auth) -> bool {
    [Auth::Node, Auth::NodeForbidden].contains(&auth)
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                header(head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
            if length <= body.len() {
                let mut words = head.split(' ').map(str::to_owned);
                let (method, path) = (words.next()?, words.next()?);
                return Some(Request {
                    method,
                    path,
                    head: head.to_owned(),
                    body: body.to_owned(),
                });
            }
        }
        if stream.read_buf(&mut received).await.ok()? == 0 {
            return None;
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

fn answer(request: &Request, auth: Auth) -> (u16, String, String) {
    let html = "Content-Type: text/html\r\n".to_owned();
    match (request.path.as_str(), request.method.as_str()) {
        ("/", _) => {
            let token = if is_node(auth) || [Auth::NoToken, Auth::Sanctum].contains(&auth) {
                String::new()
            } else {
                format!(r#"<meta name="csrf-token" content="{TOKEN}">"#)
            };
            let page = format!("<!doctype html><head>{token}</head><h1>Application</h1>");
            let sets_cookie = !is_node(auth);
            let cookie =
                if sets_cookie { "Set-Cookie: XSRF-TOKEN=x%3D%3D; path=/\r\n" } else { "" };
            (200, format!("{html}{cookie}"), page)
        }
        ("/broadcasting/auth", "OPTIONS") if auth == Auth::AllowsOrigin => {
            (204, allowed_origin(request), String::new())
        }
        ("/pusher/auth/?tenant=1", "POST") if auth == Auth::Node => authorize(request, auth),
        ("/broadcasting/auth", "POST") if auth != Auth::NoRoute => authorize(request, auth),
        _ => (404, html, "<!doctype html><title>Not Found</title><!-- laravel -->".to_owned()),
    }
}

fn allowed_origin(request: &Request) -> String {
    let origin = header(&request.head, "origin").unwrap_or("null");
    format!(
        "Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n\
         Access-Control-Allow-Methods: POST\r\nAccess-Control-Allow-Headers: x-csrf-token, authorization, content-type\r\n"
    )
}

fn authorize(request: &Request, auth: Auth) -> (u16, String, String) {
    let json = "Content-Type: application/json\r\n".to_owned();
    let has_session =
        header(&request.head, "cookie").is_some_and(|cookie| cookie.contains(SESSION));
    if auth == Auth::RedirectsToLogin && !has_session {
        return (302, "Location: /login\r\n".to_owned(), String::new());
    }
    if auth == Auth::Unauthorized && !has_session {
        return (401, json, json!({"message": "Unauthenticated."}).to_string());
    }
    let (name, token) =
        if auth == Auth::Sanctum { ("x-xsrf-token", "x==") } else { ("x-csrf-token", TOKEN) };
    let has_token = is_node(auth) || header(&request.head, name) == Some(token);
    if !has_token {
        return (419, json, json!({"message": "CSRF token mismatch."}).to_string());
    }
    if auth == Auth::NodeForbidden {
        return (403, json, json!({"error": "not yours"}).to_string());
    }
    if !has_session && auth != Auth::Node || auth == Auth::Forbidden {
        return (403, json, json!({"message": ""}).to_string());
    }
    if auth == Auth::Page {
        return (
            200,
            "Content-Type: text/html\r\n".to_owned(),
            "<!doctype html><div id=app>".to_owned(),
        );
    }
    let fields: Vec<(String, String)> =
        form_urlencoded::parse(request.body.as_bytes()).into_owned().collect();
    let field = |name: &str| {
        let found = fields.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let (key, secret) = credentials(auth);
    let channel = field("channel_name");
    let has_member = channel.starts_with("presence-") && auth != Auth::NoMember;
    let data = has_member.then_some(r#"{"user_id":"7","user_info":{}}"#);
    let signed = sign::channel_auth(key, secret, &field("socket_id"), &channel, data);
    let mut body = json!({"auth": signed});
    if let Some(data) = data {
        body["channel_data"] = data.into();
    }
    if auth == Auth::WithoutKey {
        body["auth"] = signed.rsplit(':').next().expect("there is a last part").into();
    }
    if auth == Auth::Warning {
        return (200, json, format!("<br />Warning: an array is no text\n{body}"));
    }
    let cors = if [Auth::AllowsOrigin, Auth::Node].contains(&auth) {
        allowed_origin(request)
    } else {
        String::new()
    };
    (200, format!("{json}{cors}"), body.to_string())
}

/// The key and the secret that the application signs with.
fn credentials(auth: Auth) -> (&'static str, &'static str) {
    match auth {
        Auth::OtherSecret => (KEY, "the-secret-of-another-app"),
        Auth::OtherKey => ("another-key", "the-secret-of-another-app"),
        Auth::Right
        | Auth::Forbidden
        | Auth::NoToken
        | Auth::NoRoute
        | Auth::RedirectsToLogin
        | Auth::Page
        | Auth::AllowsOrigin
        | Auth::Unauthorized
        | Auth::Sanctum
        | Auth::NoMember
        | Auth::Warning
        | Auth::WithoutKey
        | Auth::NodeForbidden
        | Auth::Node => (KEY, SECRET),
    }
}
