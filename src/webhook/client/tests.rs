use super::*;
use crate::{
    http_client::testing::{TestEndpoint, TestReply},
    signature::Signer,
};
use arc_swap::ArcSwap;
use hyper::StatusCode;
use tokio::net::TcpListener;

fn client(url: &str) -> EndpointClient {
    client_with(url, false)
}

fn client_with(url: &str, deny_private: bool) -> EndpointClient {
    let target = Arc::new(Target::parse(url).unwrap());
    let configured = [("x-token".to_owned(), Secret::new("hunter2"))].into();
    let headers = Arc::new(ArcSwap::from_pointee(headers("my-key", &configured)));
    let connector = Connector::new(None, deny_private);
    EndpointClient::new(Arc::new(ArcSwap::from_pointee(connector)), target, headers)
}

/// A client for an endpoint, with secrets in its URL.
fn client_of(server: &TestEndpoint) -> EndpointClient {
    client(&format!("http://{}/hooks?token=hunter2", server.address))
}

fn request() -> WebhookRequest {
    let now = std::time::Instant::now();
    WebhookRequest::new(&Signer::new("secret"), (r#"{"name":"a","channel":"b"}"#, 1), 7, now)
}

#[test]
fn a_url_is_parsed_into_its_target() {
    for (url, origin, path) in [
        ("http://a.test", "http://a.test", "/"),
        ("https://a.test/hooks?t=1", "https://a.test", "/hooks?t=1"),
        ("http://a.test?t=1", "http://a.test", "/?t=1"),
        ("HTTP://[::1]:3000/x", "http://[::1]:3000", "/x"),
    ] {
        let target = Target::parse(url).unwrap();
        assert_eq!((target.origin.to_string().as_str(), target.path.expose()), (origin, path));
    }
    assert!(Target::parse("https://-").is_none());
}

#[tokio::test]
async fn a_request_has_these_headers_and_no_others() {
    let server = TestEndpoint::accepting().await;
    let response = client_of(&server).post(&request()).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (StatusCode::OK, &b"ok"[..]));
    let request = server.requests.lock().unwrap()[0].1.clone();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, r#"{"time_ms":7,"events":[{"name":"a","channel":"b"}]}"#);
    let (line, fields) = head.split_once("\r\n").unwrap();
    assert_eq!(line, "POST /hooks?token=hunter2 HTTP/1.1");
    let mut fields: Vec<_> = fields.split("\r\n").map(ToOwned::to_owned).collect();
    fields.sort();
    let expected = [
        format!("Content-Length: {}", body.len()),
        "Content-Type: application/json".to_owned(),
        format!("Host: {}", server.address),
        format!("User-Agent: campanile/{}", env!("CARGO_PKG_VERSION")),
        "X-Pusher-Key: my-key".to_owned(),
        format!("X-Pusher-Signature: {}", Signer::new("secret").sign(body)),
        "X-Token: hunter2".to_owned(),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn a_configured_header_is_hidden_and_replaces_none_of_the_own() {
    let names = ["content-type", "x-pusher-key", "user-agent", "x-a"];
    let configured = names.map(|name| (name.to_owned(), Secret::new("hunter2"))).into();
    let headers = headers("my-key", &configured);
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-pusher-key", "my-key"),
        ("user-agent", "hunter2"),
        ("x-a", "hunter2"),
    ] {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
        assert_eq!(values[0].is_sensitive(), value == "hunter2", "{name}");
    }
}

/// Logged errors contain neither path nor query nor headers, for any response of the endpoint.
#[tokio::test]
async fn errors_contain_no_secret() {
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(256 * 1_024));
    let responses = ["", "hunter2 hunter2\r\n\r\n", "HTTP/1.1 200 OK\r\nhunter2\r\n\r\n", &long];
    for response in responses.map(|text| text.as_bytes().to_vec()) {
        let server = TestEndpoint::new(move |_| TestReply::Close(response.clone())).await;
        let error = client_of(&server).post(&request()).await.unwrap_err();
        assert!(matches!(error, HttpError::Http(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("no response: ") && !text.contains("hunter2"), "{text}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = free.local_addr().unwrap();
    drop(free);
    for (url, expected) in [
        (format!("http://{closed}/hunter2?t=hunter2"), "cannot connect: "),
        ("http://unknown.invalid/hunter2?t=hunter2".to_owned(), "cannot resolve the host: "),
        (
            format!("https://{}/hunter2", TestEndpoint::accepting().await.address),
            "TLS handshake failed: ",
        ),
    ] {
        let mut client = client(&url);
        let error = client.post(&request()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(expected) && !text.contains("hunter2"), "{text}");
        assert!(!format!("{error:?}{client:?}").contains("hunter2"), "{error:?}");
    }
    let denied = client_with("http://127.0.0.1:9/hunter2", true).post(&request()).await;
    let expected = "127.0.0.1 is not on the public internet, and webhooks.deny_private is set";
    assert_eq!(denied.unwrap_err().to_string(), expected);
}
