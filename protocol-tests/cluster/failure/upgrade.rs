//! Upgrades from the previous release and back, while clients are served.

use std::sync::Arc;

use crate::support::{
    C, Group, Ledger, Listener, R, RECOVERY_MAX, View, assert_history_valid,
    assert_view_everywhere, member,
};
use kit::{Process, Redis, Server, Settings, cluster_settings, free_port, previous_program};

use super::rolling::{Clients, assert_all_accepted, replace_each};

fn settings() -> Settings {
    cluster_settings().server("shutdown_grace_s", 3)
}

/// Three nodes of the previous release are replaced one by one, then those by the previous release again. Nodes of both
/// versions serve the same channels meanwhile.
#[tokio::test]
async fn a_rolling_upgrade_and_a_rolling_downgrade_lose_nothing() {
    let (present, previous) = (settings(), settings().run_by(previous_program()));
    let mut group = Group::with(3, previous.clone(), Redis::start().await).await;
    let ledger = Arc::new(Ledger::default());
    let mut clients = Clients::of(&group).await;
    for next in [present, previous] {
        group.settings = next;
        replace_each(&mut group, &ledger, &mut clients).await;
        let users = clients.users();
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        let count = u64::try_from(users.len()).expect("a few");
        let truth = View::default().with_count(C, count).with_users(R, &users);
        let truth = truth.with_connections(count);
        assert_view_everywhere(&group.addresses(), RECOVERY_MAX, &truth).await;
    }
    assert_all_accepted(&ledger);
    assert_history_valid(&ledger, &clients.all()).await;
}

/// A node alone hands its port over to the other version, up and down. A client is closed with 4100, or with 4200 if the
/// next process already serves, and is served by the next process either way.
#[tokio::test]
async fn a_single_node_hands_over_to_the_other_version_and_back() {
    let port = free_port();
    let versions = [Settings::new().run_by(previous_program()), Settings::new()];
    let mut server = Server::start_on(&versions[0], port).await;
    for next in [1, 0] {
        let client = member(&server, "1").await;
        server.publish(C, "before", "1").await;
        client.receives("before", C, 1, RECOVERY_MAX).await;
        server.signal("TERM");
        let mut old = std::mem::replace(&mut server, Server::start_on(&versions[next], port).await);
        client.until("it is closed", RECOVERY_MAX, |_| client.closed().is_some()).await;
        assert_eq!(old.process.exit_code().await, Some(0));
        let log = old.process.output();
        let takes_over = log.find("another process");
        let closes = log.find("draining; ").expect("the line about the close code");
        let code = if takes_over.is_some_and(|line| line < closes) { 4200 } else { 4100 };
        assert_eq!(client.closed(), Some(code), "{}\n{log}", client.tail(5));
        let back = Listener::of(&server).await;
        back.join(R, "1").await;
        back.subscribe(C).await;
        server.publish(C, "after", "1").await;
        back.receives("after", C, 1, RECOVERY_MAX).await;
    }
}

/// The file names a commit that the history has, or the previous program was given. Otherwise the tests above compare the
/// present program with itself; `previous_program` says so on standard error.
#[tokio::test]
async fn the_previous_program_runs() {
    let directory = kit::Directory::new();
    let mut process = Process::spawn_program(previous_program(), &["--version"], directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    assert!(process.stream("out").starts_with("campanile "), "{}", process.output());
}
