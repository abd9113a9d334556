//! Cases of `docs/protocol.md#cases-http-api`: H12 to H20, H29, H30, H34, H36. Publishing.

use serde_json::{Value, json};

use kit::{Call, Server, Settings};

use crate::Start as _;

#[tokio::test]
async fn h12_a_hundred_channels_are_possible_and_one_more_is_not() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let channels = |count| (1..=count).map(|number| format!("c{number}")).collect::<Vec<String>>();
    client.subscribe("c1").await;
    client.subscribe("c100").await;
    server.publish_event(json!({ "name": "e", "channels": channels(100), "data": "1" })).await;
    let mut response =
        [client.next().await["channel"].take(), client.next().await["channel"].take()];
    response.sort_by_key(Value::to_string);
    assert_eq!(response, [json!("c1"), json!("c100")]);
    let reply = server
        .post("events", &json!({ "name": "e", "channels": channels(101), "data": "1" }))
        .await;
    reply.error(400);
    server.assert_no_other_events("c1", &mut [&mut client]).await;
}

#[tokio::test]
async fn h13_data_of_10240_bytes_is_taken_and_one_more_is_413() {
    let server = Settings::new().app("max_event_bytes", 10_240).start().await;
    let mut client = server.client().await;
    client.subscribe("my-channel").await;
    // The bytes of the string count, not its characters or its length in JSON.
    let longest = format!("{}\n\"é", "x".repeat(10_236));
    server.publish("my-channel", "e", &longest).await;
    client.expect_event("my-channel", "e", &longest).await;
    let event = json!({ "name": "e", "channel": "my-channel", "data": format!("{longest}x") });
    let sentence = server.post("events", &event).await.error(413);
    let expected = "The data content of this event exceeds the allowed maximum (10240 bytes";
    assert!(sentence.starts_with(expected), "{sentence}");
    server.post("batch_events", &json!({ "batch": [event] })).await.error(413);
    server.assert_no_other_events("my-channel", &mut [&mut client]).await;
}

#[tokio::test]
async fn h14_an_incomplete_event_is_400_and_not_delivered() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    for (event, field) in [
        (json!({ "channel": "a", "data": "1" }), "name"),
        (json!({ "name": "", "channel": "a", "data": "1" }), "name"),
        (json!({ "name": "e", "channel": "a" }), "data"),
        (json!({ "name": "e", "data": "1" }), "channel"),
        (json!({ "name": "e", "channels": [], "data": "1" }), "channels"),
        (json!({ "name": "e", "channels": ["a", "bad name!"], "data": "1" }), "channel"),
        (json!({ "name": "e", "channels": ["a", ""], "data": "1" }), "channel"),
        (json!({ "name": "e", "channels": ["a", "#x"], "data": "1" }), "channel"),
        (json!({ "name": "e", "channels": ["a", "b".repeat(201)], "data": "1" }), "channel"),
    ] {
        let sentence = server.post("events", &event).await.error(400);
        assert!(sentence.contains(field), "{event}: {sentence:?} should contain {field:?}");
    }
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn h14_wrong_types_are_400_and_the_field_is_named() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let right = json!({ "name": "e", "channels": ["a"], "data": "1", "socket_id": "1.1", "info": "user_count" });
    for (field, wrong) in [
        ("name", json!(7)),
        ("name", json!(["e"])),
        ("name", Value::Null),
        ("channels", json!("a")),
        ("channels", json!({ "0": "a" })),
        ("channels", json!(["a", 7])),
        ("channels", json!(["a", null])),
        ("channel", json!(["a"])),
        ("channel", json!(7)),
        ("socket_id", json!(1.1)),
        ("socket_id", json!("1")),
        ("socket_id", json!("a.b")),
        ("socket_id", json!("1.1 ")),
        ("socket_id", json!("")),
        ("info", json!(["user_count"])),
        ("info", json!(true)),
    ] {
        let mut event = right.clone();
        event[field] = wrong;
        if field == "channel" {
            event.as_object_mut().unwrap().remove("channels");
        }
        let sentence = server.post("events", &event).await.error(400);
        assert!(sentence.contains(field), "{event}: {sentence:?} should contain {field:?}");
    }
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn a_body_that_is_no_object_is_400() {
    let server = Settings::new().start().await;
    let trailing = r#"{"name":"e","channel":"a","data":"1"} x"#;
    for body in ["", "not json", "{", "[]", "null", "7", r#""text""#, trailing] {
        for path in ["events", "batch_events"] {
            Call::post_text(path, body.to_owned()).send(&server).await.error(400);
        }
    }
    // The data may be accepted or rejected, but the server must keep running.
    let deep = format!(
        r#"{{"name":"e","channel":"a","data":{}1{}}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    let reply = Call::post_text("events", deep).send(&server).await;
    assert!(matches!(reply.status, 200 | 400), "{reply}");
    let mut latin1 = br#"{"name":"e","channel":"a","data":"x"}"#.to_vec();
    latin1[34] = 0xE9;
    Call::post_text("events", latin1).send(&server).await.error(400);
    server.publish("a", "e", "1").await;
}

#[tokio::test]
async fn h15_the_excluded_socket_does_not_receive_the_event() {
    let server = Settings::new().start().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    for client in [&mut a, &mut b] {
        client.subscribe("my-channel").await;
        client.subscribe("private-x").await;
    }
    let channels = ["my-channel", "private-x"];
    server
        .publish_event(
            json!({ "name": "e", "channels": channels, "data": "1", "socket_id": a.socket_id }),
        )
        .await;
    for channel in channels {
        b.expect_event(channel, "e", "1").await;
    }
    server.assert_no_other_events("my-channel", &mut [&mut a, &mut b]).await;
}

#[tokio::test]
async fn h16_a_socket_that_is_not_connected_is_no_error() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("my-channel").await;
    server
        .publish_event(
            json!({ "name": "e", "channel": "my-channel", "data": "1", "socket_id": "999.999" }),
        )
        .await;
    client.expect_event("my-channel", "e", "1").await;
}

#[tokio::test]
async fn h17_a_publish_may_request_counts() {
    let server = Settings::new().start().await;
    let (mut a, mut b, mut c, mut d) = (
        server.client().await,
        server.client().await,
        server.client().await,
        server.client().await,
    );
    a.join("presence-a", "1").await;
    b.join("presence-a", "2").await;
    c.join("presence-a", "2").await;
    d.subscribe("b").await;
    let event = json!({
        "name": "e", "channels": ["presence-a", "b", "c"], "data": "1", "info": "user_count,subscription_count",
    });
    let mut response = server.publish_event(event).await;
    if response["channels"]["c"] == json!({}) {
        response["channels"]["c"] = json!({ "subscription_count": 0 });
    }
    let b_and_c = json!({ "subscription_count": 1 });
    let expected = json!({ "presence-a": { "user_count": 2, "subscription_count": 3 }, "b": b_and_c, "c": { "subscription_count": 0 } });
    assert_eq!(response, json!({ "channels": expected }));
}

#[tokio::test]
async fn h17_inapplicable_attributes_are_omitted() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("b").await;
    let event = json!({ "name": "e", "channel": "b", "data": "1", "info": "user_count,cache,x" });
    assert_eq!(server.publish_event(event).await, json!({ "channels": { "b": {} } }));
}

/// Data as a JavaScript backend encodes user input. No subscriber gets a lone surrogate.
#[tokio::test]
async fn a_lone_surrogate_is_published_as_the_replacement_character() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let event = |name: &str, data: &str| {
        format!(r#"{{"name":"{name}","channel":"a","data":{data},"\ud800":1}}"#)
    };
    for (name, data, received) in [
        ("e", r#""\udbff""#, "\u{fffd}"),
        ("e", r#"{"\udc00":"\ud83d\ude00"}"#, "{\"\u{fffd}\":\"😀\"}"),
        (r"\ud800", r#""{\"a\":\"\\ud800\"}""#, r#"{"a":"\ud800"}"#),
    ] {
        let one = event(name, data);
        let name = name.replace(r"\ud800", "\u{fffd}");
        let batch = format!(r#"{{"batch":[{one}]}}"#);
        for (path, body) in [("events", one), ("batch_events", batch)] {
            let reply = Call::post_text(path, body).send(&server).await;
            assert_eq!(reply.status, 200, "{reply}");
            client.expect_event("a", &name, received).await;
        }
    }
    let half = r#"{"name":"e","channels":["a","\ud800"],"data":"1"}"#;
    let sentence = Call::post_text("events", half).send(&server).await.error(400);
    assert!(sentence.contains("Invalid channel name"), "{sentence}");
    server.publish_event(json!({ "name": "e", "channel": "cache-a", "data": "1" })).await;
    let reply = Call::post_text("events", r#"{"name":"e","channel":"cache-a","data":"\ud800"}"#);
    assert_eq!(reply.send(&server).await.status, 200);
    assert_eq!(server.channel("cache-a", "cache").await["cache"]["data"], "\u{fffd}");
}

/// The limit applies to the decoded text, independently of escapes.
#[tokio::test]
async fn the_size_of_data_is_that_of_the_decoded_text() {
    let server = Settings::new().app("max_event_bytes", 360).start().await;
    let mut client = server.client().await;
    client.subscribe("private-a").await;
    let mut other = server.client().await;
    other.subscribe("private-a").await;
    for letter in [r"\u0430", "а", r"\/\/", r"\u000a\u000A"] {
        let whole = letter.repeat(180);
        for (data, fits) in [(format!("\"{whole}\""), true), (format!("\"{whole}x\""), false)] {
            let body = format!(r#"{{"name":"e","channel":"private-a","data":{data}}}"#);
            let reply = Call::post_text("events", body).send(&server).await;
            assert_eq!(reply.status, if fits { 200 } else { 413 }, "{reply}");
            let event = r#"{"event":"client-e","channel":"private-a","data":"#;
            client.text(format!("{event}{data}}}")).await;
            if fits {
                assert_eq!(client.next().await["event"], "e");
                assert_eq!(other.next().await["event"], "e");
                assert_eq!(other.next().await["event"], "client-e");
            } else {
                client.event_error().await;
            }
        }
    }
    // A value that is not a string is measured as compact JSON: 356 bytes of letters, two quotes and two brackets.
    for (letters, status) in [(178, 200), (179, 413)] {
        let data = format!("[ \"{}\" ]", r"\u0430".repeat(letters));
        let body = format!(r#"{{"name":"e","channel":"private-a","data":{data}}}"#);
        let reply = Call::post_text("events", body).send(&server).await;
        assert_eq!(reply.status, status, "{letters}: {reply}");
    }
}

#[tokio::test]
async fn h18_a_batch_without_info_is_answered_with_an_empty_object() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let batch: Vec<Value> = (0..2).map(|number| in_batch("a", &number.to_string())).collect();
    assert_eq!(batch_reply(&server, &json!(batch)).await, json!({}));
    client.expect_event("a", "e", "0").await;
    client.expect_event("a", "e", "1").await;
    assert_eq!(batch_reply(&server, &json!([])).await, json!({}));
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn h19_the_answer_to_a_batch_is_aligned_with_it() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.join("presence-b", "1").await;
    let mut asking = in_batch("presence-b", "2");
    asking["info"] = json!("user_count");
    let reply =
        batch_reply(&server, &json!([in_batch("a", "1"), asking, in_batch("c", "3")])).await;
    assert_eq!(reply, json!({ "batch": [{}, { "user_count": 1 }, {}] }));
}

#[tokio::test]
async fn h20_a_batch_of_ten_is_possible_and_of_eleven_is_not() {
    let server = Settings::new().start().await;
    let batch: Vec<Value> = (0..11).map(|number| in_batch("a", &number.to_string())).collect();
    assert_eq!(batch_reply(&server, &json!(batch[..10])).await, json!({}));
    let sentence = server.post("batch_events", &json!({ "batch": batch })).await.error(400);
    assert!(sentence.starts_with("Batch too large"), "{sentence}");
}

#[tokio::test]
async fn one_invalid_event_rejects_the_whole_batch() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let good = in_batch("a", "1");
    for bad in [
        json!({ "channel": "bad name!", "name": "e", "data": "1" }),
        json!({ "channel": "a", "data": "1" }),
        json!({ "channel": "a", "name": "e" }),
        json!({ "name": "e", "data": "1" }),
        json!({ "channel": "a", "name": "e", "data": "1", "socket_id": "x" }),
        json!({ "channel": "a", "name": "e".repeat(201), "data": "1" }),
        json!(7),
        Value::Null,
    ] {
        server.post("batch_events", &json!({ "batch": [good, bad, good] })).await.error(400);
    }
    for batch in
        [json!({}), json!({ "batch": {} }), json!({ "batch": "x" }), json!({ "batch": null })]
    {
        let sentence = server.post("batch_events", &batch).await.error(400);
        assert!(sentence.contains("batch"), "{sentence}");
    }
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn h29_data_that_is_no_string_is_delivered_as_its_compact_json() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    for (data, text) in [
        (r#"{ "z": [1, 2.50], "a": "é" }"#, r#"{"z":[1,2.50],"a":"é"}"#),
        ("7", "7"),
        ("[ ]", "[]"),
        ("true", "true"),
    ] {
        let reply =
            Call::post_text("events", format!(r#"{{"name":"e","channel":"a","data":{data}}}"#))
                .send(&server)
                .await;
        assert_eq!(reply.status, 200, "{reply}");
        let got = client.next().await;
        let (got, expected) = (got["data"].as_str().unwrap(), text);
        // The JSON is compact and equal; the server may spell numbers differently.
        assert_eq!(
            serde_json::from_str::<Value>(got).unwrap(),
            serde_json::from_str::<Value>(expected).unwrap()
        );
        assert!(!got.contains(' '), "{got}");
    }
}

#[tokio::test]
async fn h30_the_content_type_of_a_publish_does_not_matter() {
    let server = Settings::new().start().await;
    let call = Call::post("events", &json!({ "name": "e", "channel": "a", "data": "1" }));
    assert_eq!(call.clone().without_header("content-type").send(&server).await.status, 200);
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-8",
        "nonsense",
    ] {
        assert_eq!(
            call.clone().header("content-type", kind).send(&server).await.status,
            200,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn h34_a_channel_named_twice_receives_the_event_once() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    client.subscribe("b").await;
    let event = json!({ "name": "e", "channels": ["a", "b", "a", "a"], "data": "1", "info": "subscription_count" });
    let reply = server.publish_event(event).await;
    assert_eq!(
        reply,
        json!({ "channels": { "a": { "subscription_count": 1 }, "b": { "subscription_count": 1 } } })
    );
    let mut response =
        [client.next().await["channel"].take(), client.next().await["channel"].take()];
    response.sort_by_key(Value::to_string);
    assert_eq!(response, [json!("a"), json!("b")]);
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn channels_wins_over_channel() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    client.subscribe("b").await;
    server
        .publish_event(json!({ "name": "e", "channel": "a", "channels": ["b"], "data": "1" }))
        .await;
    client.expect_event("b", "e", "1").await;
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn h36_events_that_are_awaited_one_by_one_arrive_in_order() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    for number in 0..100 {
        server.publish("a", "e", &number.to_string()).await;
    }
    for number in 0..100 {
        client.expect_event("a", "e", &number.to_string()).await;
    }
    client.ping_barrier().await;
}

#[tokio::test]
async fn a_publish_without_subscribers_succeeds() {
    let server = Settings::new().start().await;
    assert_eq!(
        server.publish_event(json!({ "name": "e", "channel": "empty", "data": "1" })).await,
        json!({})
    );
    assert_eq!(
        server.get("channels", &[]).await.json(),
        json!({ "channels": {} }),
        "and occupies nothing"
    );
}

fn in_batch(channel: &str, data: &str) -> Value {
    json!({ "channel": channel, "name": "e", "data": data })
}

async fn batch_reply(server: &Server, batch: &Value) -> Value {
    let reply = server.post("batch_events", &json!({ "batch": batch })).await;
    assert_eq!(reply.status, 200, "{reply}");
    reply.json()
}
