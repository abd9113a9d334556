//! The console's page, as far as a test needs it: a session, and the WebSocket.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::call::header_lines;
use crate::{Client, Http, RawHttp, Reply, upgrade_request};

/// The origin of a page that the kit's requests are from: that of their `Host`.
pub const ORIGIN: &str = "http://campanile.test";

/// A session of the console.
#[derive(Clone, Debug)]
pub struct ConsoleSession {
    /// The server.
    pub address: SocketAddr,
    /// The cookie, as a browser sends it.
    pub cookie: String,
    /// The token against forged requests.
    pub csrf: String,
    /// What the server told about the session.
    pub described: Value,
    /// The `Host` of its requests.
    pub host: &'static str,
}

/// An open WebSocket of a page.
#[derive(Debug)]
pub struct ConsolePage {
    client: Client,
    next_id: u64,
}

/// Sends a request with this `Host` and these headers to a path below `/console/`.
pub async fn console_request(
    address: SocketAddr,
    host: &str,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let mut http = RawHttp::connect(address).await;
    let lines = header_lines(headers.iter().copied());
    let length = body.len();
    http.write(format!(
        "{method} /console/{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{lines}\r\n{body}"
    ))
    .await;
    http.reply().await
}

/// Tries to log in.
pub async fn console_login(address: SocketAddr, app: Option<&str>, password: &str) -> Reply {
    let headers = [("origin", ORIGIN), ("content-type", "application/json")];
    let body = json!({"app": app, "password": password}).to_string();
    console_request(address, "campanile.test", ("POST", "login"), &headers, &body).await
}

impl ConsoleSession {
    /// Logs in: with the password of the server, or that of an app.
    pub async fn log_in(address: SocketAddr, app: Option<&str>, password: &str) -> Self {
        Self::of_reply(address, "campanile.test", &console_login(address, app, password).await)
    }

    /// The session of a server that needs no password.
    pub async fn open(address: SocketAddr) -> Self {
        let reply = console_request(address, "localhost", ("GET", "session"), &[], "").await;
        Self::of_reply(address, "localhost", &reply)
    }

    fn of_reply(address: SocketAddr, host: &'static str, reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{reply}");
        let cookie = reply.header("set-cookie").expect("a new session has a cookie");
        let cookie = cookie.split(';').next().expect("a cookie has a value").to_owned();
        let described = reply.json();
        let csrf = described["csrf"].as_str().expect("csrf is a string").to_owned();
        Self { address, cookie, csrf, described, host }
    }

    /// The answer to a request of the session.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let own = [("cookie", self.cookie.as_str())];
        let headers: Vec<_> = own.into_iter().chain(headers.iter().copied()).collect();
        console_request(self.address, self.host, (method, path), &headers, "").await
    }

    /// The answer to the handshake of the WebSocket, with these values.
    pub async fn handshake(&self, origin: &str, csrf: &str) -> (Reply, RawHttp) {
        let protocol = format!("campanile-console.{csrf}");
        let headers = [
            ("Origin", origin),
            ("Cookie", &self.cookie),
            ("Sec-WebSocket-Protocol", protocol.as_str()),
        ];
        let request = upgrade_request("/console/live", &headers)
            .replace("Host: campanile.test", &format!("Host: {}", self.host));
        let mut http = RawHttp::connect(self.address).await;
        http.write(request).await;
        let reply = http.reply().await;
        (reply, http)
    }

    /// Opens the WebSocket.
    pub async fn page(&self) -> ConsolePage {
        let (reply, http) = self.handshake(&format!("http://{}", self.host), &self.csrf).await;
        assert_eq!(reply.status, 101, "{reply}");
        ConsolePage { client: Client::over(http), next_id: 1 }
    }
}

impl ConsolePage {
    /// Sends a request; returns its id.
    async fn send(&mut self, kind: &str, value: Value, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.client.send(json!({"id": id, kind: value, "params": params})).await;
        id
    }

    /// The result of a request, or its error. Data of watches before it is skipped.
    async fn answer(&mut self, id: u64) -> Result<Value, String> {
        loop {
            let message = self.client.next().await;
            if message["id"] == id {
                return match message["error"].as_str() {
                    Some(error) => Err(error.to_owned()),
                    None => Ok(message["result"].clone()),
                };
            }
        }
    }

    /// The result of a call, or its error.
    pub async fn try_call(&mut self, name: &str, params: Value) -> Result<Value, String> {
        let id = self.send("call", name.into(), params).await;
        self.answer(id).await
    }

    /// The result of a call.
    pub async fn call(&mut self, name: &str, params: Value) -> Value {
        let result = self.try_call(name, params).await;
        result.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Starts to watch something. Returns the id of the watch and its first state, or the error.
    pub async fn try_watch(&mut self, name: &str, params: Value) -> Result<(u64, Value), String> {
        let id = self.send("watch", name.into(), params).await;
        self.answer(id).await.map(|state| (id, state))
    }

    /// Starts to watch something. Returns the id of the watch and its first state.
    pub async fn watch(&mut self, name: &str, params: Value) -> (u64, Value) {
        let result = self.try_watch(name, params).await;
        result.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Ends a watch.
    pub async fn unwatch(&mut self, watch: u64) {
        let id = self.send("unwatch", watch.into(), Value::Null).await;
        self.answer(id).await.expect("a watch can be ended");
    }

    /// The next data of a watch.
    pub async fn data(&mut self, watch: u64) -> Value {
        loop {
            let message = self.client.next().await;
            if message["watch"] == watch {
                return message["data"].clone();
            }
        }
    }

    /// The next data of a watch that is `wanted`.
    pub async fn data_where(&mut self, watch: u64, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let data = self.data(watch).await;
            if wanted(&data) {
                return data;
            }
        }
    }

    /// Whether data of a watch that is `wanted` arrives within a tenth of a second.
    pub async fn saw(&mut self, watch: u64, wanted: impl Fn(&Value) -> bool) -> bool {
        let within = Duration::from_millis(100);
        tokio::time::timeout(within, self.data_where(watch, wanted)).await.is_ok()
    }

    /// Sends a text that is no request, and returns the error.
    pub async fn garbage(&mut self, text: &str) -> Value {
        self.client.text(text).await;
        self.client.next().await
    }

    /// Waits until the server closes the WebSocket; returns the code and the reason.
    pub async fn closed(&mut self) -> (u16, String) {
        self.client.closed_eventually().await
    }
}

/// Requests a file of the page.
pub async fn console_file(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Reply {
    Http::plain(address, "GET", path, headers).await
}
