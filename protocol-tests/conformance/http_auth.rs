//! Cases of `docs/protocol.md#cases-http-api`: H01 to H11, H31, H32, H35, H37. Signatures of requests.

use serde_json::{Value, json};

use kit::{Call, KEY, SECRET, Server, Settings, quoted, sign, unix_now};

use crate::Start as _;

const EMPTY_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

#[tokio::test]
async fn h01_the_example_request_of_the_documentation_is_accepted() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("project-3").await;
    let body = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
    let reply = Call::post_text("events", body).send(&server).await;
    assert_eq!(reply.status, 200, "{reply}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.text(), "{}");
    client.expect_event("project-3", "foo", r#"{"some":"data"}"#).await;
}

#[tokio::test]
async fn h02_a_query_may_be_percent_encoded_or_raw() {
    let server = Settings::new().start().await;
    let call = Call::get("channels/cache-x").query("info", "subscription_count,cache");
    let raw = call.target();
    for target in [raw.replace(',', "%2C"), raw.replace("cache&", "%63ache&"), raw] {
        let reply = call.send_to(&server, &target).await;
        let expected = json!({ "occupied": false, "subscription_count": 0, "cache": null });
        assert_eq!((reply.status, reply.json()), (200, expected), "{target}");
    }
    let call = Call::get("channels").query("filter_by_prefix", "a=@,.;_- b+c");
    let encoded = "filter_by_prefix=a%3D%40%2C.%3B_-+b%2Bc";
    for encoded in [encoded, &encoded.replace('+', "%20"), "filter_by_prefix=a=@,.;_-+b%2Bc"] {
        let target = call.target().replace("filter_by_prefix=a=@,.;_- b+c", encoded);
        let reply = call.send_to(&server, &target).await;
        assert_eq!((reply.status, reply.text()), (200, r#"{"channels":{}}"#), "{encoded}");
    }
}

#[tokio::test]
async fn h03_a_get_may_carry_the_md5_of_nothing() {
    let server = Settings::new().start().await;
    assert_eq!(Call::get("channels").query("body_md5", EMPTY_MD5).send(&server).await.status, 200);
    let other = Call::get("channels").query("body_md5", "00000000000000000000000000000000");
    other.send(&server).await.error(401);
}

#[tokio::test]
async fn h04_the_order_of_the_parameters_does_not_matter() {
    let server = Settings::new().start().await;
    let call =
        Call::get("channels").query("filter_by_prefix", "presence-").query("info", "user_count");
    assert_eq!(call.send(&server).await.status, 200);
    assert_eq!(call.clone().reversed().send(&server).await.status, 200);
    let query = call.target().split_once('?').unwrap().1.to_owned();
    let (before, signature) = query.rsplit_once('&').unwrap();
    let signature_first = format!("/apps/3/channels?{signature}&{before}&");
    assert_eq!(call.send_to(&server, &signature_first).await.status, 200);
}

#[tokio::test]
async fn h05_a_signature_wrong_by_one_digit_is_rejected_with_what_should_have_been_signed() {
    let server = Settings::new().start().await;
    let call = Call::post("events", &event());
    let right = call.correct_signature();
    for position in [0, 31, 63] {
        let mut digits = right.clone().into_bytes();
        digits[position] = if digits[position] == b'0' { b'1' } else { b'0' };
        let wrong = String::from_utf8(digits).unwrap();
        let sentence = call.clone().signature(&wrong).send(&server).await.error(401);
        assert!(
            sentence.starts_with("Invalid signature: you should have sent HmacSHA256Hex("),
            "{sentence}"
        );
        assert!(
            sentence.replace("\\n", "\n").contains(&call.text()),
            "{sentence} should contain {}",
            call.text()
        );
        assert!(sentence.contains(&wrong) && !sentence.contains(&right), "{sentence}");
    }
    for odd in ["", "0", &right[..63], &format!("{right}0"), "zz", &"z".repeat(64)] {
        call.clone().signature(odd).send(&server).await.error(401);
    }
}

#[tokio::test]
async fn h06_the_timestamp_may_differ_by_599_seconds_and_not_by_600() {
    let server = Settings::new().start().await;
    assert_eq!(status_at(&server, |now| now - 599).await, 200);
    assert_eq!(status_at(&server, |now| now + 599).await, 200);
    assert_eq!(status_at(&server, |now| now - 600).await, 401);
    assert_eq!(status_at(&server, |now| now + 600).await, 401);
    let old = Call::get("channels").query("auth_timestamp", "1420070400");
    let sentence = old.send(&server).await.error(401);
    let expected = "Timestamp expired: Given timestamp (2015-01-01T00:00:00Z) not within 600s of server time (";
    assert!(sentence.starts_with(expected), "{sentence}");
    for timestamp in [
        "",
        "abc",
        "-1",
        "1e9",
        "1420070400.5",
        "99999999999999999999999",
        "18446744073709551615",
        "-9223372036854775808",
    ] {
        Call::get("channels").query("auth_timestamp", timestamp).send(&server).await.error(401);
    }
}

#[tokio::test]
async fn h07_an_unknown_key_is_400() {
    let server = Settings::new().start().await;
    for key in ["nope", "278D425BDF160C739803"] {
        let sentence =
            Call::get("channels").credentials(key, SECRET).send(&server).await.error(400);
        assert!(sentence.starts_with("Unknown auth_key"), "{sentence}");
    }
}

#[tokio::test]
async fn h08_only_auth_version_1_0_is_accepted() {
    let server = Settings::new().start().await;
    let wrong = Call::get("channels").query("auth_version", "2.0").send(&server).await.error(401);
    assert!(wrong.starts_with("Version not supported"), "{wrong}");
    let missing = Call::get("channels").without("auth_version").send(&server).await.error(401);
    assert!(missing.starts_with("Version required"), "{missing}");
}

#[tokio::test]
async fn h09_a_body_that_was_changed_is_rejected() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("my-channel").await;
    let changed = Call::post("events", &event())
        .with_unsigned_body(r#"{"name":"e","channel":"my-channel","data":"2"}"#);
    let sentence = changed.send(&server).await.error(401);
    assert!(sentence.contains("body_md5"), "{sentence}");
    server.assert_no_other_events("my-channel", &mut [&mut client]).await;
}

#[tokio::test]
async fn h10_a_body_needs_its_md5() {
    let server = Settings::new().start().await;
    let sentence =
        Call::post("events", &event()).without("body_md5").send(&server).await.error(401);
    assert!(sentence.contains("body_md5"), "{sentence}");
    let wrong =
        Call::post("events", &event()).query("body_md5", EMPTY_MD5).send(&server).await.error(401);
    assert!(wrong.contains("body_md5"), "{wrong}");
}

#[tokio::test]
async fn h11_an_unknown_app_is_404() {
    let server = Settings::new().start().await;
    Call::new("GET", "/apps/99/channels", "").send(&server).await.error(404);
    Call::new("POST", "/apps/99/events", event().to_string()).send(&server).await.error(404);
    Call::new("GET", "/apps//channels", "").send(&server).await.error(400);
}

#[tokio::test]
async fn h31_the_prefix_may_be_signed_or_not() {
    let server = Settings::new().server("path", quoted("/ws")).start().await;
    for path in ["/ws/apps/3/events", "/apps/3/events"] {
        let call = Call::new("POST", "/ws/apps/3/events", event().to_string()).signing_path(path);
        let reply = call.send(&server).await;
        assert_eq!(reply.status, 200, "{path}: {reply}");
    }
    let call = Call::new("POST", "/ws/apps/3/events", event().to_string())
        .signing_path("/other/apps/3/events");
    call.send(&server).await.error(401);
    let elsewhere = Call::new("POST", "/other/apps/3/events", event().to_string());
    elsewhere.send(&server).await.error(404);
}

/// What PHP's SDK sends if its option `path` is `/ws` instead of `/ws/`, or not set.
#[tokio::test]
async fn h37_a_call_may_lack_the_prefix() {
    let server = Settings::new().server("path", quoted("/ws")).start().await;
    let mut client = server.open(&format!("/ws/app/{KEY}?protocol=7")).await;
    client.established().await;
    client.subscribe("my-channel").await;
    let reply = Call::post("events", &event()).send(&server).await;
    assert_eq!(reply.status, 200, "{reply}");
    client.expect_event("my-channel", "e", "1").await;
    let forged = Call::post("events", &event()).signing_path("/apps/4/events");
    forged.send(&server).await.error(401);
}

#[tokio::test]
async fn h32_a_path_may_be_encoded_on_its_way() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.join("presence-a;b@c=d,e", "1").await;
    let call = Call::get("channels/presence-a;b@c=d,e").query("info", "user_count");
    let raw = call.target();
    let encoded = raw.replacen("presence-a;b@c=d,e", "presence-a%3Bb%40c%3Dd%2Ce", 1);
    let lower = raw.replacen("presence-a;b", "presence-a%3bb", 1);
    for target in [raw, encoded, lower] {
        let reply = call.send_to(&server, &target).await;
        assert_eq!(
            (reply.status, reply.json()),
            (200, json!({ "occupied": true, "user_count": 1 })),
            "{target}"
        );
    }
    let path = "/apps/3/channels/presence-a%3Bb%40c%3Dd%2Ce";
    let reply = Call::new("GET", path, "").send(&server).await;
    assert_eq!(
        (reply.status, reply.json()),
        (200, json!({ "occupied": true })),
        "signed as it was sent"
    );
}

#[tokio::test]
async fn h35_a_disabled_app_is_403() {
    let server = Settings::new().app("enabled", false).start().await;
    Call::post("events", &event()).send(&server).await.error(403);
    Call::get("channels").send(&server).await.error(403);
}

#[tokio::test]
async fn a_missing_key_or_signature_or_timestamp_is_named() {
    let server = Settings::new().start().await;
    for (name, sentence) in [
        ("auth_key", "Missing parameter: auth_key"),
        ("auth_timestamp", "Timestamp required"),
        ("auth_version", "Version required"),
    ] {
        let error = Call::get("channels").without(name).send(&server).await.error(401);
        assert!(error.starts_with(sentence), "{error:?} should begin with {sentence:?}");
    }
    let call = Call::get("channels");
    let unsigned = call.target().split("&auth_signature").next().unwrap().to_owned();
    let error = call.send_to(&server, &unsigned).await.error(401);
    assert!(error.starts_with("Missing parameter: auth_signature"), "{error}");
    let error = call.send_to(&server, "/apps/3/channels").await.error(401);
    assert!(error.starts_with("Missing parameter: auth_key"), "{error}");
}

#[tokio::test]
async fn the_key_of_another_app_is_rejected() {
    let server = Settings::new().add_app("4", "key-of-4", "secret-of-4").start().await;
    Call::get("channels").credentials("key-of-4", "secret-of-4").send(&server).await.error(401);
    Call::get("channels").credentials("key-of-4", SECRET).send(&server).await.error(401);
    Call::get("channels").credentials(KEY, "secret-of-4").send(&server).await.error(401);
    let own = Call::new("GET", "/apps/4/channels", "").credentials("key-of-4", "secret-of-4");
    assert_eq!(own.send(&server).await.status, 200);
}

#[tokio::test]
async fn apps_are_isolated_from_one_another() {
    let server = Settings::new().add_app("4", "key-of-4", "secret-of-4").start().await;
    let mut other = server.open("/app/key-of-4?protocol=7").await;
    other.established().await;
    other.send_subscribe("my-channel").await;
    other.subscribed("my-channel").await;
    server.publish("my-channel", "e", "1").await;
    let call = Call::new(
        "POST",
        "/apps/4/events",
        json!({ "name": "own", "channel": "my-channel", "data": "2" }).to_string(),
    );
    assert_eq!(call.credentials("key-of-4", "secret-of-4").send(&server).await.status, 200);
    other.expect_event("my-channel", "own", "2").await;
}

#[tokio::test]
async fn unknown_parameters_are_signed_and_ignored() {
    let server = Settings::new().start().await;
    let call = Call::get("channels").query("zebra", "1").query("a_flag", "").query("x[]", "1");
    assert_eq!(call.send(&server).await.status, 200);
}

/// `docs/protocol.md#request-signatures`: Ruby repeats a name for a list and signs names in lower case, Node keeps them
/// unchanged.
#[tokio::test]
async fn lists_and_capitals_verify_as_the_sdks_sign_them() {
    let server = Settings::new().start().await;
    let call = Call::get("channels").query("k[]", "v1&k[]=v2");
    assert_eq!(call.send(&server).await.status, 200);
    let call = Call::get("channels").query("Zebra", "1");
    assert_eq!(call.send(&server).await.status, 200);
    let as_sent = call.text().replace("&zebra=1", "").replace("auth_key=", "Zebra=1&auth_key=");
    let reply = call.signature(&sign::hmac_hex(SECRET, &as_sent)).send(&server).await;
    assert_eq!(reply.status, 200, "{reply}");
}

#[tokio::test]
async fn a_repeated_parameter_does_not_bypass_the_signature() {
    let server = Settings::new().start().await;
    let call = Call::get("channels");
    for extra in ["&info=user_count", "&auth_key=x", "&auth_version=2.0", "&auth_timestamp=1"] {
        let reply = call.send_to(&server, &format!("{}{extra}", call.target())).await;
        assert!(matches!(reply.status, 400 | 401), "{extra}: {reply}");
    }
}

#[tokio::test]
async fn authentication_parameters_in_another_form_are_rejected() {
    let server = Settings::new().start().await;
    let call = Call::new("POST", "/apps/3/users/7/terminate_connections", "{}");
    assert_eq!(call.send(&server).await.status, 200);
    let target = call.target();
    // As signed for PHP arrays: the same string without the digest of the body.
    let empty = Call::new("POST", "/apps/3/users/7/terminate_connections", "");
    for (name, other) in [
        ("body_md5", "body_md5[]"),
        ("body_md5", "body_md5%5B0%5D"),
        ("body_md5", "BODY_MD5"),
        ("auth_key", "auth_key[]"),
    ] {
        for call in [&call, &empty] {
            call.send_to(&server, &target.replace(name, other)).await.error(400);
        }
    }
    for extra in ["&body_md5[]=", "&body_md5=x", "&AUTH_KEY=x", "&auth_signature=x"] {
        call.send_to(&server, &format!("{target}{extra}")).await.error(400);
    }
}

#[tokio::test]
async fn a_path_that_is_encoded_twice_does_not_verify() {
    let server = Settings::new().start().await;
    // The signature is for the channel "ae".
    let call = Call::new("GET", "/apps/3/channels/a%65", "");
    assert_eq!(call.send(&server).await.status, 200);
    for path in
        ["/apps/3/channels/a%2565", "/apps/3/channels/a%252565", "/apps/3/channels/%61%2565"]
    {
        let target = call.target().replace("/apps/3/channels/a%65", path);
        call.send_to(&server, &target).await.error(401);
    }
    let call = Call::get("channels/presence-a/users");
    let target = call.target().replace("/users?", "%2Fusers?");
    call.send_to(&server, &target).await.error(401);
}

#[tokio::test]
async fn an_escaped_separator_in_the_query_is_rejected() {
    let server = Settings::new().start().await;
    let call = Call::get("channels").query("filter_by_prefix", "presence-a=b");
    assert_eq!(call.send(&server).await.status, 200);
    // The signature is the same as above, and the request would list all channels.
    let target = call.target().replace("filter_by_prefix=", "filter_by_prefix%3D");
    call.send_to(&server, &target).await.error(400);
    let target = call.target().replace("&filter_by_prefix", "%26filter_by_prefix");
    call.send_to(&server, &target).await.error(400);
}

fn event() -> Value {
    json!({ "name": "e", "channel": "my-channel", "data": "1" })
}

/// The status of a request whose timestamp is a function of the second in which the request was sent and answered.
async fn status_at(server: &Server, timestamp: impl Fn(u64) -> u64) -> u16 {
    loop {
        let now = unix_now();
        let call = Call::get("channels").query("auth_timestamp", &timestamp(now).to_string());
        let status = call.send(server).await.status;
        if unix_now() == now {
            return status;
        }
    }
}
