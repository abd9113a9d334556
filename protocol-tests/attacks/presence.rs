//! Presence channels, whose members are told of each other: what one does costs all of them.

use serde_json::json;
use tokio::task::JoinSet;

use crate::arena::Arena;
use crate::floods::{only_the_witness_is_left, pour, sum};
use crate::harness::{Client, Frame, Server, Settings, frames, inner};

const ROOM: &str = "presence-room";

/// Most members and largest information of one, as they are by default.
const MEMBERS_MAX: usize = 100;
const INFO_MAX: usize = 1_024;

#[tokio::test]
async fn joining_and_leaving_without_end_is_told_in_order() {
    let arena = Arena::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let mut member = server.client().await;
        member.join(ROOM, "member").await;
        let mut attackers = JoinSet::new();
        for at in 0..4 {
            let client = server.client().await;
            let batch = toggling(&client, &member_of(at, 8)).repeat(10);
            attackers.spawn(pour(client, batch, at % 2 == 0));
        }
        let watching = async {
            let all = attackers.join_all().await;
            server.publish(ROOM, "last", "1").await;
            sum(&all)
        };
        let (told, (sent, _)) = tokio::join!(watch(&mut member), watching);
        drop(member);
        only_the_witness_is_left(server).await;
        format!("4 sent {sent} KiB of joining and leaving; {told}")
    };
    arena.attacked_by("presence toggling", attack).await;
}

/// Reads what a member is told until the event that ends it: each user comes and goes in turn. One that is told more
/// than it can read is closed, as every slow client is.
async fn watch(member: &mut Client) -> String {
    let (mut present, mut told) = (std::collections::HashSet::new(), 0);
    loop {
        let text = match member.frame().await {
            Some(Frame::Text(text)) => text,
            Some(Frame::Close(code, _)) => {
                assert_eq!(code, 4100, "only for being slow");
                return format!("another member was told {told} times, then closed for being slow");
            }
            Some(_) => continue,
            None => panic!("cut off"),
        };
        let message: serde_json::Value = serde_json::from_str(&text).expect("messages are JSON");
        match message["event"].as_str().expect("events have names") {
            "pusher_internal:member_added" => {
                told += 1;
                let id = inner(&message)["user_id"].to_string();
                assert!(present.insert(id), "came twice: {text}");
            }
            "pusher_internal:member_removed" => {
                told += 1;
                let id = inner(&message)["user_id"].to_string();
                assert!(present.remove(&id), "went without having come: {text}");
            }
            "last" => return format!("another member was told {told} times, each in turn"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_full_room_with_big_infos_is_bounded() {
    let arena = Arena::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let mut members = Vec::new();
        for at in 0..MEMBERS_MAX {
            let mut client = server.client().await;
            client.ask_with(ROOM, &member_of(at, INFO_MAX)).await;
            members.push(client);
        }
        let mut late = server.client().await;
        late.ask_with(ROOM, &member_of(MEMBERS_MAX, INFO_MAX)).await;
        let refusal = late.refusal(ROOM).await;
        assert!(refusal.message.contains("100"), "{refusal:?}");
        // All of them toggle without reading what that makes the others hear.
        let mut attackers = JoinSet::new();
        for (at, client) in members.into_iter().enumerate() {
            let batch = toggling(&client, &member_of(at, INFO_MAX));
            attackers.spawn(pour(client, batch, at % 5 == 0));
        }
        let (sent, answered) = sum(&attackers.join_all().await);
        format!(
            "100 members of 1 KiB sent {sent} KiB, a fifth of them read {answered} KiB; one more was refused"
        )
    };
    arena.attacked_by("presence floods", attack).await;
}

/// Leaving and joining again, as bytes.
fn toggling(client: &Client, channel_data: &str) -> Vec<u8> {
    let auth = client.auth(ROOM, Some(channel_data));
    let join = json!({ "event": "pusher:subscribe",
        "data": { "channel": ROOM, "auth": auth, "channel_data": channel_data } });
    let leave = json!({ "event": "pusher:unsubscribe", "data": { "channel": ROOM } });
    [leave, join].map(|message| frames::text(message.to_string())).concat()
}

/// A member whose information takes so many bytes.
fn member_of(at: usize, info_bytes: usize) -> String {
    format!(r#"{{"user_id":"{at}","user_info":{{"n":"{}"}}}}"#, "x".repeat(info_bytes - 8))
}
