//! WebSocket frames that are incomplete, endless, or different from what their headers declare.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::setup::{ATTACK_DURATION, AttackSetup, affordable};
use kit::{Client, Frame, KEY, Server, Settings, frames};

#[tokio::test]
async fn frames_that_are_only_announced_are_rejected_at_once() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let (began, mut rejected) = (Instant::now(), 0);
        while began.elapsed() < ATTACK_DURATION {
            for length in [65_537, 1 << 24, 1 << 32, (1 << 63) - 1, 1 << 63, usize::MAX] {
                for opcode in [frames::TEXT, frames::BINARY, frames::PING] {
                    let mut client = server.client().await;
                    client.bytes(frames::announced(frames::FIN | opcode, length)).await;
                    let (code, _) = client.closed_eventually().await;
                    assert!([1002, 1009].contains(&code), "{opcode} of {length}: {code}");
                    rejected += 1;
                }
            }
        }
        format!("{rejected} closed with 1009 or 1002")
    };
    setup.attacked_by("frames announced as huge", attack).await;
}

#[tokio::test]
async fn messages_that_lack_their_last_byte_are_bounded_together() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        // The largest message that is allowed.
        let whole = frames::text("x".repeat(65_536));
        let (most, last) = whole.split_at(whole.len() - 1);
        let mut attackers = Vec::new();
        for _ in 0..affordable(400) {
            let mut client = server.client().await;
            client.bytes(most).await;
            attackers.push(client);
        }
        for client in &mut attackers {
            client.bytes(last).await;
            let (code, sentence) = client.error().await;
            assert!(code.is_null(), "{sentence}");
        }
        format!("{} held 64 KiB each, and were answered when they sent the rest", attackers.len())
    };
    setup.attacked_by("messages without their last byte", attack).await;
}

#[tokio::test]
async fn endless_fragments_are_limited() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        let mut attackers = JoinSet::new();
        for at in 0..affordable(200) {
            attackers.spawn(fragment_for_ever(server.client().await, at));
        }
        let fates = attackers.join_all().await;
        let count = |fate: Fate| fates.iter().filter(|found| **found == fate).count();
        assert_eq!(count(Fate::TooBig), fates.len() / 2, "those that grew without end");
        format!(
            "{} closed with 1009, {} sent empty fragments and pings as long as they were let",
            count(Fate::TooBig),
            count(Fate::Stayed) + count(Fate::Closed)
        )
    };
    setup.attacked_by("never-ending fragmentation", attack).await;
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// Closed with 1009.
    TooBig,
    /// Closed for another reason.
    Closed,
    /// Still open at the end of the attack.
    Stayed,
}

async fn fragment_for_ever(mut client: Client, at: usize) -> Fate {
    let began = Instant::now();
    let grows = at.is_multiple_of(2);
    client.bytes(frames::masked(frames::TEXT, &vec![b'x'; 60_000])).await;
    let piece: &[u8] = if grows { &[b'x'; 100] } else { b"" };
    let more = frames::masked(frames::CONTINUATION, piece);
    let ping = frames::masked(frames::FIN | frames::PING, b"alive");
    while grows || began.elapsed() < ATTACK_DURATION {
        let batch = [more.repeat(20), ping.clone()].concat();
        if !client.try_bytes(batch).await {
            break;
        }
        match client.frame().await {
            Some(Frame::Close(1009, _)) => return Fate::TooBig,
            Some(Frame::Close(..)) | None => return Fate::Closed,
            Some(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    Fate::Stayed
}

#[tokio::test]
async fn compressed_frames_are_neither_negotiated_nor_read() {
    let setup = AttackSetup::open(Settings::new()).await;
    let attack = async |server: &Server| {
        // A deflate block that repeats one byte: it would expand to a large size.
        let bomb =
            [&[0xec, 0xc1, 0x01, 0x01, 0x00, 0x00, 0x00, 0x80, 0x90, 0xfe, 0xaf][..], &[0; 4_000]]
                .concat();
        let offers = [
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "x-webkit-deflate-frame",
        ];
        let (began, mut rejected) = (Instant::now(), 0);
        while began.elapsed() < ATTACK_DURATION {
            for (offer, first) in offers.iter().zip([0xc1, 0xc2, 0x41]) {
                let target = format!("/app/{KEY}?protocol=7");
                let headers = [("sec-websocket-extensions", *offer)];
                let (mut client, reply) = Client::open(server.address, &target, &headers).await;
                assert_eq!(reply.header("sec-websocket-extensions"), None, "{reply}");
                client.established().await;
                client.bytes(frames::masked(first, &bomb)).await;
                let (code, _) = client.closed_eventually().await;
                assert_eq!(code, 1002, "{first:#x}");
                rejected += 1;
            }
        }
        format!("{rejected} closed with 1002, none of their offers taken up")
    };
    setup.attacked_by("compressed garbage", attack).await;
}
