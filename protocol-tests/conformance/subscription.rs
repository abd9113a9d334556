//! Cases of `docs/protocol.md#cases-subscriptions`: public, private and encrypted channels.

use serde_json::{Value, json};

use kit::{Call, Frame, KEY, SECRET, Settings, eventually, frames, sign};

use crate::Start as _;

#[tokio::test]
async fn s01_a_public_subscription_is_acknowledged() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.text(r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"my-channel"}}"#).await;
    let message = json!({ "event": "pusher_internal:subscription_succeeded", "channel": "my-channel", "data": "{}" });
    client.expect(message).await;
}

#[tokio::test]
async fn s02_a_public_subscription_needs_no_auth() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let members = ["", r#","auth":null"#, r#","auth":"x:y""#, r#","channel_data":null"#];
    for (number, members) in members.iter().enumerate() {
        let channel = format!("my-channel-{number}");
        client
            .text(format!(
                r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"{members}}}}}"#
            ))
            .await;
        client.subscribed(&channel).await;
    }
}

#[tokio::test]
async fn s03_the_data_of_a_command_may_be_a_string_of_json() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.command("pusher:subscribe", json!(r#"{"channel":"my-channel"}"#)).await;
    client.subscribed("my-channel").await;
}

#[tokio::test]
async fn s04_a_private_subscription_with_its_signature_is_acknowledged() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let auth = sign::channel_auth(KEY, SECRET, &client.socket_id, "private-foobar", None);
    client.command("pusher:subscribe", json!({ "channel": "private-foobar", "auth": auth })).await;
    client.subscribed("private-foobar").await;
}

#[tokio::test]
async fn s05_a_signature_for_another_socket_is_rejected() {
    let server = Settings::new().start().await;
    let other = server.client().await;
    let mut client = server.client().await;
    client
        .command(
            "pusher:subscribe",
            json!({ "channel": "private-foobar", "auth": other.auth("private-foobar", None) }),
        )
        .await;
    let rejection = client.rejection("private-foobar").await;
    assert!(rejection.code.is_null() || rejection.code == 4009, "{rejection:?}");
    assert!(rejection.message.contains("private-foobar"), "{rejection:?}");
    server.assert_not_received("private-foobar", &mut client).await;
}

#[tokio::test]
async fn s06_a_private_subscription_without_auth_is_rejected() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    for data in [
        json!({ "channel": "private-foobar" }),
        json!({ "channel": "private-foobar", "auth": "" }),
        json!({ "channel": "private-foobar", "auth": null }),
        json!({ "channel": "private-foobar", "auth": 7 }),
        json!({ "channel": "private-foobar", "auth": ["x"] }),
    ] {
        client.command("pusher:subscribe", data).await;
        client.rejection("private-foobar").await;
    }
    server.assert_not_received("private-foobar", &mut client).await;
}

#[tokio::test]
async fn s07_the_right_signature_under_another_key_is_rejected() {
    let server = Settings::new().add_app("4", "key-of-4", SECRET).start().await;
    let mut client = server.client().await;
    for key in ["XX", "key-of-4", "", "278d425bdf160c73980", "278D425BDF160C739803"] {
        let auth = sign::channel_auth(key, SECRET, &client.socket_id, "private-foobar", None);
        client
            .command("pusher:subscribe", json!({ "channel": "private-foobar", "auth": auth }))
            .await;
        client.rejection("private-foobar").await;
    }
    server.assert_not_received("private-foobar", &mut client).await;
}

#[tokio::test]
async fn s08_an_auth_without_a_colon_or_half_a_signature_is_rejected() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let whole = client.auth("private-foobar", None);
    let (key, signature) = whole.split_once(':').unwrap();
    let auths = [
        signature.to_owned(),
        format!("{key}{signature}"),
        format!("{key}:"),
        format!("{key}:{}", &signature[..63]),
        format!("{key}:{signature}0"),
        format!("{key}:{signature}:"),
        format!("{key}::{signature}"),
        format!("{key}:{}", "z".repeat(64)),
        format!("{key}:{}", "é".repeat(32)),
    ];
    for auth in auths {
        client
            .command("pusher:subscribe", json!({ "channel": "private-foobar", "auth": auth }))
            .await;
        client.rejection("private-foobar").await;
    }
    server.assert_not_received("private-foobar", &mut client).await;
}

#[tokio::test]
async fn s09_channel_data_on_a_private_channel_is_part_of_what_is_signed() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.send_subscribe_with("private-x", r#"{"a":1}"#).await;
    client.subscribed("private-x").await;
}

#[tokio::test]
async fn s09_empty_channel_data_may_be_signed_or_not() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.send_subscribe_with("private-x", "").await;
    client.subscribed("private-x").await;
    let auth = client.auth("private-y", None);
    client
        .command(
            "pusher:subscribe",
            json!({ "channel": "private-y", "auth": auth, "channel_data": "" }),
        )
        .await;
    client.subscribed("private-y").await;
}

#[tokio::test]
async fn s10_channel_data_that_was_not_signed_is_rejected() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let auth = client.auth("private-x", None);
    client
        .command(
            "pusher:subscribe",
            json!({ "channel": "private-x", "auth": auth, "channel_data": r#"{"a":1}"# }),
        )
        .await;
    client.rejection("private-x").await;
    server.assert_not_received("private-x", &mut client).await;
}

#[tokio::test]
async fn s11_a_cache_prefix_does_not_bypass_authorization() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    for channel in
        ["private-cache-x", "presence-cache-x", "private-a-cache-b", "private-encrypted-cache-x"]
    {
        server.publish(channel, "secret", "cached").await;
        let member = r#"{"user_id":"1"}"#;
        for data in [
            json!({ "channel": channel, "auth": format!("{KEY}:bad"), "channel_data": member }),
            json!({ "channel": channel, "auth": format!("{KEY}:{}", "0".repeat(64)), "channel_data": member }),
            json!({ "channel": channel }),
        ] {
            client.command("pusher:subscribe", data).await;
            client.rejection(channel).await;
        }
        server.assert_not_received(channel, &mut client).await;
    }
}

#[tokio::test]
async fn s12_a_prefix_counts_only_as_a_whole_and_at_the_front() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let names = [
        "privatex",
        "presencex",
        "cachex",
        "my-private-x",
        "my-presence-x",
        "my-cache-x",
        "encrypted-x",
    ];
    for channel in names.into_iter().chain([
        "private",
        "presence",
        "Private-x",
        "PRESENCE-x",
        "x-private-cache-",
    ]) {
        client.command("pusher:subscribe", json!({ "channel": channel })).await;
        client.subscribed(channel).await;
        client.ping_barrier().await;
    }
}

#[tokio::test]
async fn s12_a_cache_channel_before_private_is_public_and_cached() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("cache-private-x").await;
    client.expect_event("cache-private-x", "pusher:cache_miss", "{}").await;
}

#[tokio::test]
async fn s13_invalid_names_are_rejected() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let long = "a".repeat(201);
    let names = ["bad name!", "a#b", "", &long, "ä", "a:b", "a/b", "a\0b", "a\n", "##x", "#"];
    for channel in names {
        client.command("pusher:subscribe", json!({ "channel": channel, "auth": "" })).await;
        client.rejection(channel).await;
        client.ping_barrier().await;
    }
    let reply = server.get("channels", &[]).await;
    assert_eq!(reply.json(), json!({ "channels": {} }));
}

#[tokio::test]
async fn s13_a_channel_that_is_no_string_is_rejected() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    for data in [
        json!({}),
        json!({ "channel": null }),
        json!({ "channel": 7 }),
        json!({ "channel": ["a"] }),
        json!(7),
        Value::Null,
    ] {
        client.command("pusher:subscribe", data).await;
        client.error().await;
    }
    client.text(r#"{"event":"pusher:subscribe"}"#).await;
    client.error().await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn s14_a_name_of_200_characters_is_possible() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe(&"a".repeat(200)).await;
    client.subscribe("-aZ09_=@,.;").await;
}

#[tokio::test]
async fn s15_a_rejected_signature_is_a_subscription_error() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client
        .command(
            "pusher:subscribe",
            json!({ "channel": "private-foobar", "auth": format!("{KEY}:00") }),
        )
        .await;
    let details = client.rejection("private-foobar").await.details;
    let sentence = details["error"].clone();
    assert_eq!(details, json!({ "type": "AuthError", "error": sentence, "status": 401 }));
}

/// `docs/protocol.md#subscription-errors`: the messages of hosted Pusher, since developers search for them.
#[tokio::test]
async fn rejections_have_the_messages_of_hosted_pusher() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let socket_id = client.socket_id.clone();
    let invalid =
        "Auth value for subscription to private-x is invalid: should be of format 'key:signature'";
    let digest = format!(
        "Invalid signature: Expected HMAC SHA256 hex digest of {socket_id}:private-x, but got 00"
    );
    for (auth, sentence) in [
        (Value::Null, "Auth info required to subscribe to private-x"),
        (json!("nocolon"), invalid),
        (json!("XX:00"), "Invalid key in subscription auth data: 'XX'"),
        (json!(format!("{KEY}:00")), &digest),
    ] {
        client.command("pusher:subscribe", json!({ "channel": "private-x", "auth": auth })).await;
        let message = client.rejection("private-x").await.message;
        assert!(message.starts_with(sentence), "{message:?} should begin with {sentence:?}");
    }
}

#[tokio::test]
async fn s15_a_hundred_wrong_signatures_are_closed_despite_valid_ones_in_between() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let guess = json!({ "event": "pusher:subscribe",
        "data": { "channel": "private-x", "auth": format!("{KEY}:{}", "0".repeat(64)) } });
    let messages = [
        guess.to_string(),
        r#"{"event":"pusher:ping"}"#.to_owned(),
        r#"{"event":"pusher:subscribe","data":{"channel":"a"}}"#.to_owned(),
        r#"{"event":"pusher:unsubscribe","data":{"channel":"a"}}"#.to_owned(),
    ];
    let mut round: Vec<u8> = messages.iter().flat_map(frames::text).collect();
    round.extend(frames::masked(frames::FIN | frames::PONG, b""));
    // One failure is forgiven every ten seconds, in case the test takes that long.
    for _ in 0..110 {
        client.try_bytes(&round).await;
    }
    let mut rejected = 0;
    let code = loop {
        match client.frame().await {
            Some(Frame::Close(code, _)) => break code,
            Some(Frame::Text(text)) => rejected += usize::from(text.contains("Invalid signature")),
            Some(_) => {}
            None => panic!("cut off"),
        }
    };
    assert_eq!(code, 4100);
    // Each one causes two events.
    assert!((2 * 99..2 * 105).contains(&rejected), "{rejected}");
}

#[tokio::test]
async fn s16_an_event_arrives_as_it_was_published() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("my-channel").await;
    server.publish("my-channel", "e", r#"{"x":1}"#).await;
    client.expect(json!({ "event": "e", "channel": "my-channel", "data": "{\"x\":1}" })).await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn s17_data_is_an_opaque_string() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("my-channel").await;
    let texts = [
        "hello",
        "",
        "\u{e9}\u{1f600}",
        "\\/\\u00e9",
        "{\"a\": 1.0 }",
        "\0\u{1}\u{7f}\u{2028}\u{fffd}\r\n\t\"\\",
        "9007199254740993",
    ];
    for text in texts {
        server.publish("my-channel", "e", text).await;
        client.expect_event("my-channel", "e", text).await;
    }
    let escaped = r#"{"name":"e","channel":"my-channel","data":"\u00e9\ud83d\ude00"}"#;
    let reply = Call::post_text("events", escaped).send(&server).await;
    assert_eq!(reply.status, 200, "{reply}");
    client.expect_event("my-channel", "e", "\u{e9}\u{1f600}").await;
}

#[tokio::test]
async fn s18_an_event_name_is_delivered_unchanged() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("my-channel").await;
    for name in ["App\\Events\\X", ".leading", "a b \"c\" é", "client-x", "x"] {
        server.publish("my-channel", name, "1").await;
        client.expect_event("my-channel", name, "1").await;
    }
}

#[tokio::test]
async fn s19_after_unsubscribing_nothing_is_received() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("my-channel").await;
    client.unsubscribe("my-channel").await;
    client.ping_barrier().await;
    server.assert_not_received("my-channel", &mut client).await;
}

#[tokio::test]
async fn s20_unsubscribe_and_subscribe_in_one_segment_keep_their_order() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("my-channel").await;
    let unsubscribe =
        frames::text(r#"{"event":"pusher:unsubscribe","data":{"channel":"my-channel"}}"#);
    let subscribe =
        frames::text(r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"my-channel"}}"#);
    client.bytes([unsubscribe, subscribe].concat()).await;
    client.subscribed("my-channel").await;
    server.publish("my-channel", "e", "1").await;
    client.expect_event("my-channel", "e", "1").await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn s21_a_second_subscription_is_an_error_and_changes_nothing() {
    let server = Settings::new().start().await;
    let mut client = server.client().await.with_counts();
    client.subscribe("my-channel").await;
    client.expect_count("my-channel", 1).await;
    client.send_subscribe("my-channel").await;
    assert_eq!(
        client.error().await,
        (Value::Null, "Existing subscription to channel my-channel".to_owned())
    );
    server.publish("my-channel", "e", "1").await;
    client.expect_event("my-channel", "e", "1").await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn s22_unsubscribing_without_a_subscription_is_ignored() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.unsubscribe("my-channel").await;
    client.ping_barrier().await;
}

#[tokio::test]
async fn s23_an_encrypted_event_is_relayed_byte_for_byte() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("private-encrypted-x").await;
    let envelope = r#"{ "nonce":"AAAA\/+==" ,"ciphertext":"\u0041b64==", "nonce":"twice"}"#;
    server.publish("private-encrypted-x", "e", envelope).await;
    client.expect_event("private-encrypted-x", "e", envelope).await;
}

#[tokio::test]
async fn s24_three_hundred_subscriptions_in_one_burst_succeed() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let command = |number| {
        format!(r#"{{"event":"pusher:subscribe","data":{{"auth":"","channel":"c{number}"}}}}"#)
    };
    let burst: Vec<u8> = (0..300).flat_map(|number| frames::text(command(number))).collect();
    client.bytes(burst).await;
    for number in 0..300 {
        client.subscribed(&format!("c{number}")).await;
    }
    client.ping_barrier().await;
}

#[tokio::test]
async fn s25_a_channel_is_vacated_when_its_subscriber_disconnects() {
    let server = Settings::new().start().await;
    for abruptly in [false, true] {
        let mut client = server.client().await;
        client.subscribe("my-channel").await;
        assert_eq!(server.channel("my-channel", "").await, json!({ "occupied": true }));
        let (stream, _) = client.into_parts();
        if abruptly {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        let vacant = json!({ "occupied": false });
        eventually("the channel is vacant", async || {
            server.channel("my-channel", "").await == vacant
        })
        .await;
    }
}

#[tokio::test]
async fn s26_channel_data_is_verified_as_it_was_written() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let written_by_php =
        r#"{"user_id":"10","user_info":{"name":"Ren\u00e9e","url":"http:\/\/x.test\/a"}}"#;
    let roster = client.join_with("presence-foobar", written_by_php).await;
    assert_eq!(roster["hash"], json!({ "10": { "name": "Renée", "url": "http://x.test/a" } }));
}
