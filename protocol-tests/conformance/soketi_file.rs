//! A server that is started with a configuration file of soketi.

use kit::{Call, Client, Directory, Process, Server};
use serde_json::json;

const FILE: &str = r#"{
    "host": "127.0.0.1",
    "port": 0,
    "appManager.driver": "array",
    "appManager.array.apps": [
        {"id": "one", "key": "key-of-one", "secret": "the-secret-of-one", "enableClientMessages": true},
        {"id": 2, "key": "key-of-two", "secret": "the-secret-of-two", "maxEventBatchSize": 1}
    ]
}
"#;

const APPS: [[&str; 3]; 2] =
    [["one", "key-of-one", "the-secret-of-one"], ["2", "key-of-two", "the-secret-of-two"]];

/// `campanile start --config config.json`.
async fn started() -> Server {
    let directory = Directory::new();
    directory.write("config.json", FILE);
    let process = Process::spawn(&["start", "--config", "config.json"], directory.path());
    Server::from_process(process, directory).await
}

async fn client_of(server: &Server, [_, key, _]: [&str; 3]) -> Client {
    let mut client = server.open(&format!("/app/{key}")).await;
    client.established().await;
    client
}

/// Publishes as many events as there are `data`; returns the status.
async fn publish_as(server: &Server, [id, key, secret]: [&str; 3], data: &[&str]) -> u16 {
    let event = |data| json!({ "name": "e", "channel": "c", "data": data });
    let batch: Vec<_> = data.iter().map(event).collect();
    let body = json!({ "batch": batch }).to_string();
    let call = Call::new("POST", &format!("/apps/{id}/batch_events"), body);
    call.credentials(key, secret).send(server).await.status
}

#[tokio::test]
async fn both_apps_of_the_file_are_served() {
    let server = started().await;
    let (mut one, mut two) = (client_of(&server, APPS[0]).await, client_of(&server, APPS[1]).await);
    one.subscribe("c").await;
    two.subscribe("c").await;
    assert_eq!(publish_as(&server, APPS[0], &["1", "2"]).await, 200);
    assert_eq!(publish_as(&server, APPS[1], &["1", "2"]).await, 400, "its batch has one event");
    assert_eq!(publish_as(&server, APPS[1], &["3"]).await, 200);
    one.expect_event("c", "e", "1").await;
    one.expect_event("c", "e", "2").await;
    two.expect_event("c", "e", "3").await;
    one.ping_barrier().await;
    let [id, _, secret] = APPS[1];
    assert_eq!(publish_as(&server, [id, APPS[0][1], secret], &["4"]).await, 401);
}

#[tokio::test]
async fn a_reload_applies_the_file_or_keeps_what_is_in_force() {
    let server = started().await;
    let mut one = client_of(&server, APPS[0]).await;
    one.subscribe("c").await;
    for (text, reason) in [
        ("", "config.json: is empty"),
        (&FILE[..FILE.len() / 2], "config.json: looks truncated"),
        ("{\"port\": 0,\n}\n", "config.json:2: is not JSON: trailing comma"),
        ("{\"port\": 0}\n", "config.json: no longer contains apps"),
        (
            &FILE.replace("\"maxEventBatchSize\": 1", "\"maxEventBatchSize\": \"x\""),
            "apps[1].maxEventBatchSize",
        ),
    ] {
        server.directory.write("config.json", text);
        let output = server.reload_unchanged().await;
        assert!(output.contains("reload rejected") && output.contains(reason), "{output}");
    }
    assert_eq!(publish_as(&server, APPS[1], &["1", "2"]).await, 400);
    let third = r#"{"id": "three", "key": "key-of-three", "secret": "the-secret-of-three"}"#;
    let changed =
        FILE.replace("\"maxEventBatchSize\": 1}", &format!("\"maxEventBatchSize\": 2}}, {third}"));
    server.directory.write("config.json", &changed);
    let output = server.reload_unchanged().await;
    assert!(output.contains("reloaded"), "{output}");
    assert!(output.contains(r#"apps_added="three""#), "{output}");
    assert!(output.contains("max_batch_events"), "{output}");
    assert_eq!(publish_as(&server, APPS[1], &["1", "2"]).await, 200);
    let third = ["three", "key-of-three", "the-secret-of-three"];
    client_of(&server, third).await;
    assert_eq!(publish_as(&server, third, &["1"]).await, 200);
    one.ping_barrier().await;
}

#[tokio::test]
async fn other_commands_read_the_file() {
    let directory = Directory::new();
    directory.write("config.json", FILE);
    let mut process = Process::spawn(&["check", "--config", "config.json"], directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    let shown = process.stream("out");
    let key = "key = \"key-of-two\"  # config.json: appManager.array.apps[1].key";
    assert!(shown.lines().any(|line| line == key), "{shown}");
    assert_eq!(
        shown.matches("max_presence_user_info_bytes = 2048  # default of soketi").count(),
        2
    );
    assert!(!process.output().contains("the-secret-of-"));
    directory.write("config.json", &FILE.replace("\"array\"", "\"dynamodb\""));
    let mut process = Process::spawn(&["check", "--config", "config.json"], directory.path());
    assert_eq!(process.exit_code().await, Some(2), "{}", process.output());
    let expected = "config.json: appManager.driver: an app manager other than `array`, `mysql` and `postgres` is not \
                    supported";
    assert!(process.stream("err").contains(expected), "{}", process.output());
    let server = started().await;
    let url = server.url();
    let arguments = ["publish", "c", "e", "--config", "config.json", "--url", &url];
    let mut process = Process::spawn(&arguments, server.directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
}
