//! SIGHUP: the server applies the new configuration as a whole, or not at all.

mod admission;
mod app_directory;
mod app_limits;
mod apps;
mod connections;
mod console;
mod every_key;
mod rejected;
mod restart;
mod settings;
mod tls;
mod traffic;
mod webhooks;

use serde_json::{Value, json};

use kit::{Call, Client, Server, Settings, sign};

/// A second app, which some tests add and remove.
const OTHER: (&str, &str, &str) = ("4", "key-of-4", "secret-of-4");

/// The test app, and another.
fn with_other() -> Settings {
    let (id, key, secret) = OTHER;
    Settings::new().add_app(id, key, secret)
}

async fn client_of_other(server: &Server) -> Client {
    let mut client = server.open(&format!("/app/{}", OTHER.1)).await;
    client.established().await;
    client
}

/// Publishes with the credentials of the other app; returns the status.
async fn publish_as_other(server: &Server, channel: &str) -> u16 {
    let (id, key, secret) = OTHER;
    let body = json!({ "name": "e", "channel": channel, "data": "1" }).to_string();
    let call = Call::new("POST", &format!("/apps/{id}/events"), body).credentials(key, secret);
    call.send(server).await.status
}

/// Sends the subscription to a private channel, signed with `secret`.
async fn ask_signed_by(client: &mut Client, key: &str, secret: &str, channel: &str) {
    let auth = sign::channel_auth(key, secret, &client.socket_id, channel, None);
    client.command("pusher:subscribe", json!({ "auth": auth, "channel": channel })).await;
}

fn event(channel: &str, data: &str) -> Value {
    json!({ "name": "e", "channel": channel, "data": data })
}
