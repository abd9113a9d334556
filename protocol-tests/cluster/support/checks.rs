//! Compares what listeners received with what was published.

use std::time::{Duration, Instant};

use super::{Checker, Ledger, Listener, RECOVERY_MAX, Rule, Violation};

/// Checks what several clients received of a ledger's publishes.
fn check_all(ledger: &Ledger, listeners: &[&Listener]) -> Result<(), Violation> {
    let received: Vec<_> = listeners
        .iter()
        .map(|listener| (listener.socket_id.clone(), listener.received()))
        .collect();
    let violations = Checker::new(ledger.all(), &received).violations();
    // Violations that events in transit explain are returned last.
    let is_final = |violation: &&Violation| violation.rule != Rule::Complete;
    match violations.iter().find(is_final).or(violations.first()) {
        Some(violation) => Err(violation.clone()),
        None => Ok(()),
    }
}

/// Waits until every connected listener has received the last publishes, then checks everything.
pub(crate) async fn assert_history_valid(ledger: &Ledger, listeners: &[Listener]) {
    let listeners: Vec<&Listener> = listeners.iter().collect();
    let start = Instant::now();
    // Events that were accepted last may be in transit. An event that must not be received would arrive on the same
    // connection before the reply to the ping.
    while let Err(wrong) = check_all(ledger, &listeners) {
        assert!(
            start.elapsed() < 2 * RECOVERY_MAX && wrong.rule == Rule::Complete,
            "{}\n{}",
            wrong.text,
            listeners.iter().map(|listener| listener.tail(40)).collect::<Vec<_>>().join("\n")
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for listener in &listeners {
        if listener.closed().is_none() {
            listener.ping_barrier().await;
        }
    }
    if let Err(wrong) = check_all(ledger, &listeners) {
        panic!("{}", wrong.text);
    }
}
