//! The WebSocket protocol itself: how bytes may arrive, and what is invalid.

use serde_json::json;

use kit::{Client, Frame, KEY, RawHttp, Server, Settings, frames, upgrade_request};

use crate::Start as _;

const PING: &str = r#"{"event":"pusher:ping","data":{}}"#;

#[tokio::test]
async fn frames_after_the_handshake_in_the_same_segment_are_read() {
    let server = Settings::new().start().await;
    let mut http = RawHttp::connect(server.address).await;
    let subscribe = frames::text(r#"{"event":"pusher:subscribe","data":{"channel":"a"}}"#);
    let request = upgrade_request(&format!("/app/{KEY}?protocol=7"), &[]).into_bytes();
    http.write([request, frames::text(PING), subscribe].concat()).await;
    let (mut client, _) = Client::upgraded(http).await;
    client.established().await;
    client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
    client.subscribed("a").await;
}

#[tokio::test]
async fn a_frame_may_arrive_byte_by_byte() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    for byte in frames::text(PING) {
        client.bytes([byte]).await;
    }
    client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
}

#[tokio::test]
async fn frames_may_be_cut_anywhere() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let long = format!("{PING:300}");
    let all = [frames::text(PING), frames::text(&long), frames::text(PING)].concat();
    for cut in 0..=all.len() {
        let (front, back) = all.split_at(cut);
        client.bytes(front).await;
        // The pong for the complete part shows that the server has read up to the cut.
        if cut >= frames::text(PING).len() {
            client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
        }
        client.bytes(back).await;
        for _ in 0..if cut >= frames::text(PING).len() { 2 } else { 3 } {
            client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
        }
    }
}

#[tokio::test]
async fn a_fragmented_message_is_one_message_and_control_frames_may_come_between() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let (one, rest) = PING.as_bytes().split_at(10);
    let (two, three) = rest.split_at(10);
    client.bytes(frames::masked(frames::TEXT, one)).await;
    client.bytes(frames::masked(frames::CONTINUATION, two)).await;
    client.bytes(frames::masked(frames::FIN | frames::PING, b"between")).await;
    assert_eq!(client.frame().await, Some(Frame::Pong(b"between".to_vec())));
    client.bytes(frames::masked(frames::FIN | frames::CONTINUATION, three)).await;
    client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
    let one_byte_each: Vec<u8> = fragments_of_one_byte(PING);
    client.bytes(one_byte_each).await;
    client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
}

#[tokio::test]
async fn a_letter_may_be_cut_between_two_fragments() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.subscribe("private-r").await;
    b.subscribe("private-r").await;
    a.bytes(fragments_of_one_byte(r#"{"event":"client-x","channel":"private-r","data":"é😀"}"#))
        .await;
    b.expect_event("private-r", "client-x", "é😀").await;
}

#[tokio::test]
async fn a_binary_message_of_json_is_read_as_text() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.bytes(frames::masked(frames::FIN | frames::BINARY, PING.as_bytes())).await;
    client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
    client.bytes(frames::masked(frames::FIN | frames::BINARY, &[0xFF, 0xFE, 0])).await;
    client.error().await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn invalid_frames_are_closed_1002() {
    let server = Settings::new().start().await;
    let text = frames::FIN | frames::TEXT;
    let beginning = frames::masked(frames::TEXT, b"{");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("not masked", frames::unmasked(text, PING.as_bytes())),
        ("reserved bit 1", frames::masked(text | 0x40, PING.as_bytes())),
        ("reserved bit 2", frames::masked(text | 0x20, PING.as_bytes())),
        ("reserved bit 3", frames::masked(text | 0x10, PING.as_bytes())),
        ("opcode 3", frames::masked(frames::FIN | 0x3, b"x")),
        ("opcode 7", frames::masked(frames::FIN | 0x7, b"x")),
        ("opcode B", frames::masked(frames::FIN | 0xB, b"x")),
        ("opcode F", frames::masked(frames::FIN | 0xF, b"x")),
        ("a continuation of nothing", frames::masked(frames::FIN | frames::CONTINUATION, b"x")),
        ("a message inside another", [beginning.clone(), frames::text(PING)].concat()),
        ("a ping in fragments", frames::masked(frames::PING, b"x")),
        ("a ping of 126 bytes", frames::masked(frames::FIN | frames::PING, &[b'x'; 126])),
    ];
    all_are_closed(&server, cases, &[1002]).await;
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_closed_1007() {
    let server = Settings::new().start().await;
    let wrong = [
        ("FF", &[0xFF][..]),
        ("half a letter", &[0xC3]),
        ("a surrogate", &[0xED, 0xA0, 0x80]),
        ("five bytes", &[0xF8, 0x88, 0x80, 0x80, 0x80]),
        ("an overlong zero", &[0xC0, 0x80]),
    ];
    let message = |bytes: &[u8]| frames::text([br#"{"event":""#, bytes, br#""}"#].concat());
    let mut cases: Vec<(&str, Vec<u8>)> =
        wrong.map(|(what, bytes)| (what, message(bytes))).into_iter().collect();
    let (front, back) = (frames::masked(frames::TEXT, &[0xC3]), frames::masked(frames::FIN, b"x"));
    cases.push(("half a letter in a fragment", [front, back].concat()));
    all_are_closed(&server, cases, &[1007]).await;
}

/// The connection is closed at the illegal byte, although these frames are never completed.
#[tokio::test]
async fn an_illegal_frame_is_closed_before_it_is_complete() {
    let server = Settings::new().start().await;
    let begun = frames::masked(frames::TEXT, b"{");
    let control = |opcode: u8| frames::announced(frames::FIN | opcode, 126)[..2].to_vec();
    let first = |byte: u8| vec![byte];
    let within = |bytes: &[u8]| [begun.as_slice(), bytes].concat();
    let headers: Vec<(&str, Vec<u8>)> = vec![
        ("a ping announced as 126 bytes", control(frames::PING)),
        ("a pong announced as 126 bytes", control(frames::PONG)),
        ("a close announced as 126 bytes", control(frames::CLOSE)),
        ("a close of half a code", vec![frames::FIN | frames::CLOSE, 0x81]),
        ("not masked", vec![frames::FIN | frames::TEXT, 5]),
        ("a ping that is not masked", vec![frames::FIN | frames::PING, 0]),
        ("a fragment of a ping", first(frames::PING)),
        ("a fragment of a close", within(&first(frames::CLOSE))),
        ("a reserved bit", first(frames::FIN | frames::TEXT | 0x40)),
        ("a reserved opcode", first(frames::FIN | 0x3)),
        ("a reserved opcode of control", within(&first(frames::FIN | 0xB))),
        ("a continuation of nothing", first(frames::CONTINUATION)),
        ("a message inside another", within(&first(frames::FIN | frames::TEXT))),
        ("a length with its first bit", vec![frames::FIN | frames::TEXT, 0xFF, 0x80]),
    ];
    all_are_closed(&server, headers, &[1002]).await;

    let text = |bytes: &[u8]| {
        let whole = frames::masked(frames::FIN | frames::TEXT, &[bytes, &[b'x'; 10]].concat());
        whole[..whole.len() - 10].to_vec()
    };
    let fragment = |first: u8, bytes: &[u8]| frames::masked(first, bytes);
    let between = fragment(frames::FIN | frames::PING, b"p");
    let texts: Vec<(&str, Vec<u8>)> = vec![
        ("a byte of no letter", text(b"{\"event\":\"\xFF")),
        ("the middle of a letter", text(b"\x80")),
        ("a surrogate", text(b"\xED\xA0")),
        ("an overlong zero", text(b"\xC0")),
        ("a letter that is cut off by another", text(b"\xE2\x82x")),
        (
            "a letter that the next fragment does not end",
            [
                fragment(frames::TEXT, b"\xE2\x82"),
                between,
                text(b"x")
                    .into_iter()
                    .enumerate()
                    .map(|(at, byte)| if at == 0 { 0 } else { byte })
                    .collect(),
            ]
            .concat(),
        ),
        ("a fragment that is whole", fragment(frames::TEXT, b"\xFF")),
    ];
    all_are_closed(&server, texts, &[1007]).await;
}

#[tokio::test]
async fn messages_before_an_illegal_frame_are_answered() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.bytes([frames::text(PING), frames::text(PING), vec![frames::PING]].concat()).await;
    for _ in 0..2 {
        client.expect(json!({ "event": "pusher:pong", "data": {} })).await;
    }
    assert_eq!(client.closed().await.0, 1002);
}

#[tokio::test]
async fn a_close_is_answered_and_nothing_after_it_is_read() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let close = frames::masked(frames::FIN | frames::CLOSE, &frames::close(1000, "bye"));
    client.bytes([close, frames::text(PING)].concat()).await;
    assert_eq!(client.closed().await.0, 1000);
    server.wait_for_connections(0).await;
    let mut client = server.client().await;
    client.bytes(frames::masked(frames::FIN | frames::CLOSE, &[])).await;
    assert!(matches!(client.closed().await.0, 1000 | 1005));
    server.wait_for_connections(0).await;
}

#[tokio::test]
async fn a_close_with_an_impossible_code_is_closed_1002() {
    let server = Settings::new().start().await;
    let close = |payload: &[u8]| frames::masked(frames::FIN | frames::CLOSE, payload);
    let codes = [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535];
    let named: Vec<String> = codes.iter().map(|code| format!("code {code}")).collect();
    let mut cases: Vec<(&str, Vec<u8>)> = vec![("half a code", close(&[3]))];
    for (name, code) in named.iter().zip(codes) {
        cases.push((name, close(&frames::close(code, ""))));
    }
    all_are_closed(&server, cases, &[1002]).await;
    let reason = [&frames::close(1000, "")[..], &[0xFF]].concat();
    all_are_closed(&server, vec![("a reason that is not UTF-8", close(&reason))], &[1002, 1007])
        .await;
}

/// Asserts that each case, on separate connections at the same time, is closed with one of these codes.
pub(crate) async fn all_are_closed(server: &Server, cases: Vec<(&str, Vec<u8>)>, codes: &[u16]) {
    let mut waiting = Vec::new();
    for (what, bytes) in cases {
        let mut client = server.client().await;
        client.bytes(bytes).await;
        waiting.push((what, tokio::spawn(async move { client.closed_eventually().await.0 })));
    }
    for (what, closed) in waiting {
        let code = closed.await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(codes.contains(&code), "{what}: closed with {code}");
    }
}

fn fragments_of_one_byte(text: &str) -> Vec<u8> {
    let last = text.len() - 1;
    let fragment = |(position, byte): (usize, &u8)| {
        let opcode = if position == 0 { frames::TEXT } else { frames::CONTINUATION };
        frames::masked(if position == last { frames::FIN | opcode } else { opcode }, &[*byte])
    };
    text.as_bytes().iter().enumerate().flat_map(fragment).collect()
}
