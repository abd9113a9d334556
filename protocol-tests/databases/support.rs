//! Rows of the table, and servers that read it.

use kit::{APP_ID, Call, Client, KEY, Reply, SECRET, Server, Settings, eventually, quoted};
use serde_json::json;

use crate::server::Database;

/// The settings of a server whose apps are in `database`, which reads known apps again after `ttl_s`.
pub(crate) fn settings(database: &Database, ttl_s: u32) -> Settings {
    Settings::without_apps()
        .section("apps_from", "url", quoted(&database.url()))
        .section("apps_from", "cache_ttl_s", ttl_s)
        // A busy machine must not cause an outage.
        .section("apps_from", "timeout_ms", 10_000)
        .section("metrics", "token", quoted("t"))
}

/// The key of the app `id` in tests with several.
pub(crate) fn key_of(id: &str) -> String {
    format!("key-of-{id}")
}

/// The secret of the app `id` in tests with several.
pub(crate) fn secret_of(id: &str) -> String {
    format!("a-secret-of-the-app-{id}")
}

impl Database {
    /// Adds a row with the required columns.
    pub(crate) async fn insert(&self, id: &str, key: &str, secret: &str) {
        self.execute(&format!(
            r#"INSERT INTO apps (id, "key", secret, max_connections, enable_client_messages, "enabled",
                max_backend_events_per_sec, max_client_events_per_sec, max_read_req_per_sec, webhooks,
                enable_user_authentication)
            VALUES ('{id}', '{key}', '{secret}', -1, 1, 1, -1, -1, -1, '[]', 0)"#
        ))
        .await;
    }

    /// Adds the test app, which the functions of the kit use.
    pub(crate) async fn insert_test_app(&self) {
        self.insert(APP_ID, KEY, SECRET).await;
    }

    /// Adds another app, with its [`key_of`] and [`secret_of`].
    pub(crate) async fn insert_app(&self, id: &str) {
        self.insert(id, &key_of(id), &secret_of(id)).await;
    }

    /// Changes columns of an app.
    pub(crate) async fn update(&self, id: &str, changes: &str) {
        self.execute(&format!("UPDATE apps SET {changes} WHERE id = '{id}'")).await;
    }
}

/// Publishes as an app of [`Database::insert_app`].
pub(crate) async fn publish_as(server: &Server, id: &str) -> Reply {
    publish_signed(server, id, &key_of(id), &secret_of(id)).await
}

/// Publishes as any app.
pub(crate) async fn publish_signed(server: &Server, id: &str, key: &str, secret: &str) -> Reply {
    let body = json!({ "name": "e", "channel": "c", "data": "1" }).to_string();
    let call = Call::new("POST", &format!("/apps/{id}/events"), body);
    call.credentials(key, secret).send(server).await
}

/// A connection to the app with this key, which must be accepted.
pub(crate) async fn connect(server: &Server, key: &str) -> Client {
    let mut client = open(server, key).await;
    client.established().await;
    client
}

/// A connection to the app with this key, before its first message is read.
pub(crate) async fn open(server: &Server, key: &str) -> Client {
    server.open(&format!("/app/{key}?protocol=7")).await
}

/// The number of a metric of the database, such as `queries_total{result="answered"}`.
pub(crate) async fn metric(server: &Server, name: &str) -> u64 {
    let page = server.metrics_page().await;
    let prefix = format!("campanile_app_database_{name} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("{prefix}is missing")).parse().expect("a number")
}

/// The first line of the server's log with this text, once there is one.
pub(crate) async fn wait_for_line(server: &Server, text: &str) -> String {
    eventually(text, async || !logged(server, text).is_empty()).await;
    logged(server, text).swap_remove(0)
}

/// The lines of the server's log with this text, so far.
pub(crate) fn logged(server: &Server, text: &str) -> Vec<String> {
    let log = server.process.stream("err");
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}
