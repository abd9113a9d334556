//! Presence channels: each join or leave is sent to all members.

use std::time::Instant;

use serde_json::json;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::floods::{only_the_bystander_is_left, pour, sum};
use crate::setup::{ATTACK_DURATION, AttackSetup};
use kit::{Client, Frame, Server, Settings, frames, inner};

const ROOM: &str = "presence-room";

/// The default maximums: members of a channel, and bytes of a member's user info.
const MEMBERS_MAX: usize = 100;
const INFO_MAX: usize = 1_024;

#[tokio::test]
async fn endless_joins_and_leaves_are_reported_in_order() {
    let setup = AttackSetup::open(Settings::new()).await;
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
        let (notified, (sent, _)) = tokio::join!(watch(&mut member), watching);
        drop(member);
        only_the_bystander_is_left(server).await;
        format!("4 sent {sent} KiB of joining and leaving; {notified}")
    };
    setup.attacked_by("presence toggling", attack).await;
}

/// Reads until the event that ends the test; joins and leaves of each user must alternate. A member that reads too
/// slowly is closed, like every slow client.
async fn watch(member: &mut Client) -> String {
    let (mut present, mut notified) = (std::collections::HashSet::new(), 0);
    loop {
        let text = match member.frame().await {
            Some(Frame::Text(text)) => text,
            Some(Frame::Close(code, _)) => {
                assert_eq!(code, 4100, "closed only as a slow client");
                return format!(
                    "another member was notified {notified} times, then closed for being slow"
                );
            }
            Some(_) => continue,
            None => panic!("cut off"),
        };
        let message: serde_json::Value = serde_json::from_str(&text).expect("messages are JSON");
        match message["event"].as_str().expect("events have names") {
            "pusher_internal:member_added" => {
                notified += 1;
                let id = inner(&message)["user_id"].to_string();
                assert!(present.insert(id), "added twice: {text}");
            }
            "pusher_internal:member_removed" => {
                notified += 1;
                let id = inner(&message)["user_id"].to_string();
                assert!(present.remove(&id), "removed without being added: {text}");
            }
            "last" => return format!("another member was notified {notified} times, each in turn"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_full_channel_with_large_infos_is_limited() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let members = full_channel(server).await;
        let mut late = server.client().await;
        late.send_subscribe_with(ROOM, &member_of(MEMBERS_MAX, INFO_MAX)).await;
        let rejection = late.rejection(ROOM).await;
        assert!(rejection.message.contains("100"), "{rejection:?}");
        // All of them toggle without reading the resulting events.
        let mut attackers = JoinSet::new();
        for (at, client) in members.into_iter().enumerate() {
            let batch = toggling(&client, &member_of(at, INFO_MAX));
            attackers.spawn(pour(client, batch, at % 5 == 0));
        }
        let (sent, answered) = sum(&attackers.join_all().await);
        format!(
            "100 members of 1 KiB sent {sent} KiB, a fifth of them read {answered} KiB; one more was rejected"
        )
    };
    setup.attacked_by("presence floods", attack).await;
}

/// Low limits of members and subscriptions, so that the test has less to read.
const FEW_MEMBERS: usize = 20;
const FEW_CHANNELS: usize = 100;

/// The sustained rate of subscriptions of one connection, per second.
const SUBSCRIBES_PER_SECOND: u64 = 10;

#[tokio::test]
async fn joins_and_leaves_of_one_member_are_sent_at_a_limited_rate() {
    let setup = AttackSetup::open(Settings::new().connection("max_channels", FEW_CHANNELS)).await;
    let attack = async |server: &Server| {
        let mut attacker = server.client().await;
        attacker.send_subscribe_with(ROOM, &member_of(FEW_MEMBERS, INFO_MAX)).await;
        let batch = toggling(&attacker, &member_of(FEW_MEMBERS, INFO_MAX));
        let mut members = JoinSet::new();
        for at in 0..FEW_MEMBERS {
            let mut member = server.client().await;
            member.send_subscribe_with(ROOM, &member_of(at, INFO_MAX)).await;
            members.spawn(async move { notifications_of(&mut member, FEW_MEMBERS).await });
        }
        let began = Instant::now();
        // As many messages as the limit allows, until the connection is closed.
        let (sent, _) = pour(attacker, batch.repeat(10), true).await;
        server.publish(ROOM, "last", "1").await;
        let notified = members.join_all().await;
        let joins =
            FEW_CHANNELS as u64 + 1 + SUBSCRIBES_PER_SECOND * (began.elapsed().as_secs() + 1);
        let most = notified.iter().copied().max().unwrap_or_default();
        assert!(most <= 2 * joins + 1, "each was notified {most} times of one");
        // The burst of bytes that may be sent to the attacker is 25 rosters of 20 KiB.
        assert!(20 <= most, "the limit is too low: notified {most} times");
        format!(
            "{} KiB of coming and going notified {most} times to each of the others",
            sent / 1_024
        )
    };
    setup.attacked_by("one presence member toggling", attack).await;
}

/// How often a member is notified of a join or leave, until the event that ends the test. The member is never closed.
async fn notifications_of(member: &mut Client, at: usize) -> u64 {
    let (mut notified, id) = (0, at.to_string());
    loop {
        let message = member.next().await;
        match message["event"].as_str().expect("events have names") {
            "pusher_internal:member_added" | "pusher_internal:member_removed" => {
                notified += u64::from(inner(&message)["user_id"] == id.as_str());
            }
            "last" => return notified,
            _ => {}
        }
    }
}

#[tokio::test]
async fn rejoining_a_full_channel_is_answered_at_a_limited_rate() {
    /// Burst and rate of bytes of answers to one connection, in KiB, with an outbox of 1 MiB.
    const AT_ONCE: usize = 512;
    const A_SECOND: usize = 1_024;
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let members = full_channel(server).await;
        let mut attackers = JoinSet::new();
        for at in 0..4 {
            // A second connection of a user, whose subscription is not announced.
            let client = server.client().await;
            let batch = toggling(&client, &member_of(at, INFO_MAX));
            attackers.spawn(pour(client, batch.repeat(10), true));
        }
        let began = Instant::now();
        let all = attackers.join_all().await;
        let (sent, _) = sum(&all);
        let seconds = usize::try_from(began.elapsed().as_secs()).expect("not that long") + 1;
        let most = all.iter().map(|(_, answered)| answered / 1_024).max().unwrap_or_default();
        // Twice the answer that exceeds the burst: the debt is settled before the next answer.
        let bound = AT_ONCE + A_SECOND * seconds + 2 * 128;
        assert!(most <= bound, "answered with {most} KiB, at most {bound}");
        assert!(AT_ONCE <= most, "answered with {most} KiB, which is less than the burst");
        drop(members);
        only_the_bystander_is_left(server).await;
        format!("4 sent {sent} KiB and were answered with {most} KiB at most, each")
    };
    setup.attacked_by("rejoining a full room", attack).await;
}

/// Fills a room with the maximum number of members, each with the maximum user info.
async fn full_channel(server: &Server) -> Vec<Client> {
    let mut members = Vec::new();
    for at in 0..MEMBERS_MAX {
        let mut client = server.client().await;
        client.join_with(ROOM, &member_of(at, INFO_MAX)).await;
        members.push(client);
    }
    members
}

#[tokio::test]
async fn a_reconnecting_client_can_subscribe_to_all_its_channels() {
    const CHANNELS: usize = 1_000;
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let members = full_channel(server).await;
        let mut client = server.client().await;
        let names: Vec<String> = std::iter::once(ROOM.to_owned())
            .chain((1..CHANNELS).map(|at| format!("presence-own-{at}")))
            .collect();
        let mut all = Vec::new();
        for name in &names {
            let member = member_of(0, INFO_MAX);
            let auth = client.auth(name, Some(&member));
            let data = json!({ "channel": name, "auth": auth, "channel_data": member });
            let message = json!({ "event": "pusher:subscribe", "data": data });
            all.extend(frames::text(message.to_string()));
        }
        client.bytes(all).await;
        for name in &names {
            let roster = client.joined(name).await;
            let count = if name == ROOM { MEMBERS_MAX } else { 1 };
            assert_eq!(roster["count"], count, "{name}");
        }
        client.ping_barrier().await;
        drop((members, client));
        only_the_bystander_is_left(server).await;
        "1,000 presence channels at once, one of them full: all acknowledged".to_owned()
    };
    setup.attacked_by("an ordinary reconnect", attack).await;
}

/// A reconnecting client is throttled while its answers are pending, so it is not closed for the size of what it
/// requested.
#[tokio::test]
async fn a_client_that_reads_late_is_not_closed_for_its_own_answers() {
    const CHANNELS: usize = 80;
    let setup = AttackSetup::open(Settings::new().connection("max_outbox_bytes", 2 << 20)).await;
    let attack = async |server: &Server| {
        let names: Vec<String> = (0..CHANNELS).map(|at| format!("cache-{at}")).collect();
        let data = "x".repeat(100_000);
        server.publish_event(json!({ "name": "e", "channels": names, "data": data })).await;
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.set_recv_buffer_size(16 * 1_024).expect("a socket takes that");
        let mut client = server.open_on(socket).await;
        client.established().await;
        let subscribe = |name: &String| {
            let data = json!({ "channel": name });
            frames::text(json!({ "event": "pusher:subscribe", "data": data }).to_string())
        };
        client.bytes(names.iter().flat_map(subscribe).collect::<Vec<u8>>()).await;
        // It requests everything before it reads anything, so the server can answer all of it.
        tokio::time::sleep(ATTACK_DURATION).await;
        for name in &names {
            client.subscribed(name).await;
            client.expect_event(name, "e", &data).await;
        }
        client.ping_barrier().await;
        "80 cached events of 100 KB asked for at once, and read late: all there".to_owned()
    };
    setup.attacked_by("a late reader", attack).await;
}

/// The bytes of an unsubscription and a new subscription.
fn toggling(client: &Client, channel_data: &str) -> Vec<u8> {
    let auth = client.auth(ROOM, Some(channel_data));
    let join = json!({ "event": "pusher:subscribe",
        "data": { "channel": ROOM, "auth": auth, "channel_data": channel_data } });
    let leave = json!({ "event": "pusher:unsubscribe", "data": { "channel": ROOM } });
    [leave, join].map(|message| frames::text(message.to_string())).concat()
}

/// A member whose user info has this many bytes.
fn member_of(at: usize, info_bytes: usize) -> String {
    format!(r#"{{"user_id":"{at}","user_info":{{"n":"{}"}}}}"#, "x".repeat(info_bytes - 8))
}
