//! Connections and their messages, and what is kept of the latest failures.

use serde_json::{Value, json};

use kit::{APP_ID, ConsolePage, ConsoleSession, KEY, quoted, webhook_receiver::WebhookReceiver};

use super::{PASSWORD, page, with_password};
use crate::Start as _;

fn app() -> Value {
    json!({"app": APP_ID})
}

/// The first item of a list of a watch that is `wanted`, as soon as there is one.
async fn listed(
    page: &mut ConsolePage,
    params: Value,
    list: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let (watch, mut data) = page.watch("connections", params).await;
    loop {
        if let Some(found) = data[list].as_array().into_iter().flatten().find(|item| wanted(item)) {
            let found = found.clone();
            page.unwatch(watch).await;
            return found;
        }
        data = page.data(watch).await;
    }
}

#[tokio::test]
async fn open_closed_and_rejected_connections_are_listed_with_explanations() {
    let server = with_password().app("allowed_origins", "[\"a.test\"]").start().await;
    let mut client = server.client_with(&[("origin", "http://a.test")]).await;
    client.subscribe("a").await;
    let mut page = page(&server).await;
    let id = client.socket_id.clone();
    let is_client = |item: &Value| item["socket_id"] == id.as_str();
    let open = listed(&mut page, app(), "connections", is_client).await;
    assert_eq!((&open["address"], &open["origin"]), (&json!("127.0.0.1"), &json!("http://a.test")));
    assert_eq!((&open["subscriptions"], &open["user_id"]), (&json!(1), &json!(null)));
    assert!(open["connected_at"].is_u64() && open["closed_at"].is_null(), "{open}");
    let found = json!({"app": APP_ID, "search": &id[..4]});
    listed(&mut page, found, "connections", is_client).await;
    let (_, none) = page.watch("connections", json!({"app": APP_ID, "search": "nothing"})).await;
    assert_eq!((&none["total"], &none["connections"]), (&json!(1), &json!([])));
    page.call("disconnect", json!({"app": APP_ID, "socket_id": id})).await;
    assert_eq!(client.closed_eventually().await.0, 4009);
    let closed = listed(&mut page, app(), "closed", is_client).await;
    assert_eq!(closed["code"], 4009);
    assert!(closed["connected_at"].as_u64() <= closed["closed_at"].as_u64(), "{closed}");
    assert!(closed["explanation"].as_str().unwrap().len() > 20, "{closed}");
    let foreign = [("origin", "http://evil.test")];
    server.open_with(&format!("/app/{KEY}"), &foreign).await.rejected(4009).await;
    server.open("/app/unknown-key").await.rejected(4001).await;
    for (code, key, origin) in
        [(4009, KEY, json!("http://evil.test")), (4001, "unknown-key", json!(null))]
    {
        let is_it = |item: &Value| item["status_or_code"] == code;
        let rejected = listed(&mut page, app(), "rejected", is_it).await;
        assert_eq!((&rejected["key"], &rejected["origin"]), (&json!(key), &origin));
        assert!(rejected["explanation"].is_string(), "{rejected}");
    }
}

#[tokio::test]
async fn the_messages_of_one_connection_are_shown_until_it_is_closed() {
    let server = with_password().start().await;
    let mut client = server.client().await;
    client.subscribe("private-a").await;
    let mut page = page(&server).await;
    let params = json!({"app": APP_ID, "socket_id": client.socket_id});
    let (watch, state) = page.watch("connection", params.clone()).await;
    assert_eq!(state["channels"], json!(["private-a"]));
    // The established connection, the confirmed subscription and the count.
    assert_eq!((&state["messages_in"], &state["messages_out"]), (&json!(1), &json!(3)));
    server.publish("private-a", "secret", "1").await;
    let message = page.data(watch).await;
    assert_eq!((&message["type"], &message["event"]), (&json!("out"), &json!("secret")));
    assert_eq!((&message["data"], &message["bytes"]), (&json!(null), &json!(1)));
    client.expect_event("private-a", "secret", "1").await;
    client.subscribe("b").await;
    let message = page.data(watch).await;
    assert_eq!((&message["type"], &message["event"]), (&json!("in"), &json!("pusher:subscribe")));
    let message = page.data(watch).await;
    assert_eq!(message["event"], "pusher_internal:subscription_succeeded");
    let counts = json!({"type": "state", "messages_in": 2, "messages_out": 6, "waiting_bytes": 0});
    assert_eq!(page.data_where(watch, |data| data["type"] == "state").await, counts);
    drop(client);
    let end = page.data_where(watch, |data| data["type"] == "closed").await;
    assert!(end["explanation"].is_string(), "{end}");
    let (_, mut state) = page.watch("connection", params).await;
    assert!(state["closed_at"].is_u64(), "{state}");
    for of in [&end, &state] {
        assert_eq!((&of["messages_in"], &of["messages_out"]), (&json!(2), &json!(6)), "{of}");
    }
    state["channels"].as_array_mut().unwrap().sort_by_key(ToString::to_string);
    assert_eq!(
        (&state["subscriptions"], &state["channels"]),
        (&json!(2), &json!(["b", "private-a"]))
    );
    for socket_id in ["", "1.2"] {
        let params = json!({"app": APP_ID, "socket_id": socket_id});
        page.try_watch("connection", params).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_failed_authorization_shows_what_should_have_been_signed() {
    let server = with_password().start().await;
    let mut client = server.client().await;
    let mut page = page(&server).await;
    let (watch, none) = page.watch("authorizations", app()).await;
    assert_eq!(none, json!([]));
    let auth = format!("{KEY}:{}", "0".repeat(64));
    let data = json!({"channel": "private-a", "auth": auth});
    client.command("pusher:subscribe", data).await;
    let failed = page.data(watch).await;
    assert_eq!((&failed["channel"], &failed["kind"]), (&json!("private-a"), &json!("private")));
    assert_eq!(failed["string_to_sign"], format!("{}:private-a", client.socket_id));
    assert_eq!((&failed["received"], &failed["key"]), (&json!(auth), &json!(KEY)));
    assert!(failed["hint"].as_str().unwrap().contains("another secret"), "{failed}");
    let member = json!({"user_id": "hidden"}).to_string();
    let data = json!({"channel": "presence-a", "auth": auth, "channel_data": member});
    client.command("pusher:subscribe", data).await;
    let failed = page.data(watch).await;
    assert_eq!(failed["string_to_sign"], format!("{}:presence-a:***", client.socket_id));
    client.command("pusher:signin", json!({"auth": "x", "user_data": "{}"})).await;
    let failed = page.data(watch).await;
    assert_eq!((&failed["channel"], &failed["kind"]), (&json!(null), &json!("signin")));
    assert!(failed["hint"].as_str().unwrap().contains("KEY:SIGNATURE"), "{failed}");
    let (_, all) = page.watch("authorizations", app()).await;
    assert_eq!(all.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn deliveries_of_webhooks_are_shown_and_sent_again() {
    let mut receiver = WebhookReceiver::new().await;
    let toml =
        format!("[{{ url = {}, events = [\"channel_occupied\"] }}]", quoted(&receiver.url()));
    let server = with_password().app("webhooks", toml).start().await;
    let mut page = page(&server).await;
    let (watch, none) = page.watch("webhooks", app()).await;
    assert_eq!(none, json!([]));
    let mut client = server.client().await;
    client.subscribe("a").await;
    let first = receiver.next().await;
    let attempt = page.data(watch).await;
    assert_eq!((&attempt["state"], &attempt["status"]), (&json!("delivered"), &json!(200)));
    assert_eq!(
        (&attempt["events"], &attempt["body"]),
        (&json!(["channel_occupied"]), &json!(null))
    );
    assert!(!attempt.to_string().contains("token"), "the path may contain one: {attempt}");
    let params = json!({"app": APP_ID, "id": attempt["id"]});
    assert_eq!(page.call("resend_webhook", params).await, json!({"status": 200}));
    let again = receiver.next().await;
    assert_eq!(again.body, first.body);
    assert_eq!(page.data(watch).await["attempt"], 2);
    let params = json!({"app": APP_ID, "id": 4_711});
    page.try_call("resend_webhook", params).await.unwrap_err();
}

#[tokio::test]
async fn an_event_that_became_a_dead_letter_is_shown_as_failed() {
    let receiver = WebhookReceiver::answering(|_| Some(400)).await;
    let toml =
        format!("[{{ url = {}, events = [\"channel_occupied\"] }}]", quoted(&receiver.url()));
    let server = with_password().app("webhooks", toml).start().await;
    let mut page = page(&server).await;
    let (watch, _) = page.watch("webhooks", app()).await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let first = page.data(watch).await;
    assert_eq!((&first["state"], &first["status"]), (&json!("retrying"), &json!(400)));
    let failed = page.data_where(watch, |attempt| attempt["state"] == "failed").await;
    assert_eq!((&failed["attempt"], &failed["status"]), (&json!(2), &json!(400)));
    let (_, kept) = page.watch("webhooks", app()).await;
    let states: Vec<_> = kept.as_array().unwrap().iter().map(|item| &item["state"]).collect();
    assert_eq!(states, ["retrying", "failed"], "a changed attempt takes its own place");
}

/// Two webhooks of one host have the same name, unless they are given names.
#[tokio::test]
async fn a_webhook_is_sent_again_to_its_own_url_while_its_app_is_enabled() {
    let mut receiver = WebhookReceiver::new().await;
    let url = receiver.url();
    let toml = format!(
        "[{{ url = {}, events = [\"channel_vacated\"] }}, {{ url = {}, events = [\"channel_occupied\"] }}]",
        quoted(&url),
        quoted(&format!("{url}/second"))
    );
    let settings = with_password().app("webhooks", toml);
    let server = settings.start().await;
    let mut page = page(&server).await;
    let (watch, _) = page.watch("webhooks", app()).await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    assert!(receiver.next().await.line.contains("/hooks/second"));
    let params = json!({"app": APP_ID, "id": page.data(watch).await["id"]});
    page.call("resend_webhook", params.clone()).await;
    assert!(receiver.next().await.line.contains("/hooks/second"));
    server.reload(&settings.app("enabled", false)).await;
    let error = page.try_call("resend_webhook", params).await.unwrap_err();
    assert_eq!(error, "the app is disabled");
}

#[tokio::test]
async fn warnings_and_the_configuration_are_for_sessions_of_the_server() {
    let server = with_password().app("console_password", quoted("of the app")).start().await;
    let mut page = page(&server).await;
    let (watch, _) = page.watch("log", json!({})).await;
    server.reload(&with_password().server("shards", 3)).await;
    let warning = page.data(watch).await;
    assert_eq!(
        (&warning["level"], &warning["fields"]["key"]),
        (&json!("WARN"), &json!("server.shards"))
    );
    assert_eq!(warning["message"], "setting changed; restart required");
    assert!(warning["explanation"].is_string());
    let rows = page.call("configuration", json!({})).await;
    let row = |key: &str| rows.as_array().unwrap().iter().find(|row| row["key"] == key).unwrap();
    assert_eq!(row("console.password")["value"], "***");
    assert_eq!(row("apps[0].secret")["value"], "***");
    assert!(row("server.shards")["source"].as_str().unwrap().contains("config.toml:"));
    assert_eq!(row("server.reuse_port")["source"], "default");
    assert!(!rows.to_string().contains(PASSWORD));
    let server = with_password().app("console_password", quoted("of the app")).start().await;
    let of_app = ConsoleSession::log_in(server.address, Some(APP_ID), "of the app").await;
    let mut page = of_app.page().await;
    page.try_watch("log", json!({})).await.unwrap_err();
    page.try_call("configuration", json!({})).await.unwrap_err();
}
