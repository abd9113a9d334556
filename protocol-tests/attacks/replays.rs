//! Valid signatures that are sent again: later, by another client, or for another purpose.

use std::time::Instant;

use serde_json::json;

use crate::setup::{ATTACK_DURATION, AttackSetup};
use kit::{Call, Frame, Http, KEY, SECRET, Server, Settings, sign, unix_now};

#[tokio::test]
async fn requests_are_rejected_outside_of_their_window() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let event = json!({ "name": "e", "channel": "a", "data": "1" });
        let at =
            |time: u64| Call::post("events", &event).query("auth_timestamp", &time.to_string());
        let mut http = Http::connect(server.address).await;
        let (began, mut rejected) = (Instant::now(), 0);
        while began.elapsed() < ATTACK_DURATION {
            for age in [-86_400, -3_600, -601, 601, 3_600, 86_400] {
                let call = at(unix_now().saturating_add_signed(age));
                let sentence = call.send_on(&mut http).await.error(401);
                assert!(sentence.contains("Timestamp expired"), "{age}: {sentence}");
                rejected += 1;
            }
            for time in [0, u64::MAX, u64::MAX - 599] {
                at(time).send_on(&mut http).await.error(401);
                rejected += 1;
            }
            // An old signature with a new timestamp is invalid.
            let old = at(unix_now() - 700);
            let renewed = old.clone().query("auth_timestamp", &unix_now().to_string());
            renewed.signature(&old.correct_signature()).send_on(&mut http).await.error(401);
            // The signature binds the body, the path, the method and the query.
            let taken = at(unix_now());
            taken.clone().with_unsigned_body(r#"{"name":"e"}"#).send_on(&mut http).await.error(401);
            let signature = taken.correct_signature();
            let elsewhere =
                Call::post("batch_events", &event).query("auth_timestamp", &unix_now().to_string());
            elsewhere.signature(&signature).send_on(&mut http).await.error(401);
            taken.query("more", "1").signature(&signature).send_on(&mut http).await.error(401);
            rejected += 4;
        }
        format!("{rejected} rejected with 401")
    };
    setup.attacked_by("replays of requests", attack).await;
}

#[tokio::test]
async fn subscriptions_signed_for_others_are_rejected() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let owner = server.client().await;
        let member = r#"{"user_id":"1"}"#;
        let user = r#"{"id":"1"}"#;
        let (began, mut rejected, mut closed) = (Instant::now(), 0, 0);
        while began.elapsed() < ATTACK_DURATION {
            let mut thief = server.client().await;
            let stolen = [
                ("private-a", owner.auth("private-a", None), None),
                ("presence-a", owner.auth("presence-a", Some(member)), Some(member)),
                // Its own signatures, for other purposes.
                ("private-b", thief.auth("private-a", None), None),
                ("presence-b", thief.auth("presence-b", Some(member)), Some(r#"{"user_id":"2"}"#)),
                ("presence-b", thief.auth("presence-b", None), Some(member)),
                ("private-c", sign::user_auth(KEY, SECRET, &thief.socket_id, ""), None),
                ("private-d", thief.auth("private-d", None).replacen(KEY, "other", 1), None),
            ];
            for (channel, auth, channel_data) in stolen {
                let data =
                    json!({ "channel": channel, "auth": auth, "channel_data": channel_data });
                thief.command("pusher:subscribe", data).await;
                let rejection = thief.rejection(channel).await;
                assert_eq!(rejection.details["type"], "AuthError", "{rejection:?}");
                rejected += 1;
            }
            let auth = sign::user_auth(KEY, SECRET, &owner.socket_id, user);
            thief.command("pusher:signin", json!({ "auth": auth, "user_data": user })).await;
            assert_eq!(thief.error().await.0, 4009);
            rejected += 1;
            // Further guesses close the connection.
            closed += usize::from(guess(&mut thief).await == 4100);
        }
        assert!(0 < closed);
        format!("{rejected} rejected, {closed} connections closed with 4100 for guessing on")
    };
    setup.attacked_by("replays of subscriptions", attack).await;
}

/// Guesses signatures until the connection is closed; returns the close code.
async fn guess(thief: &mut kit::Client) -> u16 {
    let data = json!({ "channel": "private-a", "auth": format!("{KEY}:{}", "0".repeat(64)) });
    let message = json!({ "event": "pusher:subscribe", "data": data }).to_string();
    thief.try_bytes(kit::frames::text(message).repeat(100)).await;
    loop {
        match thief.frame().await {
            Some(Frame::Close(code, _)) => return code,
            Some(_) => {}
            None => panic!("cut off without a close frame"),
        }
    }
}
