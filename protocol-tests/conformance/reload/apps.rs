//! Apps that are added, removed and changed.

use serde_json::json;

use kit::{APP_ID, Call, KEY, SECRET, Settings, eventually};

use crate::Start as _;

use super::{OTHER, ask_signed_by, client_of_other, event, publish_as_other, with_other};

#[tokio::test]
pub(super) async fn a_new_app_is_served_at_once_and_the_others_notice_nothing() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("c").await;
    assert_eq!(publish_as_other(&server, "c").await, 404);
    let report = server.reload(&with_other()).await;
    assert!(report.contains(r#"reloaded apps_added="4""#), "{report}");
    let mut other = client_of_other(&server).await;
    other.subscribe("c").await;
    assert_eq!(publish_as_other(&server, "c").await, 200);
    other.expect_event("c", "e", "1").await;
    server.assert_no_other_events("c", &mut [&mut client]).await;
}

#[tokio::test]
pub(super) async fn removing_an_app_closes_its_connections_with_4003_and_frees_its_state() {
    let server = with_other().start().await;
    let mut stays = server.client().await;
    stays.subscribe("c").await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = client_of_other(&server).await;
        client.subscribe("c").await;
        clients.push(client);
    }
    let report = server.reload(&Settings::new()).await;
    assert!(report.contains(r#"reloaded apps_removed="4""#), "{report}");
    for mut client in clients {
        assert_eq!(client.rejected(4003).await, "Application is disabled");
    }
    // For new requests, the app is unknown.
    assert_eq!(publish_as_other(&server, "c").await, 404);
    server.open(&format!("/app/{}", OTHER.1)).await.rejected(4001).await;
    let wrong = Call::get("channels").credentials(OTHER.1, OTHER.2).send(&server).await;
    assert!(wrong.error(400).contains("Unknown auth_key"));
    server.assert_no_other_events("c", &mut [&mut stays]).await;
    // If the app is added again, it starts without state.
    server.reload(&with_other()).await;
    let mut again = client_of_other(&server).await;
    let call = Call::new("GET", "/apps/4/channels", "").credentials(OTHER.1, OTHER.2);
    assert_eq!(call.send(&server).await.json(), json!({ "channels": {} }));
    again.subscribe("c").await;
    assert_eq!(publish_as_other(&server, "c").await, 200);
    again.expect_event("c", "e", "1").await;
}

#[tokio::test]
pub(super) async fn members_of_a_removed_app_leave_the_metrics() {
    let token = ("metrics", "token", r#""t""#);
    let settings = |with: Settings| with.section(token.0, token.1, token.2);
    let server = settings(with_other()).start().await;
    let mut client = client_of_other(&server).await;
    client.subscribe("c").await;
    let metrics = async || {
        let bearer = [("authorization", "Bearer t")];
        let reply = kit::Http::plain(server.address, "GET", "/metrics", &bearer).await;
        reply.text().to_owned()
    };
    assert!(metrics().await.contains(r#"campanile_connections{app="4"} 1"#));
    server.reload(&settings(Settings::new())).await;
    client.rejected(4003).await;
    let page = metrics().await;
    assert!(page.contains(r#"campanile_connections{app="3"} 0"#), "{page}");
    assert!(!page.contains(r#"app="4""#), "{page}");
}

#[tokio::test]
pub(super) async fn a_disabled_app_rejects_everything_until_it_is_enabled_again() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    let report = server.reload(&Settings::new().app("enabled", false)).await;
    assert!(report.contains(r#"apps_changed="3 (enabled)""#), "{report}");
    client.rejected(4003).await;
    server.open(&format!("/app/{KEY}")).await.rejected(4003).await;
    assert_eq!(server.post("events", &event("c", "1")).await.status, 403);
    server.reload(&Settings::new()).await;
    let mut client = server.client().await;
    client.subscribe("c").await;
    server.assert_no_other_events("c", &mut [&mut client]).await;
}

#[tokio::test]
pub(super) async fn an_app_with_another_key_is_another_app() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("c").await;
    // The app also has subscription counts enabled, as before.
    let renamed = with_key("new-key").app("subscription_count", true);
    let report = server.reload(&renamed).await;
    assert!(report.contains(r#"apps_changed="3 (key)""#), "{report}");
    client.rejected(4003).await;
    server.open(&format!("/app/{KEY}")).await.rejected(4001).await;
    let mut client = server.open("/app/new-key").await;
    client.established().await;
    client.subscribe("c").await;
    let call = Call::post("events", &event("c", "1")).credentials("new-key", SECRET);
    assert_eq!(call.send(&server).await.status, 200);
    client.expect_event("c", "e", "1").await;
    assert_eq!(server.get("connections", &[]).await.status, 400, "the old key is unknown");
}

/// The test app with another key.
fn with_key(key: &str) -> Settings {
    Settings::without_apps().add_app(APP_ID, key, SECRET)
}

#[tokio::test]
pub(super) async fn another_secret_applies_to_later_signatures() {
    const NEW: &str = "new-secret";
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("private-a").await;
    let settings = Settings::without_apps().add_app(APP_ID, KEY, NEW);
    let report = server.reload(&settings.app("subscription_count", true)).await;
    assert!(report.contains(r#"apps_changed="3 (secret)""#), "{report}");
    assert!(!report.contains(NEW) && !report.contains(SECRET), "{report}");
    let event = event("private-a", "1");
    let old = server.post("events", &event).await;
    assert!(old.error(401).contains("Invalid signature"));
    let call = Call::post("events", &event).credentials(KEY, NEW);
    assert_eq!(call.send(&server).await.status, 200);
    // Existing connections stay open and receive events.
    client.expect_event("private-a", "e", "1").await;
    ask_signed_by(&mut client, KEY, SECRET, "private-b").await;
    client.rejection("private-b").await;
    ask_signed_by(&mut client, KEY, NEW, "private-b").await;
    client.subscribed("private-b").await;
}

#[tokio::test]
pub(super) async fn the_file_of_a_secret_is_read_again() {
    const NEW: &str = "new-secret";
    let server = Settings::new().start().await;
    server.directory.write("secret", SECRET);
    let path = server.directory.path().join("secret");
    let settings = Settings::new().toml();
    let named = settings.replace(
        &format!("secret = {}", kit::quoted(SECRET)),
        &format!("secret_file = {}", kit::quoted(&path.display().to_string())),
    );
    assert_ne!(named, settings);
    let report = server.reload_text(&named).await;
    assert!(report.contains(" reloaded") && report.contains("(secret_file)"), "{report}");
    let event = event("private-a", "1");
    assert_eq!(server.post("events", &event).await.status, 200);
    // As `docker secret` and `kubectl` write it, with a line break at the end.
    server.directory.write("secret", &format!("{NEW}\n"));
    let report = server.reload_unchanged().await;
    assert!(report.contains(r#"apps_changed="3 (secret)""#) && !report.contains(NEW), "{report}");
    assert!(server.post("events", &event).await.error(401).contains("Invalid signature"));
    let call = Call::post("events", &event).credentials(KEY, NEW);
    assert_eq!(call.send(&server).await.status, 200);
    // An empty or missing file rejects the reload, and the secret stays.
    server.directory.write("secret", "");
    assert!(server.reload_unchanged().await.contains("is empty"));
    std::fs::remove_file(&path).expect("it was written before");
    assert!(server.reload_unchanged().await.contains("cannot be read: No such file"));
    assert_eq!(call.send(&server).await.status, 200);
}

#[tokio::test]
pub(super) async fn changed_origins_apply_to_new_connections() {
    let server = Settings::new().start().await;
    let from = [("origin", "https://a.example")];
    let mut client = server.client_with(&from).await;
    server.reload(&Settings::new().app("allowed_origins", r#"["b.example"]"#)).await;
    server.open_with(&format!("/app/{KEY}"), &from).await.rejected(4009).await;
    server.client_with(&[("origin", "https://b.example")]).await;
    client.ping_barrier().await;
}

#[tokio::test]
pub(super) async fn a_changed_connection_limit_applies_to_new_connections() {
    let server = Settings::new().start().await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    server.reload(&Settings::new().app("max_connections", 1)).await;
    server.open(&format!("/app/{KEY}")).await.rejected(4004).await;
    first.ping_barrier().await;
    second.ping_barrier().await;
    drop(first);
    eventually("one has left", async || server.connections().await == 1).await;
    server.open(&format!("/app/{KEY}")).await.rejected(4004).await;
    server.reload(&Settings::new().app("max_connections", 2)).await;
    server.client().await;
}

#[tokio::test]
pub(super) async fn changed_app_limits_apply_to_existing_connections() {
    let server = Settings::new().start().await;
    let (mut client, mut peer) = (server.client().await, server.client().await);
    for client in [&mut client, &mut peer] {
        client.subscribe("private-a").await;
    }
    client.whisper("client-x", "private-a", json!("1")).await;
    peer.expect_event("private-a", "client-x", "1").await;
    let settings = Settings::new()
        .app("client_events", r#""none""#)
        .app("max_event_bytes", 10)
        .app("max_channel_name_length", 20)
        .app("user_authentication", false);
    let report = server.reload(&settings).await;
    let names = "user_authentication";
    assert!(report.contains(names) && report.contains("max_event_bytes"), "{report}");
    client.whisper("client-x", "private-a", json!("1")).await;
    let (_, _, sentence) = client.event_error().await;
    assert!(sentence.contains("you must enable this feature"), "{sentence}");
    client.send_sign_in(r#"{"id":"1"}"#).await;
    client.error().await;
    client.send_subscribe(&"c".repeat(21)).await;
    client.rejection(&"c".repeat(21)).await;
    assert_eq!(server.post("events", &event("private-a", "12345678901")).await.status, 413);
    server.publish("private-a", "e", "1234567890").await;
    peer.expect_event("private-a", "e", "1234567890").await;
}

#[tokio::test]
pub(super) async fn subscription_counts_can_be_turned_on_and_off() {
    let server = Settings::new().app("subscription_count", false).start().await;
    let mut first = server.client().await.with_counts();
    first.subscribe("c").await;
    server.reload(&Settings::new()).await;
    let mut second = server.client().await;
    second.subscribe("c").await;
    first.expect_count("c", 2).await;
    server.reload(&Settings::new().app("subscription_count", false)).await;
    second.unsubscribe("c").await;
    second.ping_barrier().await;
    server.assert_no_other_events("c", &mut [&mut first]).await;
}
