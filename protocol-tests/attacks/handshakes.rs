//! Connections as the attack itself: slow heads, incomplete handshakes, connection churn, and forged addresses.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::setup::{ATTACK_DURATION, AttackSetup, affordable};
use kit::{Client, Frame, KEY, Server, Settings, eventually, upgrade_request, within};

/// `request_timeout_s` of servers under attack, in seconds.
pub(crate) const PATIENCE_S: u64 = 2;

/// The maximum delay after the timeout at which a close may be observed on a busy machine.
pub(crate) const SLACK: Duration = Duration::from_secs(3);

#[tokio::test]
async fn slow_heads_time_out() {
    let settings = Settings::new().server("request_timeout_s", PATIENCE_S);
    AttackSetup::open(settings)
        .await
        .attacked_by("slow heads", async |server| {
            let mut attackers = JoinSet::new();
            for _ in 0..affordable(300) {
                attackers.spawn(drip_a_head(connect(server).await));
            }
            let lived = attackers.join_all().await;
            in_time("slow heads", &lived)
        })
        .await;
}

/// Sends an endless head byte by byte; returns how long the server kept the connection open.
async fn drip_a_head(mut stream: TcpStream) -> Duration {
    let began = Instant::now();
    let mut head = b"GET /up HTTP/1.1\r\nx-slow: ".iter().copied().chain(std::iter::repeat(b'a'));
    let mut received = [0; 64];
    loop {
        let byte = head.next().expect("it is endless");
        let drip = async {
            stream.write_all(&[byte]).await?;
            let pause = Duration::from_millis(100);
            match tokio::time::timeout(pause, stream.read(&mut received)).await {
                Ok(Ok(0)) => Err(std::io::ErrorKind::ConnectionAborted.into()),
                Ok(Ok(_)) => panic!("an unfinished head was answered"),
                Ok(Err(error)) => Err(error),
                Err(_nothing) => Ok(()),
            }
        };
        if drip.await.is_err() {
            return began.elapsed();
        }
        assert!(began.elapsed() < SLACK * 3, "an unfinished head does not time out");
    }
}

#[tokio::test]
async fn ten_thousand_half_open_handshakes_time_out() {
    let settings = Settings::new().server("request_timeout_s", PATIENCE_S);
    AttackSetup::open(settings)
        .await
        .attacked_by("half-open handshakes", async |server| {
            let request = upgrade_request(&format!("/app/{KEY}?protocol=7"), &[]);
            let half = &request.as_bytes()[..request.len() / 2];
            let mut attackers = Vec::new();
            for at in 0..affordable(10_000) {
                let mut stream = connect(server).await;
                // Some send nothing.
                if at % 4 != 0 {
                    stream.write_all(half).await.expect("the kernel takes a few bytes");
                }
                attackers.push((stream, Instant::now()));
            }
            let mut lived = Vec::new();
            for (mut stream, since) in attackers {
                assert_eq!(to_the_end(&mut stream).await, "", "half a handshake is not answered");
                lived.push(since.elapsed());
            }
            // The first connections time out while later ones are opened, so only the last one can be timed.
            in_time("half-open handshakes", &lived[lived.len() - 1..]).replacen(
                '1',
                &lived.len().to_string(),
                1,
            )
        })
        .await;
}

#[tokio::test]
async fn connecting_and_disconnecting_leaves_no_state() {
    AttackSetup::open(Settings::new())
        .await
        .attacked_by("connection churn", async |server| {
            let began = Instant::now();
            let mut churned = 0;
            while began.elapsed() < ATTACK_DURATION {
                let mut client = server.client().await;
                client.subscribe(&format!("churn-{churned}")).await;
                let (stream, _) = client.into_parts();
                if churned % 2 == 0 {
                    stream.set_zero_linger().expect("TCP has this option");
                }
                churned += 1;
            }
            eventually("all channels but the bystander's are gone", async || {
                let channels = server.get("channels", &[]).await.json();
                channels["channels"].as_object().expect("an object").len() == 1
            })
            .await;
            format!("{churned} connections made and broken, nothing left of them")
        })
        .await;
}

#[tokio::test]
async fn forged_addresses_do_not_bypass_the_limit() {
    const PLACES: usize = 10;
    let settings = Settings::new().connection("max_connections_per_ip", PLACES);
    AttackSetup::open(settings)
        .await
        .attacked_by("forged X-Forwarded-For", async |server| {
            let mut stayed = Vec::new();
            let mut rejected = 0;
            let began = Instant::now();
            while began.elapsed() < ATTACK_DURATION {
                let address =
                    format!("203.0.113.{}, 198.51.100.{}", rejected % 250, rejected / 250 % 250);
                let headers = [
                    ("x-forwarded-for", address.as_str()),
                    ("forwarded", "for=203.0.113.9"),
                    ("x-real-ip", "203.0.113.9"),
                ];
                let target = format!("/app/{KEY}?protocol=7");
                let (mut client, _) = Client::open(server.address, &target, &headers).await;
                let first = client.next().await;
                if first["event"] == "pusher:error" {
                    assert_eq!(first["data"]["code"], 4100, "{first}");
                    assert!(matches!(client.frame().await, Some(Frame::Close(4100, _))));
                    rejected += 1;
                } else {
                    stayed.push(client);
                }
            }
            // The bystander has the same address.
            assert_eq!(stayed.len(), PLACES - 1, "the maximum number per address");
            assert!(
                !server.process.output().contains("203.0.113."),
                "the log must contain the real address"
            );
            format!(
                "{} let in, {rejected} rejected with 4100 and logged by their real address",
                stayed.len()
            )
        })
        .await;
}

/// Asserts that no connection was closed before its timeout or long after it.
pub(crate) fn in_time(who: &str, lived: &[Duration]) -> String {
    let (least, most) = (lived.iter().min(), lived.iter().max());
    let (least, most) = (least.expect("there were some"), most.expect("there were some"));
    let patience = Duration::from_secs(PATIENCE_S);
    // The clocks of the two sides start at different moments.
    assert!(
        patience <= *least + Duration::from_millis(200),
        "{who}: the first was cut off after {least:?}"
    );
    assert!(*most < patience + SLACK, "{who}: the last was cut off after {most:?}");
    format!(
        "{} cut off after {:.1} to {:.1} s",
        lived.len(),
        least.as_secs_f64(),
        most.as_secs_f64()
    )
}

pub(crate) async fn connect(server: &Server) -> TcpStream {
    within("a TCP connection", TcpStream::connect(server.address))
        .await
        .expect("the server listens")
}

/// Everything that the server sends before it closes.
pub(crate) async fn to_the_end(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    // A reset counts as the end; the data before it is kept.
    let _reset = within("the server to hang up", stream.read_to_end(&mut received)).await;
    String::from_utf8(received).expect("the server sends UTF-8 only")
}
