use super::{testbed::Testbed, *};

/// A message that can't be read shows whether messages of its server are read at all.
#[tokio::test(start_paused = true)]
async fn messages_count_only_from_the_server_of_the_subscription() {
    let mut testbed = Testbed::joined(true).await;
    testbed.subscribe(1, "a", None);
    testbed.settle().await;
    let (bus, partition) = testbed.channel("a");
    let unexpected = |testbed: &Testbed| testbed.coordinator.shared.metrics.unexpected_data.get();
    testbed.coordinator.on_message(ServerId::test(1_000), bus.as_bytes(), b"unreadable");
    assert_eq!(unexpected(&testbed), 0, "another server");
    testbed.ask(partition, &["SPUBLISH", &bus, "unreadable"]);
    testbed.run_for(Duration::from_secs(1)).await;
    assert_eq!(unexpected(&testbed), 1);
}
