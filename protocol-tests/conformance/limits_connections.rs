//! The limits of connections and messages: rates, the number of HTTP connections, and timeouts.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use kit::{
    Call, Client, Frame, Http, KEY, RawHttp, Server, Settings, frames, upgrade_request, within,
};

use crate::Start as _;

fn target() -> String {
    format!("/app/{KEY}?protocol=7")
}

async fn stream_from(server: &Server, address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("there are sockets");
    socket.bind(address.parse().expect("an address")).expect("loopback has many addresses");
    within("a TCP connection", socket.connect(server.address)).await.expect("the server listens")
}

async fn client_from(server: &Server, address: &str) -> Client {
    Client::upgrade(stream_from(server, address).await, &target(), &[]).await.0
}

// New connections

#[tokio::test]
async fn new_connections_per_second_per_ip_closes_with_4100_per_address() {
    let server = limited_new_connections().start().await;
    let mut first = client_from(&server, "127.0.0.1:0").await;
    first.established().await;
    client_from(&server, "127.0.0.1:0").await.established().await;
    let sentence = client_from(&server, "127.0.0.1:0").await.rejected(4100).await;
    assert!(sentence.contains("new connections"), "{sentence}");
    client_from(&server, "127.0.0.2:0").await.established().await;
    first.ping_barrier().await;
    // The limit is per second, so the test waits.
    tokio::time::sleep(Duration::from_secs(1)).await;
    client_from(&server, "127.0.0.1:0").await.established().await;
}

#[tokio::test]
async fn new_connections_per_second_per_ip_counts_rejected_clients() {
    let server = limited_new_connections().start().await;
    for _ in 0..2 {
        server.open("/app/nope").await.rejected(4001).await;
    }
    server.open("/app/nope").await.rejected(4100).await;
}

#[tokio::test]
async fn new_connections_per_second_per_ip_answers_429_with_retry_after() {
    let server = limited_new_connections().start().await;
    let call = Call::get("channels");
    let mut kept = Http::connect(server.address).await;
    for _ in 0..20 {
        assert_eq!(call.send_on(&mut kept).await.status, 200, "a kept-alive connection is not new");
    }
    assert_eq!(call.send(&server).await.status, 200);
    let mut http = RawHttp::connect(server.address).await;
    http.write(call.bytes()).await;
    let rejected = http.reply().await;
    let sentence = rejected.error(429);
    assert!(sentence.contains("new_connections_per_second_per_ip"), "{sentence}");
    assert_eq!(rejected.header("retry-after"), Some("1"), "{rejected}");
    http.ended().await;
    for probe in ["/up", "/ready"] {
        assert_eq!(Http::plain(server.address, "GET", probe, &[]).await.status, 200);
    }
    assert_eq!(call.send_on(&mut kept).await.status, 200);
}

#[tokio::test]
async fn new_connections_per_second_per_ip_counts_the_client_behind_a_listed_proxy() {
    let server =
        limited_new_connections().server("trusted_proxies", r#"["127.0.0.1"]"#).start().await;
    let from = async |address: &str| {
        let headers = [("X-Forwarded-For", address)];
        server.open_with(&target(), &headers).await
    };
    for address in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
        for _ in 0..2 {
            from(address).await.established().await;
        }
        from(address).await.rejected(4100).await;
    }
    from("2001:db8::2").await.rejected(4100).await;
    from("2001:db8:0:1::1").await.established().await;
    let headers = [("X-Forwarded-For", "192.0.2.1")];
    Http::plain(server.address, "GET", "/metrics", &headers).await.error(429);
}

#[tokio::test]
async fn a_forged_x_forwarded_for_does_not_hide_the_proxys_entry() {
    let server =
        limited_new_connections().server("trusted_proxies", r#"["127.0.0.1"]"#).start().await;
    let status = async |lines: &[u8]| {
        let mut http = RawHttp::connect(server.address).await;
        http.write([b"GET /metrics HTTP/1.1\r\nhost: x\r\n", lines, b"\r\n"].concat()).await;
        http.reply().await.status
    };
    for _ in 0..2 {
        assert_eq!(status(b"x-forwarded-for: \xff\xfe, 192.0.2.1\r\n").await, 404);
        assert_eq!(status(b"x-forwarded-for: \xff\r\nx-forwarded-for: 192.0.2.2\r\n").await, 404);
    }
    for lines in [
        &b"x-forwarded-for: nonsense, 192.0.2.1\r\n"[..],
        b"x-forwarded-for: 198.51.100.1\r\nx-forwarded-for: 192.0.2.1:4711\r\n",
        b"x-forwarded-for: \xff, 192.0.2.2\r\n",
    ] {
        assert_eq!(status(lines).await, 429, "{}", String::from_utf8_lossy(lines));
    }
}

// Connections that are not upgraded

#[tokio::test]
async fn max_http_connections_evicts_silent_connections_for_new_ones() {
    const MAX: usize = 10;
    let settings = Settings::new()
        .server("max_http_connections", MAX)
        // Otherwise, this timeout would close the connections.
        .server("request_timeout_s", 60);
    let server = settings.start().await;
    let mut settled = server.client().await;
    // A request in progress: its body is incomplete.
    let call = Call::post("events", &json!({ "name": "e", "channel": "a", "data": "1" }));
    let mut busy = RawHttp::connect(server.address).await;
    busy.write(call.head(&[("content-length", &call.body().len().to_string())])).await;
    busy.write(&call.body()[..1]).await;
    let mut silent = Vec::new();
    for beginning in (0..MAX * 3).map(|number| if number % 2 == 0 { "" } else { "GET / HT" }) {
        let mut http = RawHttp::connect(server.address).await;
        http.write(beginning).await;
        silent.push(http);
    }
    for _ in 0..3 {
        let mut client = server.client().await;
        client.ping_barrier().await;
        server.publish("a", "e", "1").await;
    }
    // The oldest connections are closed in order, without an answer.
    for http in silent.drain(..MAX) {
        let (mut stream, mut received) = http.into_parts();
        // A reset counts as the end.
        let _end = within("the oldest to go", stream.read_to_end(&mut received)).await;
        assert_eq!(received, b"");
    }
    busy.write(&call.body()[1..]).await;
    assert_eq!(busy.reply().await.status, 200, "a request in progress stays open");
    settled.ping_barrier().await;
}

#[tokio::test]
async fn max_http_connections_evicts_idle_kept_alive_connections() {
    let server = Settings::new().server("max_http_connections", 2).start().await;
    let mut resting = Vec::new();
    for _ in 0..2 {
        let mut http = RawHttp::connect(server.address).await;
        http.write("GET /up HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(http.reply().await.status, 200);
        resting.push(http);
    }
    let reply = Http::plain(server.address, "GET", "/up", &[]).await;
    assert_eq!(reply.status, 200);
    resting[0].ended().await;
}

#[tokio::test]
async fn max_http_connections_counts_rejected_clients_until_they_are_closed() {
    let server = Settings::new().server("max_http_connections", 1).start().await;
    let mut rejected = server.open("/app/nope").await;
    assert_eq!(rejected.error().await.0, 4001);
    let mut next = RawHttp::connect(server.address).await;
    next.write("GET /up HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(matches!(rejected.frame().await, Some(Frame::Close(4001, _))));
    let begun = Instant::now();
    // The client does not answer the close frame, so the permit is released at the closing timeout.
    assert_eq!(next.reply().await.status, 200);
    assert!(Duration::from_secs(1) < begun.elapsed());
}

// Messages

#[tokio::test]
async fn max_messages_per_second_drops_then_closes() {
    let server = few_messages(10).start().await;
    let (mut flood, mut other) = (server.client().await, server.client().await);
    flood.subscribe("private-a").await;
    other.subscribe("private-a").await;
    let event = frames::text(r#"{"event":"client-x","channel":"private-a","data":"1"}"#);
    // The burst is eleven: ten per second, and one for the single allowed channel. One is spent on the subscription.
    flood.bytes(event.repeat(10)).await;
    for _ in 0..10 {
        other.expect_event("private-a", "client-x", "1").await;
    }
    flood.bytes(event.repeat(30)).await;
    let mut errors = 0;
    let code = loop {
        match flood.frame().await {
            Some(Frame::Text(text)) if text.contains("4301") => errors += 1,
            Some(Frame::Text(text)) => assert!(text.contains("4100"), "{text}"),
            Some(Frame::Close(code, _)) => break code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((errors, code), (1, 4100), "reported once, then closed");
    server.wait_for_connections(1).await;
    server.assert_no_other_events("private-a", &mut [&mut other]).await;
}

#[tokio::test]
async fn max_messages_per_second_does_not_affect_clients_within_it() {
    let server = few_messages(20).start().await;
    let mut client = server.client().await;
    client.bytes(frames::text(r#"{"event":"pusher:x"}"#).repeat(25)).await;
    let (code, sentence) = client.error().await;
    assert_eq!(code, 4301, "{sentence}");
    // The limit is per second, so the test waits.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    client.subscribe("a").await;
    for _ in 0..10 {
        client.ping_barrier().await;
    }
}

#[tokio::test]
async fn max_messages_per_second_still_answers_pings() {
    let server = few_messages(10).start().await;
    let mut client = server.client().await;
    client.bytes(frames::text(r#"{"event":"pusher:x"}"#).repeat(12)).await;
    assert_eq!(client.error().await.0, 4301);
    client.ping_barrier().await;
    client.bytes(frames::masked(frames::FIN | frames::PING, b"p").repeat(7)).await;
    for _ in 0..7 {
        assert_eq!(client.frame().await, Some(Frame::Pong(b"p".to_vec())));
    }
}

#[tokio::test]
async fn max_messages_per_second_counts_control_frames_and_fragments() {
    let server = few_messages(20).start().await;
    let frame = |first: u8, payload: &[u8]| frames::masked(first, payload);
    let [ping, unasked] = [frames::PING, frames::PONG].map(|opcode| frames::FIN | opcode);
    let fragment = frame(frames::CONTINUATION, b"");
    let floods = [
        ("pings", frame(ping, b"").repeat(100)),
        ("pings of 125 bytes", frame(ping, &[b'p'; 125]).repeat(100)),
        ("unsolicited pongs", frame(unasked, b"").repeat(100)),
        ("pings of Pusher", frames::text(r#"{"event":"pusher:ping"}"#).repeat(100)),
        ("empty fragments", [frame(frames::TEXT, b""), fragment.repeat(100)].concat()),
        ("empty fragments of binary", [frame(frames::BINARY, b""), fragment.repeat(100)].concat()),
        (
            "fragments and pings in turn",
            [frame(frames::TEXT, b"{"), [fragment, frame(ping, b"")].concat().repeat(50)].concat(),
        ),
    ];
    for (what, bytes) in floods {
        let mut client = server.client().await;
        client.bytes(bytes).await;
        let closed = client.closed_eventually().await;
        assert_eq!(closed, (4100, "Too many messages".to_owned()), "{what}");
    }
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn max_messages_per_second_allows_a_ping_each_second() {
    let server = few_messages(20).start().await;
    let mut client = server.client().await;
    for _ in 0..15 {
        client.bytes(frames::masked(frames::FIN | frames::PING, b"net")).await;
        assert_eq!(client.frame().await, Some(Frame::Pong(b"net".to_vec())));
    }
    // A message in fragments of a few bytes each is accepted.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let text = br#"{"event":"pusher:ping"}"#;
    let mut parts = text.chunks(2).map(|part| frames::masked(frames::CONTINUATION, part));
    let first = frames::masked(frames::TEXT, &text[..2]);
    let end = frames::masked(frames::FIN | frames::CONTINUATION, b"");
    let _replaced = parts.next();
    let all: Vec<Vec<u8>> = std::iter::once(first).chain(parts).chain([end]).collect();
    client.bytes(all.concat()).await;
    client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
}

#[tokio::test]
async fn max_messages_per_second_counts_segments_of_one_byte() {
    let server = few_messages(20).start().await;
    let mut client = server.client().await;
    // Each byte is read before the next is sent, so that each is a separate read.
    let message = frames::text(format!("{:200}", r#"{"event":"pusher:ping"}"#));
    for byte in &message[..message.len() - 1] {
        if !client.try_bytes([*byte]).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The reason is the number of reads, not the duration of the message.
    assert_eq!(client.closed_eventually().await, (4100, "Too many messages".to_owned()));
}

#[tokio::test]
async fn max_messages_per_second_limits_repeated_subscriptions() {
    let server = few_messages(50).start().await;
    let (mut toggles, mut watches) = (server.client().await, server.client().await);
    watches.subscribe("a").await;
    let pair = [
        frames::text(r#"{"event":"pusher:subscribe","data":{"channel":"a"}}"#),
        frames::text(r#"{"event":"pusher:unsubscribe","data":{"channel":"a"}}"#),
    ]
    .concat();
    let begun = Instant::now();
    let mut rounds = 0_u64;
    while toggles.try_bytes(&pair).await && rounds < 100_000 {
        rounds += 1;
    }
    assert_eq!(toggles.closed_eventually().await.0, 4100);
    // The accepted messages: one for the single allowed channel, one more, and ten for each second of the test.
    let passed = 2..=2 + 10 * (begun.elapsed().as_secs() + 1);
    let page =
        Http::plain(server.address, "GET", "/metrics", &[("Authorization", "Bearer t")]).await;
    let line = page.text().lines().find(|line| {
        line.starts_with("campanile_messages_received_total") && line.contains("\"subscribe\"")
    });
    let subscribes: u64 = line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
    // One subscription is that of the other client.
    assert!(passed.contains(&(subscribes - 1)), "{subscribes} of {rounds}, not {passed:?}");
    server.wait_for_connections(1).await;
    server.assert_no_other_events("a", &mut [&mut watches]).await;
}

#[tokio::test]
async fn a_reconnecting_page_may_subscribe_to_all_its_channels() {
    let settings = Settings::new()
        .connection("max_channels", 500)
        .connection("max_messages_per_second", 5)
        .app("subscription_count", false);
    let server = settings.start().await;
    let mut client = server.client().await;
    let subscribe = |number| {
        frames::text(format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"c{number}"}}}}"#))
    };
    client.bytes((0..500).map(subscribe).collect::<Vec<_>>().concat()).await;
    for number in 0..500 {
        client.subscribed(&format!("c{number}")).await;
    }
    client.ping_barrier().await;
}

#[tokio::test]
async fn max_messages_is_reverbs_rate_limit() {
    let settings = Settings::new().app("max_messages", 3).app("max_messages_window_s", 1);
    for closes in [false, true] {
        let server = settings.clone().app("max_messages_closes", closes).start().await;
        let (mut client, mut other) = (server.client().await, server.client().await);
        for channel in ["a", "b", "c"] {
            client.subscribe(channel).await;
        }
        for _ in 0..5 {
            client.ping_barrier().await;
        }
        client.send_subscribe("d").await;
        if closes {
            client.rejected(4100).await;
        } else {
            let (code, sentence) = client.error().await;
            assert_eq!(code, 4301, "{sentence}");
            assert!(sentence.starts_with("Rate limit exceeded"), "{sentence}");
            // The limit is per second, so the test waits.
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            client.subscribe("d").await;
        }
        other.subscribe("a").await;
    }
}

#[tokio::test]
async fn an_incomplete_message_times_out() {
    let server = Settings::new().server("request_timeout_s", 1).start().await;
    let (mut settled, mut tail) = (server.client().await, server.client().await);
    let beginnings = [
        // A fragment, an incomplete header, and an incomplete frame.
        frames::masked(frames::TEXT, b"{\"event\":"),
        vec![frames::FIN | frames::TEXT],
        frames::announced(frames::FIN | frames::TEXT, 1_000),
    ];
    for (number, beginning) in beginnings.iter().enumerate() {
        let mut client = server.client().await;
        let begun = Instant::now();
        client.bytes(beginning).await;
        if number == 0 {
            // Pings between the fragments do not extend the deadline.
            let ping = frames::masked(frames::FIN | frames::PING, b"p");
            while begun.elapsed() < Duration::from_secs(5) && client.try_bytes(&ping).await {
                match client.frame().await {
                    Some(Frame::Pong(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Some(Frame::Text(text)) => {
                        assert!(text.contains("4100"), "{text}");
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(matches!(client.frame().await, Some(Frame::Close(4100, _))));
        } else {
            assert_eq!(client.closed_eventually().await.0, 4100);
        }
        assert!(Duration::from_millis(900) < begun.elapsed(), "{:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
    // A client that completes its messages can send any number of them, even if each write ends inside the next
    // message.
    let ping = frames::text(r#"{"event":"pusher:ping"}"#);
    tail.bytes(&ping[..5]).await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        tail.bytes([&ping[5..], &ping[..5]].concat()).await;
        tail.expect(json!({ "event": "pusher:pong", "data": {} })).await;
    }
    settled.ping_barrier().await;
}

#[tokio::test]
async fn a_request_to_upgrade_in_pieces_is_an_upgrade() {
    let server = Settings::new().server("max_http_connections", 1).start().await;
    let mut http = RawHttp::connect(server.address).await;
    let request = upgrade_request(&target(), &[]);
    let (head, rest) = request.split_at(40);
    http.write(head).await;
    http.write(rest).await;
    let (mut client, _) = Client::upgraded(http).await;
    client.established().await;
    // The upgraded connection has released its permit.
    server.client().await.ping_barrier().await;
    client.ping_barrier().await;
}

fn limited_new_connections() -> Settings {
    Settings::new().connection("new_connections_per_second_per_ip", 2)
}

fn few_messages(per_second: u32) -> Settings {
    Settings::new()
        .connection("max_channels", 1)
        .connection("max_messages_per_second", per_second)
        .app("client_events_per_second", 0)
        .app("subscription_count", false)
        .section("metrics", "token", r#""t""#)
}
