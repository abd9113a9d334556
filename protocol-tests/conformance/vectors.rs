//! The signatures of the tests match those of the SDKs: `docs/protocol.md#signature-vectors`.

use serde_json::Value;

use kit::{Call, KEY, SECRET, sign};

/// The tests in other languages read this file as well.
const VECTORS: &str = include_str!("../vectors/signatures.json");

#[test]
fn strings_are_signed_as_in_the_vectors() {
    for vector in list("strings") {
        let signature = sign::hmac_hex(text(&vector, "secret"), text(&vector, "string"));
        assert_eq!(signature, vector["signature"], "{vector}");
    }
}

#[test]
fn subscriptions_and_sign_ins_are_signed_as_in_the_vectors() {
    for vector in list("strings") {
        let (secret, socket_id) =
            (text(&vector, "secret"), vector["socket_id"].as_str().unwrap_or_default());
        let signature = vector["signature"].as_str().unwrap();
        let auth = match (vector["channel"].as_str(), vector["user_data"].as_str()) {
            (Some(channel), None) => {
                sign::channel_auth("K", secret, socket_id, channel, vector["channel_data"].as_str())
            }
            (None, Some(user_data)) => sign::user_auth("K", secret, socket_id, user_data),
            parts => panic!("a vector is about a channel or a user: {parts:?}"),
        };
        assert_eq!(auth, format!("K:{signature}"), "{vector}");
    }
}

#[test]
fn requests_are_signed_as_in_the_vectors() {
    for vector in list("requests") {
        let body = vector["body"].as_str().unwrap_or_default();
        if !body.is_empty() {
            assert_eq!(sign::md5_hex(body.as_bytes()), vector["body_md5"], "{vector}");
        }
        let pairs = vector["query"].as_object().unwrap();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().into()))
            .collect();
        let string = sign::request_text(text(&vector, "method"), text(&vector, "path"), &pairs);
        assert_eq!(string, vector["string"], "{vector}");
        assert_eq!(
            sign::hmac_hex(text(&vector, "secret"), &string),
            vector["signature"],
            "{vector}"
        );
    }
}

#[test]
fn a_call_of_the_tests_signs_as_in_the_vectors() {
    let body = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
    let call = Call::post_text("events", body).query("auth_timestamp", "1353088179");
    assert_eq!((KEY, SECRET), ("278d425bdf160c739803", "7ad3773142a6692b25b8"));
    assert_eq!(
        call.correct_signature(),
        "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
    );
}

#[test]
fn webhooks_are_signed_as_in_the_vectors() {
    for vector in list("webhooks") {
        let signature = sign::hmac_hex(text(&vector, "secret"), text(&vector, "body"));
        assert_eq!(signature, vector["signature"], "{vector}");
    }
}

fn list(name: &str) -> Vec<Value> {
    let mut vectors: Value = serde_json::from_str(VECTORS).expect("the file of vectors is JSON");
    let list = vectors[name].as_array_mut().map(std::mem::take).unwrap_or_default();
    assert!(!list.is_empty(), "no vectors of {name}");
    list
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap_or_else(|| panic!("{name} in {vector}"))
}
