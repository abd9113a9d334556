//! Cases of `docs/protocol.md#cases-http-api`: H38 to H43. Publishes that are repeated with an idempotency key.

use serde_json::{Value, json};

use kit::{Call, Server, Settings};

use crate::Start as _;

const HEADER: &str = "X-Idempotency-Key";

/// An event for the channel `a` whose data is `data`.
fn event(name: &str, data: &str) -> Value {
    json!({ "name": name, "channel": "a", "data": data })
}

fn keyed(key: &str, data: &str) -> Value {
    let mut event = event("e", data);
    event["idempotency_key"] = json!(key);
    event
}

async fn accepted(call: Call, server: &Server) -> Value {
    let reply = call.send(server).await;
    assert_eq!(reply.status, 200, "{reply}");
    reply.json()
}

#[tokio::test]
async fn h38_a_repeated_key_has_the_same_answer_and_the_event_is_delivered_once() {
    let server = Settings::new().start().await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    one.subscribe("a").await;
    two.subscribe("a").await;
    let mut body = json!({
        "name": "e", "channels": ["a", "b"], "data": "first", "info": "subscription_count",
        "idempotency_key": "order 17",
    });
    let first = accepted(Call::post("events", &body), &server).await;
    let counts = json!({ "a": { "subscription_count": 2 }, "b": { "subscription_count": 0 } });
    assert_eq!(first, json!({ "channels": counts }));
    // Two requests reach both nodes of a cluster. The answer is that of the first publish, though a count has changed.
    two.expect_event("a", "e", "first").await;
    two.unsubscribe("a").await;
    two.ping_barrier().await;
    for data in ["first", "first", "encrypted anew"] {
        body["data"] = json!(data);
        assert_eq!(accepted(Call::post("events", &body), &server).await, first);
    }
    one.expect_event("a", "e", "first").await;
    server.assert_no_other_events("a", &mut [&mut one]).await;
}

#[tokio::test]
async fn h38_requests_at_the_same_time_deliver_once_and_have_one_answer() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let mut body = keyed("k", "1");
    body["info"] = json!("subscription_count");
    let send = || accepted(Call::post("events", &body), &server);
    let answers = tokio::join!(send(), send(), send(), send(), send(), send());
    let answers = <[Value; 6]>::from(answers);
    let expected = json!({ "channels": { "a": { "subscription_count": 1 } } });
    assert!(answers.iter().all(|answer| *answer == expected), "{answers:?}");
    client.expect_event("a", "e", "1").await;
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn h39_the_key_may_be_in_the_header_and_that_of_the_event_wins() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    for _ in 0..2 {
        let call = Call::post("events", &event("e", "1")).header(HEADER, "header");
        accepted(call, &server).await;
        let call = Call::post("events", &keyed("field", "2")).header(HEADER, "header");
        accepted(call, &server).await;
        // It is the same key, wherever it is.
        accepted(Call::post("events", &keyed("header", "3")), &server).await;
    }
    client.expect_event("a", "e", "1").await;
    client.expect_event("a", "e", "2").await;
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn h40_an_invalid_key_is_400_and_the_rule_is_named() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let rule = "a string of 1 to 128 printable ASCII characters";
    for key in [json!(""), json!("k".repeat(129)), json!("a\tb"), json!("\u{e9}"), json!(7)] {
        let mut event = event("e", "1");
        event["idempotency_key"] = key;
        let sentence = Call::post("events", &event).send(&server).await.error(400);
        assert_eq!(sentence, format!("idempotency_key must be {rule}"));
        let batch = json!({ "batch": [keyed("valid", "1"), event] });
        let sentence = Call::post("batch_events", &batch).send(&server).await.error(400);
        assert_eq!(sentence, format!("batch[1]: idempotency_key must be {rule}"));
    }
    let long = "k".repeat(129);
    for path in ["events", "batch_events"] {
        let body = if path == "events" { event("e", "1") } else { json!({ "batch": [] }) };
        let call = Call::post(path, &body).header(HEADER, &long);
        let sentence = call.send(&server).await.error(400);
        assert_eq!(sentence, format!("{HEADER} must be {rule}"));
        // A header of another case is another one for the kit.
        let call = Call::post(path, &body).header(HEADER, "k").header("x-idempotency-key", "k");
        let sentence = call.send(&server).await.error(400);
        assert_eq!(sentence, "The header X-Idempotency-Key is repeated");
    }
    server.assert_no_other_events("a", &mut [&mut client]).await;
    accepted(Call::post("events", &keyed(&"k".repeat(128), "1")), &server).await;
    client.expect_event("a", "e", "1").await;
}

#[tokio::test]
async fn h41_the_key_of_a_rejected_request_is_not_remembered() {
    let server = Settings::new().app("max_event_bytes", 10).start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let mut without_name = keyed("k", "1");
    without_name["name"] = json!("");
    server.post("events", &without_name).await.error(400);
    server.post("events", &keyed("k", "too large for it")).await.error(413);
    let batch = json!({ "batch": [keyed("k", "1"), without_name] });
    server.post("batch_events", &batch).await.error(400);
    Call::post("events", &keyed("k", "1")).signature("00").send(&server).await.error(401);
    accepted(Call::post("events", &keyed("k", "2")), &server).await;
    client.expect_event("a", "e", "2").await;
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn h42_a_key_belongs_to_its_app_and_to_one_event_on_one_channel() {
    let settings = Settings::new().add_app("4", "key-of-4", "secret-of-4");
    let server = settings.start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    client.subscribe("b").await;
    let path = format!("/app/{}?protocol=7", "key-of-4");
    let mut other = server.open(&path).await;
    other.established().await;
    other.subscribe("a").await;
    accepted(Call::post("events", &keyed("k", "1")), &server).await;
    client.expect_event("a", "e", "1").await;
    let mut renamed = keyed("k", "2");
    renamed["name"] = json!("f");
    accepted(Call::post("events", &renamed), &server).await;
    client.expect_event("a", "f", "2").await;
    let mut more = keyed("k", "3");
    more["channels"] = json!(["a", "b"]);
    accepted(Call::post("events", &more), &server).await;
    client.expect_event("b", "e", "3").await;
    let of_other = Call::new("POST", "/apps/4/events", keyed("k", "4").to_string());
    accepted(of_other.credentials("key-of-4", "secret-of-4"), &server).await;
    other.expect_event("a", "e", "4").await;
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn h43_each_event_of_a_batch_may_have_a_key_or_all_of_them_one() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    // Within the batch, the second event has the key of the first.
    let mut last = keyed("two", "4");
    last["info"] = json!("subscription_count");
    let batch = json!({ "batch": [keyed("one", "1"), keyed("one", "2"), event("e", "3"), last] });
    let expected = json!({ "batch": [{}, {}, {}, { "subscription_count": 1 }] });
    assert_eq!(accepted(Call::post("batch_events", &batch), &server).await, expected);
    assert_eq!(accepted(Call::post("batch_events", &batch), &server).await, expected);
    accepted(Call::post("events", &keyed("two", "5")), &server).await;
    for data in ["1", "3", "4", "3"] {
        client.expect_event("a", "e", data).await;
    }
    let batch = json!({ "batch": [event("e", "6"), event("e", "7"), keyed("two", "8")] });
    for _ in 0..2 {
        accepted(Call::post("batch_events", &batch).header(HEADER, "batch"), &server).await;
    }
    client.expect_event("a", "e", "6").await;
    client.expect_event("a", "e", "7").await;
    // The key of a batch is no key of an event.
    accepted(Call::post("events", &event("e", "9")).header(HEADER, "batch"), &server).await;
    client.expect_event("a", "e", "9").await;
    server.assert_no_other_events("a", &mut [&mut client]).await;
}
