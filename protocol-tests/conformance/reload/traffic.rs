//! Reloads while events are published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kit::{Call, Http, Settings, inner};

use crate::Start as _;

use super::{event, with_other};

const RELOADS: usize = 30;

#[tokio::test]
async fn many_reloads_in_a_row_lose_no_event_and_no_request() {
    let server = Settings::new().start().await;
    let mut subscribers = Vec::new();
    for _ in 0..5 {
        let mut client = server.client().await;
        client.subscribe("c").await;
        subscribers.push(client);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let (over, address) = (Arc::clone(&is_over), server.address);
    let publishing = tokio::spawn(async move {
        let (mut http, mut published) = (Http::connect(address).await, 0);
        while !over.load(Ordering::Relaxed) {
            let reply = Call::post("events", &event("c", &published.to_string()));
            let reply = reply.send_on(&mut http).await;
            assert_eq!(reply.status, 200, "{reply}");
            published += 1;
        }
        published
    });
    for turn in 0..RELOADS {
        // Apps, limits and switches are added and removed.
        let settings = if turn % 2 == 0 { with_other() } else { Settings::new() };
        let settings = settings.connection("max_channels", 100 + turn).app("max_connections", turn);
        let report = server.reload(&settings).await;
        assert!(report.contains(" INFO "), "{report}");
    }
    is_over.store(true, Ordering::Relaxed);
    let published: usize = publishing.await.expect("each was answered with 200");
    assert!(RELOADS < published, "{published}");
    for client in &mut subscribers {
        for number in 0..published {
            let message = client.next().await;
            assert_eq!((&message["event"], inner(&message)), (&"e".into(), number.into()));
        }
    }
}
