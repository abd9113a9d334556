//! Events that the endpoint rejects, in queues shared by several nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::group::{Group, request, sample, until, webhooks};
use kit::Settings;
use kit::webhook_receiver::{Request, WebhookReceiver};

const ROUNDS: u64 = 20;

/// An endpoint that answers `status` to each request with a poisonous event, until it is repaired.
async fn picky(status: u16) -> (WebhookReceiver, Arc<AtomicBool>) {
    let is_mended = Arc::new(AtomicBool::new(false));
    let mended = Arc::clone(&is_mended);
    let judge = move |request: &Request| {
        let is_rejected = request.body.contains("poison") && !mended.load(Ordering::SeqCst);
        if is_rejected { status } else { 200 }
    };
    (WebhookReceiver::answering_by_request(judge).await, is_mended)
}

fn settings(receiver: &WebhookReceiver) -> Settings {
    webhooks(&[(receiver, r#"["client_event"]"#)]).app("client_events_per_second", 1_000)
}

/// Poisonous events keep arriving, and all others are delivered in order. Dead letters outlive their node, and
/// are delivered once the endpoint accepts them.
async fn others_pass(
    mut group: Group,
    (mut receiver, is_mended): (WebhookReceiver, Arc<AtomicBool>),
) {
    let leader = group.leader().await;
    let mut client = group.client(1 - leader).await;
    client.subscribe("private-a").await;
    for round in 0..ROUNDS {
        for data in [json!(2 * round), json!("poison"), json!(2 * round + 1)] {
            client.whisper("client-a", "private-a", data).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut delivered = Vec::new();
    while delivered.len() < 2 * usize::try_from(ROUNDS).expect("it is small") {
        let request = request(&mut receiver).await;
        if !request.body.contains("poison") {
            let events = request.events();
            delivered.extend(events.iter().map(|event| event["data"].to_string()));
        }
    }
    assert_eq!(
        delivered,
        (0..2 * ROUNDS).map(|number| format!("\"{number}\"")).collect::<Vec<_>>()
    );
    let dead_letters = async |group: &Group| {
        let leader = &group.nodes[group.leader().await];
        sample(leader, "campanile_webhook_dead_letters").await
    };
    until("all poison is in the dead letters", async || dead_letters(&group).await == Some(ROUNDS))
        .await;
    group.kill(leader).await;
    until("another node has it", async || dead_letters(&group).await == Some(ROUNDS)).await;
    is_mended.store(true, Ordering::SeqCst);
    until("it is delivered one by one", async || dead_letters(&group).await < Some(ROUNDS - 2))
        .await;
    let waiting = sample(&group.nodes[0], "campanile_webhook_events_waiting").await;
    assert_eq!(waiting, Some(0));
}

#[tokio::test]
async fn a_rejected_event_becomes_a_dead_letter_in_redis() {
    let receiver = picky(422).await;
    others_pass(Group::of(2, settings(&receiver.0)).await, receiver).await;
}

#[tokio::test]
async fn an_event_on_which_the_endpoint_fails_becomes_a_dead_letter_in_redis() {
    let receiver = picky(500).await;
    others_pass(Group::of(2, settings(&receiver.0)).await, receiver).await;
}

#[tokio::test]
async fn a_rejected_event_becomes_a_dead_letter_on_a_redis_cluster() {
    let receiver = picky(400).await;
    others_pass(Group::on_a_cluster(2, settings(&receiver.0)).await, receiver).await;
}
