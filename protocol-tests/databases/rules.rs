//! What holds with every database.

use kit::webhook_receiver::WebhookReceiver;
use kit::{APP_ID, Call, KEY, Process, SECRET, Server, eventually};
use serde_json::json;

use crate::server::Database;
use crate::support::{
    connect, key_of, logged, metric, open, publish_as, publish_signed, secret_of, settings,
    wait_for_line,
};

pub(crate) async fn an_app_is_found_by_its_exact_key_and_id(database: &mut Database) {
    database.insert_test_app().await;
    database.insert("2", "Key-Of-2", &secret_of("2")).await;
    let server = settings(database, 3_600).start_node().await;
    // By the id first, by the key first.
    assert_eq!(publish_signed(&server, "2", "Key-Of-2", &secret_of("2")).await.status, 200);
    let mut client = server.client().await;
    client.subscribe("private-c").await;
    server.publish("private-c", "e", "1").await;
    client.expect_event("private-c", "e", "1").await;
    connect(&server, "Key-Of-2").await;
    assert_eq!(metric(&server, "apps").await, 2);
    // Texts that some databases take as equal.
    for key in ["key-of-2", "Key-Of-2%20", "Key-Of-%32x"] {
        open(&server, key).await.rejected(4001).await;
    }
    for id in ["02", "2.0", "nobody"] {
        let sentence = publish_as(&server, id).await.error(404);
        assert!(sentence.starts_with("No app has the id"), "{sentence}");
    }
    // Texts that would end a statement.
    for name in ["'%20OR%20'1'='1", "%27;--", &"x".repeat(300)] {
        open(&server, name).await.rejected(4001).await;
    }
    if database.ignores_case() {
        database.insert("3b", "KEY-OF-2", &secret_of("3b")).await;
        connect(&server, "KEY-OF-2").await;
    }
    assert_eq!(metric(&server, r#"queries_total{result="failed"}"#).await, 0);
}

pub(crate) async fn columns_become_settings_and_nulls_defaults(database: &mut Database) {
    let mut receiver = WebhookReceiver::new().await;
    database.insert_test_app().await;
    let webhooks = json!([{ "url": receiver.url(), "event_types": ["channel_occupied"] }]);
    let changes = format!(
        "webhooks = '{webhooks}', max_event_name_length = 3, max_event_channels_at_once = 2, \
         max_presence_members_per_channel = 1, max_event_batch_size = 1, max_event_payload_in_kb = 1, \
         subscription_count = true"
    );
    database.update(APP_ID, &changes).await;
    let server = settings(database, 3_600).start_node().await;
    let mut client = server.client().await.with_counts();
    client.join("presence-c", "a").await;
    assert_eq!(receiver.next().await.events()[0]["name"], "channel_occupied");
    let mut second = server.client().await;
    let member = json!({ "user_id": "b", "user_info": {} }).to_string();
    second.send_subscribe_with("presence-c", &member).await;
    second.rejection("presence-c").await;
    let channels = |count: usize| (0..count).map(|at| format!("c{at}")).collect::<Vec<_>>();
    for (name, channels, data, status) in [
        ("abc", channels(2), "1".to_owned(), 200),
        ("abcd", channels(2), "1".to_owned(), 400),
        ("abc", channels(3), "1".to_owned(), 400),
        ("abc", channels(1), "x".repeat(1_024), 200),
        ("abc", channels(1), "x".repeat(1_025), 413),
    ] {
        let event = json!({ "name": name, "channels": channels, "data": data });
        assert_eq!(server.post("events", &event).await.status, status, "{name} {channels:?}");
    }
    client.subscribe("counted").await;
    client.expect_count("counted", 1).await;
    // Without a value, the default of Campanile applies.
    database.insert_app("2").await;
    let event = json!({ "name": "x".repeat(200), "channels": channels(100), "data": "1" });
    let call = Call::new("POST", "/apps/2/events", event.to_string());
    assert_eq!(call.credentials(&key_of("2"), &secret_of("2")).send(&server).await.status, 200);
}

pub(crate) async fn changes_of_a_row_apply_as_at_a_reload(database: &mut Database) {
    database.insert_test_app().await;
    database.insert_app("2").await;
    let server = settings(database, 1).start_node().await;
    let mut client = server.client().await;
    let mut other = connect(&server, &key_of("2")).await;
    other.subscribe("c").await;

    database.update(APP_ID, "max_event_name_length = 1").await;
    eventually("the limit applies", async || {
        server.post("events", &json!({ "name": "ab", "channel": "c", "data": "1" })).await.status
            == 400
    })
    .await;
    client.ping_barrier().await;
    let changed = wait_for_line(&server, "app changed in the database").await;
    assert!(changed.contains(r#"app="3" settings="max_event_name_length""#), "{changed}");

    database.update(APP_ID, "\"enabled\" = 0").await;
    client.rejected(4003).await;
    open(&server, KEY).await.rejected(4003).await;
    assert_eq!(publish_signed(&server, APP_ID, KEY, SECRET).await.status, 403);
    database.update(APP_ID, "\"enabled\" = 1, secret = 'another-secret-of-3'").await;
    eventually("the new secret applies", async || {
        publish_signed(&server, APP_ID, KEY, "another-secret-of-3").await.status == 200
    })
    .await;
    assert_eq!(publish_signed(&server, APP_ID, KEY, SECRET).await.status, 401);

    let mut client = server.client().await;
    database.update(APP_ID, "\"key\" = 'new-key'").await;
    client.rejected(4003).await;
    open(&server, KEY).await.rejected(4001).await;
    let mut client = connect(&server, "new-key").await;
    client.subscribe("c").await;
    assert_eq!(publish_signed(&server, APP_ID, "new-key", "another-secret-of-3").await.status, 200);
    client.expect_event("c", "e", "1").await;

    database.execute(&format!("DELETE FROM apps WHERE id = '{APP_ID}'")).await;
    client.rejected(4003).await;
    open(&server, "new-key").await.rejected(4001).await;
    publish_signed(&server, APP_ID, "new-key", "another-secret-of-3").await.error(404);
    assert_eq!(metric(&server, "apps").await, 1);
    // The other app has noticed nothing.
    assert_eq!(publish_as(&server, "2").await.status, 200);
    other.expect_event("c", "e", "1").await;
}

pub(crate) async fn an_invalid_row_is_named_and_the_other_apps_are_served(database: &mut Database) {
    for id in ["2", "3b", "4"] {
        database.insert_app(id).await;
    }
    database.update("2", "max_connections = -7").await;
    database.update("3b", "webhooks = '[{\"url\": 5}]'").await;
    let server = settings(database, 1).start_node().await;
    let line_of = |id: &str| format!("app of the database rejected app=\"{id}\"");
    for _ in 0..3 {
        publish_as(&server, "2").await.error(404);
    }
    open(&server, &key_of("3b")).await.rejected(4001).await;
    let of_3 = wait_for_line(&server, &line_of("3b")).await;
    assert!(of_3.contains("table apps: webhooks"), "{of_3}");
    let of_2 = logged(&server, &line_of("2"));
    assert_eq!(of_2.len(), 1, "it is logged once: {of_2:?}");
    assert!(of_2[0].contains("table apps: max_connections: is set to -7, and must be"), "{of_2:?}");
    let mut client = connect(&server, &key_of("4")).await;
    client.subscribe("c").await;
    // A known app whose row becomes invalid keeps its settings.
    database.update("4", "max_event_batch_size = 99999, max_connections = 1").await;
    wait_for_line(&server, &line_of("4")).await;
    connect(&server, &key_of("4")).await;
    assert_eq!(publish_as(&server, "4").await.status, 200);
    client.expect_event("c", "e", "1").await;
    // Two rows with one key: neither can be meant.
    database.insert("5", "one-key", &secret_of("5")).await;
    database.insert("6", "one-key", &secret_of("6")).await;
    open(&server, "one-key").await.rejected(4001).await;
    let several = wait_for_line(&server, "several rows have its key").await;
    assert!(several.contains(r#"app="one-key""#), "{several}");
    assert!(!server.process.output().contains("a-secret-of"), "secrets are not logged");
}

/// Runs `campanile apps reload` for an app, and returns its output and exit code.
async fn apps_reload(server: &Server, id: &str) -> (String, Option<i32>) {
    let (url, key, secret) = (server.url(), key_of(id), secret_of(id));
    let arguments =
        ["apps", "reload", "--url", &url, "--app-id", id, "--key", &key, "--secret", &secret];
    let mut process = Process::spawn(&arguments, server.directory.path());
    let code = process.exit_code().await;
    (process.output(), code)
}

pub(crate) async fn a_reload_reads_everything_again_and_a_command_one_app(database: &mut Database) {
    for id in ["2", "4"] {
        database.insert_app(id).await;
    }
    let server = settings(database, 3_600).start_node().await;
    let mut two = connect(&server, &key_of("2")).await;
    let mut four = connect(&server, &key_of("4")).await;
    for id in ["2", "4"] {
        database.update(id, "\"enabled\" = 0").await;
    }
    assert_eq!(apps_reload(&server, "2").await.1, Some(0));
    two.rejected(4003).await;
    four.ping_barrier().await;
    let (output, code) = apps_reload(&server, "2").await;
    assert!(code == Some(1) && output.contains("403"), "a disabled app has no API: {output}");

    publish_as(&server, "5").await.error(404);
    database.insert_app("5").await;
    let report = server.reload_unchanged().await;
    assert!(report.contains(" reloaded"), "{report}");
    four.rejected(4003).await;
    // The name is looked up again at once.
    assert_eq!(publish_as(&server, "5").await.status, 200);
    let (output, code) = apps_reload(&server, "5").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(r#"{"source":"database"}"#), "{output}");
}

pub(crate) async fn an_app_of_the_configuration_wins_over_the_database(database: &mut Database) {
    database.insert(APP_ID, "key-of-a-row", "a-secret-of-a-row-too").await;
    database.insert("9", KEY, &secret_of("9")).await;
    database.insert_app("2").await;
    let base = settings(database, 3_600);
    let configured = base.clone().add_app(APP_ID, KEY, SECRET);
    let server = configured.start_node().await;
    let mut client = server.client().await;
    client.subscribe("c").await;
    assert_eq!(publish_signed(&server, APP_ID, KEY, SECRET).await.status, 200);
    client.expect_event("c", "e", "1").await;
    assert_eq!(
        metric(&server, r#"queries_total{result="answered"}"#).await,
        0,
        "it is not looked up"
    );
    open(&server, "key-of-a-row").await.rejected(4001).await;
    publish_as(&server, "9").await.error(404);
    for id in [APP_ID, "9"] {
        let text = format!("app of the database rejected app=\"{id}\"");
        let line = wait_for_line(&server, &text).await;
        assert!(line.contains("is that of an app in the configuration"), "{line}");
    }
    // An app of the database that is configured later goes on under the same id and key.
    let mut moved = connect(&server, &key_of("2")).await;
    moved.subscribe("c").await;
    let both = configured.clone().add_app("2", &key_of("2"), &secret_of("2"));
    assert!(server.reload(&both).await.contains(r#"apps_added="2""#));
    assert_eq!(publish_as(&server, "2").await.status, 200);
    moved.expect_event("c", "e", "1").await;
    assert_eq!(metric(&server, "apps").await, 0);
}

pub(crate) async fn lookups_of_one_name_share_a_query_and_an_unknown_name_is_not_asked_for_again(
    database: &mut Database,
) {
    database.insert_test_app().await;
    let server = settings(database, 3_600).start_node().await;
    let queries = async || metric(&server, r#"queries_total{result="answered"}"#).await;
    let mut opening = Vec::new();
    for _ in 0..40 {
        opening.push(open(&server, KEY));
    }
    let mut clients = Vec::new();
    for opened in futures(opening).await {
        let mut client = opened;
        client.established().await;
        clients.push(client);
    }
    assert_eq!(queries().await, 1, "for forty connections");
    assert_eq!(publish_signed(&server, APP_ID, KEY, SECRET).await.status, 200);
    assert_eq!(queries().await, 1, "the app is known by its id as well");
    for _ in 0..20 {
        open(&server, "no-such-key").await.rejected(4001).await;
        publish_as(&server, "no-such-id").await.error(404);
    }
    let asked = queries().await;
    // A slow machine may take longer than the five seconds of a name.
    assert!((3..10).contains(&asked), "{asked}");
}

/// Runs all futures at the same time.
async fn futures<F>(all: Vec<F>) -> Vec<F::Output>
where
    F: Future,
{
    let mut pinned: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in pinned.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
