//! The last events of cache channels, with the maximum number of channels and bytes that requests can create.

use serde_json::json;

use crate::setup::AttackSetup;
use kit::{Call, Http, Server, Settings, quoted};

const TOKEN: &str = "metrics-of-the-attacks";
const MAX_CACHE_BYTES: usize = 16 * 1_024 * 1_024;

/// Publishes events of 0.6 MB, the longest that escapes allow within `max_event_bytes`.
async fn publish(http: &mut Http, number: usize, channels: Vec<String>) {
    let (data, channels) = ("\\u0041".repeat(100_000), json!(channels));
    let body = format!(r#"{{"name":"e{number}","channels":{channels},"data":"{data}"}}"#);
    let reply = Call::post_text("events", body).send_on(http).await;
    assert_eq!(reply.status, 200, "{reply}");
}

async fn cache_bytes(server: &Server) -> usize {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let page = Http::plain(server.address, "GET", "/metrics", &headers).await;
    let line = page.text().lines().find(|line| line.starts_with("campanile_cache_bytes{"));
    let value = line.and_then(|line| line.rsplit(' ').next()).expect("the metric is there");
    value.parse().expect("it is a number")
}

#[tokio::test]
async fn cache_channels_keep_no_more_than_their_limit() {
    let settings = Settings::new()
        .section("metrics", "token", quoted(TOKEN))
        .app("max_cache_bytes", MAX_CACHE_BYTES);
    let setup = AttackSetup::open(settings).await;
    let attack = async |server: &Server| {
        let mut http = Http::connect(server.address).await;
        for number in 0..8 {
            let channels = (0..100).map(|at| format!("cache-{number}-{at}"));
            publish(&mut http, number, channels.collect()).await;
        }
        let shared = cache_bytes(server).await;
        assert!(shared < 6 * 1_024 * 1_024, "each request is kept once: {shared}");
        for number in 0..100 {
            publish(&mut http, number, vec![format!("cache-alone-{number}")]).await;
        }
        let kept = cache_bytes(server).await;
        assert!((MAX_CACHE_BYTES / 2..=MAX_CACHE_BYTES).contains(&kept), "{kept}");
        format!("900 channels with 540 MB of events keep {} KiB", kept / 1_024)
    };
    setup.attacked_by("large events on cache channels", attack).await;
}
