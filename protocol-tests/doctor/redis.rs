//! Causes in the Redis of the configuration.

use crate::{at, changes, doctor, is_ready, served};
use kit::{Directory, Redis, Settings, eventually, free_port, quoted};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    thread,
};

fn clustered(url: &str) -> Settings {
    Settings::new().section("redis", "url", quoted(url))
}

#[tokio::test]
async fn nothing_is_wrong_with_a_node_that_has_joined() {
    let redis = Redis::start().await;
    let (server, directory) = served(&clustered(&redis.url())).await;
    eventually("the node has joined", async || is_ready(&server).await).await;
    doctor(&directory, &[]).await.well(&["redis", "server", "health", "direct"]);
}

#[tokio::test]
async fn redis_unreachable() {
    let url = format!("redis://:a-password-of-redis@127.0.0.1:{}", free_port());
    let (_server, directory) = served(&clustered(&url)).await;
    let diagnosis = doctor(&directory, &[]).await;
    let finding = diagnosis.only("redis_unreachable");
    assert!(finding["seen"].to_string().contains("connection refused"), "{finding:#}");
    assert!(!diagnosis.report.to_string().contains("a-password"), "{finding:#}");
}

#[tokio::test]
async fn redis_eviction_policy() {
    let redis = Redis::start_with(&[
        "--save",
        "",
        "--maxmemory",
        "100mb",
        "--maxmemory-policy",
        "allkeys-lru",
    ])
    .await;
    let (server, directory) = served(&clustered(&redis.url())).await;
    eventually("the node has joined", async || is_ready(&server).await).await;
    let diagnosis = doctor(&directory, &[]).await;
    let finding = diagnosis.only("redis_eviction_policy");
    assert!(changes(finding)[0].contains("maxmemory-policy noeviction"), "{finding:#}");
}

#[tokio::test]
async fn redis_prefix_differs() {
    let redis = Redis::start().await;
    let settings = clustered(&redis.url());
    let server = settings.start_node().await;
    eventually("the node has joined", async || is_ready(&server).await).await;
    let directory = Directory::new();
    let other = settings.section("redis", "prefix", quoted("other"));
    directory.write("config.toml", &at(&server, &other).toml());
    let diagnosis = doctor(&directory, &[]).await;
    let finding = diagnosis.only("redis_prefix_differs");
    assert!(finding["seen"].to_string().contains("other"), "{finding:#}");
}

/// Answers as Redis 6.0 does, which packages no longer have.
fn old_redis() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut output = stream.try_clone().expect("a descriptor");
                for word in BufReader::new(stream).lines().map_while(Result::ok) {
                    let info = "redis_version:6.0.16\r\nmaxmemory_policy:noeviction";
                    let reply = match word.as_str() {
                        "HELLO" => "%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n".to_owned(),
                        "ROLE" => "*1\r\n$6\r\nmaster\r\n".to_owned(),
                        "INFO" => format!("${}\r\n{info}\r\n", info.len()),
                        _ => continue,
                    };
                    if output.write_all(reply.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("redis://{address}")
}

#[tokio::test]
async fn redis_version_old() {
    let directory = Directory::new();
    directory.write("config.toml", &clustered(&old_redis()).toml());
    let diagnosis = doctor(&directory, &[]).await;
    let finding = diagnosis.only("redis_version_old");
    assert!(finding["seen"].to_string().contains("6.0.16"), "{finding:#}");
}

#[tokio::test]
async fn configuration_cached_by_a_server_without_redis() {
    let redis = Redis::start().await;
    let server = Settings::new().start_node().await;
    let directory = Directory::new();
    let settings = Settings::new().section("redis", "url", quoted(&redis.url()));
    directory.write("config.toml", &at(&server, &settings).toml());
    let diagnosis = doctor(&directory, &["--quick"]).await;
    let finding = diagnosis.only("configuration_cached");
    assert!(finding["seen"].to_string().contains("has no Redis"), "{finding:#}");
}
