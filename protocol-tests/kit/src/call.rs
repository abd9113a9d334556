//! A request of the HTTP API, signed like those of the server SDKs.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::Value;

use crate::{APP_ID, Http, KEY, Reply, SECRET, Server, sign};

/// A request that is being built. It is signed when it is sent, with its content at that time.
#[derive(Clone, Debug)]
pub struct Call {
    method: &'static str,
    path: String,
    signed_path: Option<String>,
    parameters: Vec<(String, String)>,
    signature: Option<String>,
    secret: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Call {
    /// A `GET` of a path under the app.
    pub fn get(path: &str) -> Self {
        Self::new("GET", &format!("/apps/{APP_ID}/{path}"), Bytes::new())
    }

    /// A `POST` of JSON to a path under the app.
    pub fn post(path: &str, body: &Value) -> Self {
        Self::post_text(path, body.to_string())
    }

    /// A `POST` of any bytes to a path under the app.
    pub fn post_text(path: &str, body: impl Into<Bytes>) -> Self {
        Self::new("POST", &format!("/apps/{APP_ID}/{path}"), body)
    }

    /// A request for any path.
    pub fn new(method: &'static str, path: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut parameters = vec![
            ("auth_key".to_owned(), KEY.to_owned()),
            ("auth_timestamp".to_owned(), unix_now().to_string()),
            ("auth_version".to_owned(), "1.0".to_owned()),
        ];
        if !body.is_empty() {
            parameters.push(("body_md5".to_owned(), sign::md5_hex(&body)));
        }
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self {
            method,
            path: path.to_owned(),
            signed_path: None,
            parameters,
            signature: None,
            secret: SECRET.to_owned(),
            headers,
            body,
        }
    }

    /// Sets a parameter of the query, and replaces one of the same name.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        match self.parameters.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.parameters.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes a parameter of the query.
    pub fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self
    }

    /// Reverses the order in which the parameters are sent.
    pub fn reversed(mut self) -> Self {
        self.parameters.reverse();
        self
    }

    /// Signs with another key and secret.
    pub fn credentials(mut self, key: &str, secret: &str) -> Self {
        secret.clone_into(&mut self.secret);
        self.query("auth_key", key)
    }

    /// Sends this signature instead of the correct one.
    pub fn signature(mut self, signature: &str) -> Self {
        self.signature = Some(signature.to_owned());
        self
    }

    /// Signs this path instead of the requested one.
    pub fn signing_path(mut self, path: &str) -> Self {
        self.signed_path = Some(path.to_owned());
        self
    }

    /// Sets a header, and replaces one of the same name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self = self.without_header(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes a header.
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// Replaces the body without updating `body_md5`.
    pub fn with_unsigned_body(mut self, body: &'static str) -> Self {
        self.body = Bytes::from_static(body.as_bytes());
        self
    }

    /// The string that is signed.
    pub fn text(&self) -> String {
        sign::request_text(
            self.method,
            self.signed_path.as_ref().unwrap_or(&self.path),
            &self.parameters,
        )
    }

    /// The correct signature.
    pub fn correct_signature(&self) -> String {
        sign::hmac_hex(&self.secret, &self.text())
    }

    /// The query with its signature, values unescaped.
    pub fn signed_query(&self) -> String {
        let signature = self.signature.clone().unwrap_or_else(|| self.correct_signature());
        let pairs = self.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.chain([format!("auth_signature={signature}")]).collect::<Vec<_>>().join("&")
    }

    /// The request target: path and query.
    pub fn target(&self) -> String {
        format!("{}?{}", self.path, self.signed_query())
    }

    /// Sends the request to a server, on a connection of its own.
    pub async fn send(&self, server: &Server) -> Reply {
        self.send_to(server, &self.target()).await
    }

    /// Sends the request with a custom target.
    pub async fn send_to(&self, server: &Server, target: &str) -> Reply {
        self.send_target_on(&mut Http::connect(server.next_for_a_request()).await, target).await
    }

    /// Sends the request on an existing connection.
    pub async fn send_on(&self, http: &mut Http) -> Reply {
        self.send_target_on(http, &self.target()).await
    }

    /// Sends the request with a custom target on an existing connection.
    pub async fn send_target_on(&self, http: &mut Http, target: &str) -> Reply {
        http.send(self.request(target)).await
    }

    /// The body that is sent.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The bytes of the request, with a `Content-Length`.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head(&[("content-length", &self.body.len().to_string())]);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The bytes of the head, with additional headers; the test sends the body itself.
    pub fn head(&self, more: &[(&str, &str)]) -> Vec<u8> {
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers = header_lines(own.chain(more.iter().copied()));
        format!(
            "{} {} HTTP/1.1\r\nhost: campanile.test\r\n{headers}\r\n",
            self.method,
            self.target()
        )
        .into_bytes()
    }

    fn request(&self, target: &str) -> Request<Full<Bytes>> {
        let request =
            Request::builder().method(self.method).uri(target).header("host", "campanile.test");
        let request =
            self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.body(Full::new(self.body.clone())).expect("the test writes a possible request")
    }
}

/// Header lines of a request.
pub(crate) fn header_lines<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    headers.fold(String::new(), |lines, (name, value)| lines + name + ": " + value + "\r\n")
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}
