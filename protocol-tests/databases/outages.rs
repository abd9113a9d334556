//! Databases that are killed, paused, or not there yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kit::{APP_ID, Client, Http, KEY, Redis, SECRET, Server, eventually, node, quoted};

use crate::server::Database;
use crate::support::{
    connect, key_of, logged, metric, open, publish_as, publish_signed, settings, wait_for_line,
};

/// Publishes and connects as the test app until it is stopped; each must succeed.
struct Load {
    is_stopping: Arc<AtomicBool>,
    rounds: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(server: Arc<Server>) -> Self {
        let (is_stopping, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopping, counter) = (Arc::clone(&is_stopping), Arc::clone(&rounds));
        let task = tokio::spawn(async move {
            let mut client: Client = server.client().await;
            client.subscribe("load").await;
            while !stopping.load(Ordering::Relaxed) {
                server.publish("load", "e", "1").await;
                client.expect_event("load", "e", "1").await;
                server.client().await;
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { is_stopping, rounds, task }
    }

    /// Waits until it has done some more rounds.
    async fn go_on(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        eventually("the load goes on", async || {
            self.task.is_finished() || before + 10 < self.rounds.load(Ordering::Relaxed)
        })
        .await;
        assert!(!self.task.is_finished(), "a publish or a connection has failed");
    }

    async fn stop(self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.task.await.expect("each publish and each connection succeeded");
    }
}

/// Apps that are not known are rejected so that clients and publishers try again.
async fn assert_unavailable(server: &Server, id: &str) {
    let sentence = open(server, &key_of(id)).await.rejected(4100).await;
    assert_eq!(sentence, "Apps cannot be looked up: please reconnect shortly");
    let reply = publish_as(server, id).await;
    assert_eq!(reply.header("retry-after"), Some("1"), "{reply}");
    let sentence = reply.error(503);
    assert!(sentence.starts_with("Apps cannot be looked up"), "{sentence}");
}

async fn known_apps_outlive_the_database(mut database: Database) {
    database.insert_test_app().await;
    database.insert_app("2").await;
    let settings = settings(&database, 1).section("apps_from", "timeout_ms", 2_000);
    let server = Arc::new(settings.start_node().await);
    let start = Instant::now();
    let load = Load::start(Arc::clone(&server));
    load.go_on().await;
    let failures = async || {
        metric(&server, r#"queries_total{result="failed"}"#).await
            + metric(&server, r#"queries_total{result="timeout"}"#).await
    };
    for round in 1..=2 {
        database.server().kill();
        // Several times the time after which known apps are read again.
        let before = failures().await;
        eventually("queries fail", async || before + 3 <= failures().await).await;
        load.go_on().await;
        assert_unavailable(&server, "2").await;
        let (status, _) = kit::readiness(server.address).await;
        assert_eq!(status, 200);
        if round == 1 {
            let line = wait_for_line(&server, "app database unavailable").await;
            assert!(line.contains("failures=1"), "{line}");
        }
        database.start_again().await;
        eventually("the log says that it is back", async || {
            round <= logged(&server, "app database available again").len()
        })
        .await;
        load.go_on().await;
    }
    // One line a minute.
    let minutes = usize::try_from(start.elapsed().as_secs() / 60).expect("a short test");
    let lines = logged(&server, "app database unavailable");
    assert!(lines.len() <= 1 + minutes, "{lines:?}");
    assert_eq!(publish_as(&server, "2").await.status, 200);
    connect(&server, &key_of("2")).await;
    assert!(0 < metric(&server, r#"lookups_total{result="unavailable"}"#).await);
    // Changes apply again.
    database.update("2", "\"enabled\" = 0").await;
    eventually("the app is disabled", async || publish_as(&server, "2").await.status == 403).await;
    load.stop().await;
}

#[tokio::test]
async fn known_apps_outlive_a_killed_postgres_under_load() {
    known_apps_outlive_the_database(Database::postgres().await).await;
}

#[tokio::test]
async fn known_apps_outlive_a_killed_mariadb_under_load() {
    known_apps_outlive_the_database(Database::mariadb().await).await;
}

#[tokio::test]
async fn a_paused_database_is_waited_for_until_the_deadline_only() {
    let mut database = Database::mariadb().await;
    database.insert_test_app().await;
    database.insert_app("2").await;
    let settings = settings(&database, 3_600).section("apps_from", "timeout_ms", 2_000);
    let server = settings.start_node().await;
    server.client().await;
    database.server().freeze();
    let start = Instant::now();
    open(&server, &key_of("2")).await.rejected(4100).await;
    let waited = start.elapsed();
    assert!(Duration::from_millis(1_950) < waited, "{waited:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    // During the outage nobody waits, and the known app is served.
    assert_unavailable(&server, "2").await;
    server.client().await;
    server.publish("c", "e", "1").await;
    database.server().thaw();
    eventually("the app is found", async || publish_as(&server, "2").await.status == 200).await;
    assert!(0 < metric(&server, r#"queries_total{result="timeout"}"#).await);
}

#[tokio::test]
async fn a_server_starts_before_its_database() {
    let mut database = Database::postgres().await;
    database.insert_test_app().await;
    database.server().kill();
    let server = settings(&database, 3_600).start_node().await;
    assert_eq!(Http::plain(server.address, "GET", "/ready", &[]).await.status, 200);
    open(&server, KEY).await.rejected(4100).await;
    assert_eq!(publish_signed(&server, APP_ID, KEY, SECRET).await.status, 503);
    database.start_again().await;
    eventually("the app is found", async || {
        publish_signed(&server, APP_ID, KEY, SECRET).await.status == 200
    })
    .await;
    server.client().await;
}

#[tokio::test]
async fn a_table_that_is_missing_is_an_outage_and_not_an_unknown_app() {
    let database = Database::sqlite().await;
    let settings = settings(&database, 3_600).section("apps_from", "table", quoted("tenants"));
    let server = settings.start_node().await;
    open(&server, KEY).await.rejected(4100).await;
    let line = wait_for_line(&server, "app database unavailable").await;
    assert!(line.contains("no such table: tenants"), "{line}");
    database.execute("ALTER TABLE apps RENAME TO tenants").await;
    database.execute(&format!(
        "INSERT INTO tenants SELECT '{APP_ID}', '{KEY}', '{SECRET}', -1, 1, 1, -1, -1, -1, '[]', NULL, NULL, NULL, NULL, \
         NULL, NULL, NULL, 0, NULL, NULL"
    ))
    .await;
    eventually("the app is found", async || {
        publish_signed(&server, APP_ID, KEY, SECRET).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_rejected_query_fails_its_own_lookup_only() {
    let database = Database::postgres().await;
    database.insert_app("7").await;
    // The database does not compare numbers with texts.
    database.execute("ALTER TABLE apps ALTER COLUMN id TYPE integer USING id::integer").await;
    let server = settings(&database, 1).start_node().await;
    for _ in 0..3 {
        assert_eq!(publish_as(&server, "9").await.status, 503);
    }
    wait_for_line(&server, "app database rejected a query").await;
    let mut client = open(&server, &key_of("7")).await;
    client.established().await;
    assert_eq!(publish_as(&server, "7").await.status, 200, "it is known by its id now");
    // It is read again each second, which fails, and closes no client.
    let failed = async || metric(&server, r#"queries_total{result="failed"}"#).await;
    let before = failed().await;
    eventually("it was read again", async || before + 3 <= failed().await).await;
    client.ping_barrier().await;
    assert!(!server.process.stream("err").contains("unavailable"), "{}", server.process.output());
}

#[tokio::test]
async fn a_name_with_a_control_character_is_unknown_without_a_query() {
    let database = Database::postgres().await;
    let server = settings(&database, 3_600).start_node().await;
    open(&server, "a%00b").await.rejected(4001).await;
    assert_eq!(publish_as(&server, "%00").await.status, 404);
    for result in ["answered", "failed"] {
        let name = format!(r#"queries_total{{result="{result}"}}"#);
        assert_eq!(metric(&server, &name).await, 0, "{result}");
    }
}

#[tokio::test]
async fn a_certificate_is_verified_if_the_url_says_so() {
    let mut database = Database::postgres().await;
    database.insert_test_app().await;
    let certificate = database.server().directory.path().join("cert.pem");
    let url = |authorities: &str| {
        format!("{}?sslmode=verify-full&sslrootcert={authorities}", database.url())
    };
    let with = |url: String| settings(&database, 3_600).section("apps_from", "url", quoted(&url));
    let good = with(url(certificate.to_str().expect("a name in UTF-8"))).start_node().await;
    good.client().await;
    let other = kit::Directory::new();
    kit::tls::Certificate::new().write(&other);
    let path = other.path().join("cert.pem");
    let bad = with(url(path.to_str().expect("a name in UTF-8"))).start_node().await;
    open(&bad, KEY).await.rejected(4100).await;
    let line = wait_for_line(&bad, "app database unavailable").await;
    assert!(line.contains("certificate"), "{line}");
    assert!(!bad.process.output().contains("pass"), "the URL is not logged");
}

#[tokio::test]
async fn each_node_of_a_cluster_looks_apps_up_by_itself() {
    let mut database = Database::mariadb().await;
    database.insert_test_app().await;
    let redis = Redis::start().await;
    let settings = settings(&database, 1);
    let one = node(&settings, &redis.url()).await;
    let two = node(&settings, &redis.url()).await;
    let mut client = one.client().await;
    client.subscribe("c").await;
    assert_eq!(metric(&two, "apps").await, 0);
    two.publish("c", "e", "1").await;
    client.expect_event("c", "e", "1").await;
    assert_eq!((metric(&one, "apps").await, metric(&two, "apps").await), (1, 1));
    let mut other = two.client().await;
    other.join("presence-c", "a").await;
    let users = one.get("channels/presence-c/users", &[]).await.json();
    assert_eq!(users["users"][0]["id"], "a", "{users}");
    // Both notice a change, and the events of a cluster go on while the database is away.
    database.update(APP_ID, "max_event_name_length = 1").await;
    for server in [&one, &two] {
        eventually("the limit applies", async || {
            let event = serde_json::json!({ "name": "ab", "channel": "other", "data": "1" });
            server.post("events", &event).await.status == 400
        })
        .await;
    }
    database.server().kill();
    two.publish("c", "f", "2").await;
    client.expect_event("c", "f", "2").await;
    database.start_again().await;
    database.execute(&format!("DELETE FROM apps WHERE id = '{APP_ID}'")).await;
    client.rejected(4003).await;
    other.closed_eventually().await;
    open(&one, KEY).await.rejected(4001).await;
}
