use super::{
    testing::{TestEndpoint, TestReply, ok},
    *,
};
use arc_swap::ArcSwap;

const TIMEOUTS: HttpTimeouts =
    HttpTimeouts { head: Duration::from_secs(10), body: Duration::from_secs(1) };

fn client_with(server: &TestEndpoint, timeouts: HttpTimeouts) -> HttpClient {
    let origin = Origin::from_uri(&format!("http://{}", server.address).parse().unwrap()).unwrap();
    HttpClient::new(
        Arc::new(ArcSwap::from_pointee(Connector::new(None, false))),
        Arc::new(origin),
        timeouts,
    )
}

fn client(server: &TestEndpoint) -> HttpClient {
    client_with(server, TIMEOUTS)
}

fn request() -> Request<Full<Bytes>> {
    Request::post("/").body(Full::new(Bytes::from_static(br#"{"a":[{}]}"#))).unwrap()
}

#[tokio::test]
async fn every_status_is_an_answer() {
    for status in [200, 204, 302, 400, 500, 599] {
        let head =
            format!("HTTP/1.1 {status} x\r\nLocation: http://a\r\nContent-Length: 0\r\n\r\n");
        let server = TestEndpoint::new(move |_| TestReply::Keep(head.clone().into_bytes())).await;
        assert_eq!(client(&server).send(request()).await.unwrap().status, status);
        assert_eq!(server.connections().len(), 1, "a redirect is not followed");
    }
}

/// The clock is paused from when the endpoint has the request, so that only the timeout can happen.
#[tokio::test]
async fn a_request_without_an_answer_times_out_after_ten_seconds() {
    for part in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let server = TestEndpoint::new(move |_| TestReply::Keep(part.as_bytes().to_vec())).await;
        let mut client = client(&server);
        let start = Instant::now();
        let posted = tokio::spawn(async move { client.send(request()).await });
        server.has_read(1).await;
        let read = Instant::now();
        time::pause();
        let error = posted.await.unwrap().unwrap_err();
        let ended = Instant::now();
        time::resume();
        assert!(matches!(error, HttpError::Timeout(_)), "{error:?}");
        assert_eq!(error.to_string(), "no response within 10s");
        // The timeout started between `start` and `read`; a timer is up to 2 ms late.
        let seconds = Duration::from_secs(10);
        assert!(start + seconds <= ended && ended <= read + seconds + Duration::from_millis(2));
    }
}

/// The timeout of the head is not that of the body.
#[tokio::test]
async fn an_answer_whose_body_does_not_end_counts_after_the_timeout_of_the_body() {
    let timeouts =
        HttpTimeouts { head: Duration::from_secs(1), body: Duration::from_millis(1_500) };
    let head = b"HTTP/1.1 201 OK\r\nContent-Length: 100\r\n\r\nbegin";
    let server = TestEndpoint::new(|_| TestReply::Keep(head.to_vec())).await;
    let mut client = client_with(&server, timeouts);
    let start = Instant::now();
    let response = client.send(request()).await.unwrap();
    assert_eq!((response.status.as_u16(), &response.body[..]), (201, &b"begin"[..]));
    assert!(!response.is_complete);
    assert!(timeouts.body <= start.elapsed(), "{:?}", start.elapsed());
    client.send(request()).await.unwrap();
    assert_eq!(server.connections(), [0, 1], "the rest of the body is not taken for a response");
}

#[tokio::test]
async fn a_connection_is_reused_unless_its_answer_is_larger_than_64_kib() {
    const MOST: usize = 64 * 1_024;
    for (bytes, connections) in [(MOST, [0, 0]), (MOST + 1, [0, 1])] {
        let server = TestEndpoint::new(move |_| TestReply::Keep(ok(&vec![b'x'; bytes]))).await;
        let mut client = client(&server);
        for _ in 0..2 {
            let response = client.send(request()).await.unwrap();
            assert_eq!((response.body.len(), response.is_complete), (MOST, bytes == MOST));
        }
        assert_eq!(server.connections(), connections, "{bytes}");
    }
}

#[tokio::test]
async fn a_connection_is_used_for_a_minute_at_most_and_not_after_idling() {
    let server = TestEndpoint::accepting().await;
    let mut client = client(&server);
    client.send(request()).await.unwrap();
    for _ in 0..2 {
        time::pause();
        time::advance(Duration::from_secs(29)).await;
        time::resume();
        client.send(request()).await.unwrap();
    }
    time::pause();
    time::advance(Duration::from_secs(3)).await;
    time::resume();
    client.send(request()).await.unwrap();
    client.close();
    client.send(request()).await.unwrap();
    // A reload resolves the name and checks its addresses again.
    client.connector.store(Arc::new(Connector::new(None, false)));
    client.send(request()).await.unwrap();
    assert_eq!(server.connections(), [0, 0, 0, 1, 2, 3]);
}

#[tokio::test]
async fn a_connection_that_the_endpoint_has_closed_meanwhile_is_replaced() {
    let server = TestEndpoint::new(|at| {
        if at == 0 { TestReply::Close(ok(b"")) } else { TestReply::Keep(ok(b"")) }
    })
    .await;
    let mut client = client(&server);
    for _ in 0..2 {
        assert!(client.send(request()).await.is_ok());
    }
    assert_eq!(server.connections(), [0, 1]);
}

/// The server has received the request, so it must not be sent again.
#[tokio::test]
async fn a_request_with_an_invalid_answer_is_not_repeated() {
    for invalid in ["HTTP/1.1 2x0 OK\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n"] {
        let server = TestEndpoint::new(move |at| {
            TestReply::Keep(if at == 0 { ok(b"") } else { invalid.as_bytes().to_vec() })
        })
        .await;
        let mut client = client(&server);
        client.send(request()).await.unwrap();
        let error = client.send(request()).await.unwrap_err();
        assert!(matches!(error, HttpError::Http(_)), "{error:?}");
        assert_eq!(server.connections(), [0, 0], "{invalid}");
    }
}

/// A response may end with its connection.
#[tokio::test]
async fn a_connection_that_the_server_will_close_is_not_reused() {
    for head in ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"] {
        let server = TestEndpoint::new(move |_| TestReply::Close(head.as_bytes().to_vec())).await;
        let mut client = client(&server);
        for _ in 0..2 {
            let response = client.send(request()).await.unwrap();
            assert!(response.status == 200 && response.is_complete);
        }
        assert_eq!(server.connections(), [0, 1], "{head}");
    }
}

/// Also if the connection is driven by another thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_one_after_the_other_use_one_connection() {
    let server = TestEndpoint::accepting().await;
    let mut client = client(&server);
    for _ in 0..200 {
        client.send(request()).await.unwrap();
    }
    assert_eq!(server.connections(), [0; 200]);
}

/// An open connection to an address that is denied from now on is not used again.
#[tokio::test]
async fn a_reloaded_address_filter_applies_to_the_next_request() {
    let server = TestEndpoint::accepting().await;
    let mut client = client(&server);
    client.send(request()).await.unwrap();
    client.connector.store(Arc::new(Connector::new(None, true)));
    let error = client.send(request()).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(ConnectError::Private(_))), "{error:?}");
    client.connector.store(Arc::new(Connector::new(None, false)));
    client.send(request()).await.unwrap();
    assert_eq!(server.connections(), [0, 1]);
}
