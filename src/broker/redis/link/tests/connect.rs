use super::{
    connect, endpoint,
    fake::{Fake, bulk},
};
use crate::broker::redis::link::{Dial, RedisEndpoint, RedisStream};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::TcpListener,
    time::{Instant, sleep},
};

async fn reason(url: &str) -> String {
    connect(url).await.unwrap_err().to_string()
}

#[tokio::test]
async fn the_error_of_a_failed_connection_has_the_reason() {
    let fake = Fake::start().await;
    for rejection in [
        "WRONGPASS invalid username-password pair or user is disabled.",
        "NOAUTH HELLO must be called with the client already authenticated",
        "NOPERM this user has no permissions to run the 'hello' command",
    ] {
        let (code, text) = rejection.split_once(' ').unwrap();
        fake.reply(move |line| line.starts_with("HELLO").then(|| format!("-{rejection}\r\n")));
        for scheme in ["redis", "redis+cluster"] {
            let url = format!("{scheme}://:secret@127.0.0.1:{}", fake.port);
            let error = connect(&url).await.unwrap_err();
            assert_eq!((error.code(), error.detail()), (Some(code), Some(text)));
        }
    }
    assert!(fake.seen("HELLO 3 AUTH default secret") > 0);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for scheme in ["redis", "redis+cluster"] {
        let error = connect(&format!("{scheme}://{closed}")).await.unwrap_err();
        assert!(error.is_connection_refusal(), "{error}");
    }
    let why = reason("redis://name.invalid:6379").await;
    assert!(why.contains("lookup") || why.contains("resolving"), "{why}");
}

#[tokio::test]
async fn a_replica_is_rejected() {
    let fake = Fake::start().await;
    let url = format!("redis://127.0.0.1:{}", fake.port);
    fake.reply(|line| {
        let role =
            || format!("*5\r\n{}{}:6379\r\n{}:0\r\n", bulk("slave"), bulk("h"), bulk("connected"));
        (line == "ROLE").then(role)
    });
    assert_eq!(reason(&url).await, "this Redis is a replica");
    // If the user has no right to that command, the server is assumed to be a master.
    fake.reply(|line| (line == "ROLE").then(|| "-NOPERM no\r\n".to_owned()));
    connect(&url).await.unwrap();
}

#[tokio::test]
async fn a_server_that_never_replies_times_out() {
    // The kernel accepts the connections, and no process answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for scheme in ["redis", "redis+cluster"] {
        let start = Instant::now();
        let error = connect(&format!("{scheme}://{address}")).await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn scripts_are_loaded_at_once() {
    let fake = Fake::start().await;
    let (connection, _pushes) =
        endpoint(&format!("redis://127.0.0.1:{}/3", fake.port)).connect().await.unwrap();
    assert_eq!(fake.seen("SELECT 3"), 2);
    let names = connection.load(&["a", "b", "c"]).await.unwrap();
    assert_eq!(names, ["SCRIPT LOAD a", "SCRIPT LOAD b", "SCRIPT LOAD c"]);
    fake.reply(|line| (line == "SCRIPT LOAD b").then(|| "-NOPERM no\r\n".to_owned()));
    assert_eq!(connection.load(&["a", "b"]).await.unwrap_err().code(), Some("NOPERM"));
}

#[tokio::test]
async fn a_server_that_may_evict_keys_is_reported() {
    let fake = Fake::start().await;
    let url = format!("redis://127.0.0.1:{}", fake.port);
    let (connection, _pushes) = connect(&url).await.unwrap();
    for (policy, is_reported) in
        [("allkeys-lru", true), ("allkeys-random", true), ("noeviction", false)]
    {
        let info = format!("used_memory:1\r\nmaxmemory:0\r\nmaxmemory_policy:{policy}\r\n");
        fake.reply(move |line| (line == "INFO memory").then(|| bulk(&info)));
        let warning = connection.memory_warning().await;
        assert_eq!(warning.is_some(), is_reported, "{warning:?}");
        if let Some(warning) = warning {
            assert!(warning.contains(policy) && warning.contains(&fake.port.to_string()));
            assert!(warning.contains("noeviction"), "{warning}");
        }
    }
    fake.reply(|line| (line == "INFO memory").then(|| "-NOPERM no\r\n".to_owned()));
    assert_eq!(connection.memory_warning().await, None);
}

/// A server at the other end of an in-memory stream, so that only the round trips take time.
fn far_away(round_trip: Duration) -> RedisEndpoint {
    let dial: Dial = Arc::new(move |_, _| {
        Box::pin(async move {
            sleep(round_trip).await;
            let (near, far) = duplex(1024 * 1024);
            tokio::spawn(reply_late(far, round_trip));
            Ok(Box::new(near) as Box<dyn RedisStream>)
        })
    });
    RedisEndpoint::over(dial, &[("redis".to_owned(), 6_379)], false)
}

async fn reply_late(mut stream: DuplexStream, round_trip: Duration) {
    let mut bytes = vec![0; 1024 * 1024];
    while let Ok(len @ 1..) = stream.read(&mut bytes).await {
        sleep(round_trip).await;
        let commands = str::from_utf8(&bytes[..len]).unwrap().matches('*').count();
        if stream.write_all("+OK\r\n".repeat(commands).as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connecting_takes_three_round_trips_and_loading_scripts_one() {
    let round_trip = Duration::from_millis(400);
    let start = Instant::now();
    let (connection, _pushes) = far_away(round_trip).connect().await.unwrap();
    assert!(start.elapsed() <= 3 * round_trip, "{:?}", start.elapsed());
    let scripts = ["return 1"; 20];
    let start = Instant::now();
    assert_eq!(connection.load(&scripts).await.unwrap().len(), 20);
    assert!(start.elapsed() <= round_trip, "{:?}", start.elapsed());
    // With a longer round trip, it fails with a timeout.
    let error = far_away(3 * round_trip * 2).connect().await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
}
