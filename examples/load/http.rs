//! A client of the HTTP API.

use crate::{
    failure::Failure,
    number::{index, now_s},
    payload::{self, Stamp},
    target::Target,
    wire,
};
use campanile::signature::{Signer, body_md5, request_string_to_sign};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Encodes signed requests.
#[derive(Debug)]
pub(crate) struct Requests {
    target: Target,
    signer: Signer,
    body: Vec<u8>,
}

/// A complete response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The size of the response, head and body, in bytes.
    pub(crate) bytes: usize,
    /// Whether the server closes the connection after the response.
    pub(crate) closes: bool,
}

impl Requests {
    /// An encoder of requests to one server.
    pub(crate) fn new(target: &Target) -> Self {
        Self { target: target.clone(), signer: target.signer(), body: Vec::new() }
    }

    /// Appends the request that publishes one event to one channel.
    pub(crate) fn push_event(
        &mut self,
        to: &mut Vec<u8>,
        node: usize,
        channel: &str,
        stamp: Stamp,
        payload_bytes: usize,
    ) {
        self.body.clear();
        self.body.extend_from_slice(br#"{"name":"load","channel":""#);
        self.body.extend_from_slice(channel.as_bytes());
        self.body.extend_from_slice(br#"","data":""#);
        payload::push_escaped(&mut self.body, stamp, payload_bytes);
        self.body.extend_from_slice(br#""}"#);
        let md5 = body_md5(&self.body);
        let path = format!("/apps/{}/events", self.target.app_id);
        let query = self.query("POST", &path, Some(md5));
        let url = self.target.url(node);
        let head = format!(
            "POST {}{path}?{query} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            url.prefix,
            url.host,
            self.body.len()
        );
        to.extend_from_slice(head.as_bytes());
        to.extend_from_slice(&self.body);
    }

    /// The signed query of a request.
    fn query(&self, method: &str, path: &str, md5: Option<String>) -> String {
        let mut parameters = vec![
            ("auth_key".to_owned(), self.target.key.clone()),
            ("auth_timestamp".to_owned(), now_s().to_string()),
            ("auth_version".to_owned(), "1.0".to_owned()),
        ];
        parameters.extend(md5.map(|md5| ("body_md5".to_owned(), md5)));
        let text = request_string_to_sign(method, path, &parameters);
        let signature = self.signer.sign(&text);
        // The signed text consists of method, path and query, each on a line; the query is last.
        let query = text.rsplit('\n').next().unwrap_or_default();
        format!("{query}&auth_signature={signature}")
    }

    /// Whether node `node` reports the channel as occupied.
    pub(crate) fn is_occupied(&self, node: usize, channel: &str) -> Result<bool, Failure> {
        let path = format!("/apps/{}/channels/{channel}", self.target.app_id);
        let query = self.query("GET", &path, None);
        let url = self.target.url(node);
        let head = format!(
            "GET {}{path}?{query} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            url.prefix, url.host
        );
        let ask = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect_timeout(&url.address, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.write_all(head.as_bytes())?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = ask().map_err(Failure::io("ask the HTTP API"))?;
        let text = String::from_utf8_lossy(&bytes);
        if !text.starts_with("HTTP/1.1 200") {
            let line = text.lines().next().unwrap_or_default();
            return Err(Failure::Server(format!("asked about a channel, it said: {line}")));
        }
        Ok(text.contains(r#""occupied":true"#))
    }
}

/// The response at the beginning of `bytes`, or `None` if it is incomplete.
pub(crate) fn answer(bytes: &[u8]) -> Result<Option<Answer>, Failure> {
    let Some(head_bytes) = wire::position(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..head_bytes]).to_ascii_lowercase();
    let wrong = || Failure::Server(format!("an answer that is no HTTP: {head}"));
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    let header = |name: &str| {
        let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
    };
    let body = &bytes[head_bytes + 4..];
    let body_bytes = if header("transfer-encoding") == Some("chunked") {
        wire::position(body, b"0\r\n\r\n").map(|at| at + 5)
    } else {
        let length = header("content-length").map_or(Some(0), |text| text.parse::<u64>().ok());
        let length = index(length.ok_or_else(wrong)?);
        (length <= body.len()).then_some(length)
    };
    let closes = header("connection") == Some("close") || head.starts_with("http/1.0");
    Ok(body_bytes.map(|length| Answer { status, bytes: head_bytes + 4 + length, closes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_seen_when_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        for cut in 0..text.len() {
            assert!(answer(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let whole = Answer { status: 200, bytes: text.len(), closes: false };
        assert_eq!(answer(text).unwrap(), Some(whole));
        let text = b"HTTP/1.1 413 X\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        let whole = Answer { status: 413, bytes: text.len(), closes: true };
        assert_eq!(answer(text).unwrap(), Some(whole));
        assert!(answer(b"SSH-2.0\r\n\r\n").is_err());
    }
}
