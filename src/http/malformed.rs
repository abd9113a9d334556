//! Responses to requests that the HTTP library can't read.

use super::{
    HttpContext,
    head::{HEADERS_MAX, has_too_many_headers},
    other_protocol::OtherProtocol,
    stream::{HttpStream, lingering_close},
};
use hyper::StatusCode;
use std::{net::SocketAddr, time::Instant};

/// Maximum length of a request target that the HTTP library reads, in bytes.
const TARGET_MAX: usize = 65_534;

impl HttpContext {
    /// Answers and closes a connection that uses another protocol. Logs it occasionally, since the
    /// server, the proxy or the client must be changed.
    pub(super) async fn reject_protocol(
        &self,
        stream: HttpStream,
        other: OtherProtocol,
        peer: SocketAddr,
    ) {
        let advice = other.advice();
        if let Some(connections) = self.protocol_log.count(other, Instant::now()) {
            let protocol = other.name();
            tracing::info!(protocol, %peer, connections, advice, "unsupported protocol");
        }
        let status = StatusCode::BAD_REQUEST;
        if let Some(response) = other.protocol_response() {
            return lingering_close(stream, response).await;
        }
        let response = last_response(status, advice, &self.request_id());
        lingering_close(stream, response.as_bytes()).await;
    }

    /// The response to a request that the HTTP library rejected with `status`; `head` is the part of
    /// the request that was read.
    pub(super) fn malformed_response(
        &self,
        status: StatusCode,
        head: &[u8],
        peer: SocketAddr,
    ) -> String {
        let message = match status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE if has_too_many_headers(head) => {
                format!("A request has at most {HEADERS_MAX} header lines")
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                let max = self.max_head_bytes;
                format!("The head of a request has at most {max} bytes (server.max_head_bytes)")
            }
            StatusCode::URI_TOO_LONG => {
                format!("The path and query of a request have at most {TARGET_MAX} bytes")
            }
            _ => "Malformed HTTP/1.1 request: expected a line such as `GET /path HTTP/1.1`, lines such \
                  as `name: value`, and an empty line"
                .to_owned(),
        };
        let (request_id, address) = (self.request_id(), peer.ip().to_canonical());
        if self.node.should_log_rejection(address, Instant::now()) {
            let (status, error) = (status.as_u16(), message.as_str());
            tracing::info!(request_id, status, %address, error, "request rejected");
        }
        last_response(status, &message, &request_id)
    }
}

/// Formats the last response of a connection.
fn last_response(status: StatusCode, message: &str, request_id: &str) -> String {
    let body = serde_json::json!({"error": message, "code": status.as_u16()}).to_string();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nx-request-id: {request_id}\r\n\r\n{body}",
        body.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_declares_its_length() {
        let response = last_response(StatusCode::URI_TOO_LONG, "say \"é\"", "an-id");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"code":414,"error":"say \"é\""}"#);
        assert_eq!(
            head.split("\r\n").collect::<Vec<_>>(),
            [
                "HTTP/1.1 414 URI Too Long",
                "connection: close",
                "content-type: application/json",
                &format!("content-length: {}", body.len()),
                "x-request-id: an-id",
            ]
        );
    }
}
