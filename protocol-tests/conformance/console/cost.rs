//! What a publish costs while no page is open.

use kit::{CountedAllocations, Settings};

use super::with_password;

const PUBLISHES: u64 = 300;

/// The allocations of a server while it delivers events to one subscriber.
async fn allocations(settings: &Settings) -> u64 {
    let (server, allocations) = CountedAllocations::start(settings).await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let mut publish = async |count: u64| {
        for number in 0..count {
            let data = number.to_string();
            server.publish("a", "e", &data).await;
            client.expect_event("a", "e", &data).await;
        }
    };
    // What is allocated once is not counted.
    publish(20).await;
    let before = allocations.count();
    publish(PUBLISHES).await;
    allocations.count() - before
}

/// Each second some are made for timers, which is why a small difference is allowed.
#[tokio::test]
async fn a_publish_allocates_the_same_with_a_console_at_which_nobody_looks() {
    let without = allocations(&Settings::new()).await;
    let with = allocations(&with_password()).await;
    assert!(PUBLISHES < without, "they are counted: {without}");
    let difference = with.abs_diff(without);
    assert!(difference < PUBLISHES / 2, "less than one for a publish: {without}, {with}");
}
