//! The commands other than `start`, and rejected arguments and configurations.

use serde_json::{Value, json};

use kit::{APP_ID, Call, Directory, KEY, Process, SECRET, Server, Settings, eventually, quoted};

use crate::Start as _;

#[tokio::test]
async fn check_prints_the_effective_configuration_with_origins() {
    let directory = Directory::new();
    directory.write("config.toml", &Settings::new().server("port", 7_001).toml());
    let environment = [("CAMPANILE_SERVER__SHUTDOWN_GRACE_S", "7")];
    let mut process = Process::spawn_with(&["check"], directory.path(), &environment);
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    let printed = process.stream("out");
    let table: toml::Table = printed.parse().unwrap_or_else(|error| panic!("{error} in {printed}"));
    assert_eq!(table["server"]["port"].as_integer(), Some(7_001));
    assert_eq!(table["server"]["shutdown_grace_s"].as_integer(), Some(7));
    assert_eq!(table["connection"]["pong_timeout_s"].as_integer(), Some(30));
    assert_eq!(table["apps"][0]["key"].as_str(), Some(KEY));
    for (value, origin) in [
        ("port = 7001", "config.toml:"),
        ("shutdown_grace_s = 7", "environment"),
        ("pong_timeout_s = 30", "default"),
    ] {
        let line =
            printed.lines().find(|line| line.replace('_', "").starts_with(&value.replace('_', "")));
        let line = line.unwrap_or_else(|| panic!("{value} in {printed}"));
        assert!(line.to_lowercase().contains(origin), "{line:?} should name {origin}");
    }
    assert!(!process.output().contains(SECRET), "secrets are masked");
}

#[tokio::test]
async fn check_prints_json_for_programs() {
    let directory = Directory::new();
    let text = Settings::new().server("shutdown_grace_s", 7).toml();
    directory.write("config.toml", &text);
    let check = ["check", "--json", "--port", "7001"];
    let mut process = Process::spawn(&check, directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    let printed: Value = serde_json::from_str(&process.stream("out")).expect("it is JSON");
    let settings = &printed["settings"];
    assert_eq!(settings["server.port"], json!({ "value": 7_001, "source": "flag --port" }));
    assert_eq!(settings["server.shutdown_grace_s"]["value"], 7);
    let source = settings["server.shutdown_grace_s"]["source"].as_str().expect("a text");
    assert!(source.starts_with("config.toml:"), "{source}");
    assert_eq!(settings["apps[0].key"]["value"], KEY);
    assert_eq!(settings["apps[0].secret"]["value"], "***");
    assert_eq!(printed["infos"], json!(["read from config.toml"]));
    assert!(printed["warnings"].is_array() && !process.output().contains(SECRET));
    directory.write("config.toml", &format!("[server]\nport = 70000\n{}", Settings::new().toml()));
    let mut process = Process::spawn(&["check", "--json"], directory.path());
    assert_eq!(process.exit_code().await, Some(2));
    let printed: Value = serde_json::from_str(&process.stream("out")).expect("it is JSON");
    let errors = printed["errors"].as_array().expect("a list");
    assert!(
        errors.iter().any(|error| {
            error["location"] == "config.toml:2"
                && error["key"] == "server.port"
                && error["message"] == "must be from 0 to 65535"
        }),
        "{printed}"
    );
}

#[tokio::test]
async fn commands_that_ask_a_server_take_its_port_as_start_does() {
    let server = Settings::new().server("path", quoted("/ws")).start().await;
    let elsewhere = Directory::new();
    elsewhere.write("config.toml", &Settings::new().toml());
    let port = server.address.port().to_string();
    for (path, code) in [("/ws", 0), ("/other", 1)] {
        let flags = ["--host", "127.0.0.1", "--port", &port, "--path", path];
        let mut process = Process::spawn(&[&["health"][..], &flags].concat(), elsewhere.path());
        assert_eq!(process.exit_code().await, Some(code), "{}", process.output());
    }
    let both = ["health", "--port", "1", "--url", "http://127.0.0.1:1"];
    let mut process = Process::spawn(&both, elsewhere.path());
    assert_eq!(process.exit_code().await, Some(2));
}

#[tokio::test]
async fn a_broken_configuration_exits_2_with_one_line_that_names_file_line_and_key() {
    // A file has each section once.
    let valid = Settings::new().toml().replace("[connection]\npresence_grace_s = 0\n", "");
    for (place, line, named) in [
        ("[server]\nport = \"x\"\n", 2, "port"),
        ("[server]\nport = 70000\n", 2, "port"),
        ("[server]\nprot = 8080\n", 2, "prot"),
        ("[sever]\nport = 8080\n", 1, "sever"),
        ("[connection]\n\nactivity_timeout_s = 0\n", 3, "activity_timeout_s"),
        ("[connection]\npong_timeout_s = -1\n", 2, "pong_timeout_s"),
        (
            "[connection]\nmax_message_bytes = 100000\nmax_outbox_bytes = 1000\n",
            3,
            "max_outbox_bytes",
        ),
        ("[server]\ntrusted_proxies = [\"nonsense\"]\n", 2, "trusted_proxies"),
        ("[metrics]\nlisten = \"nonsense\"\n", 2, "listen"),
        ("[server]\nport = \n", 2, ""),
        ("[server]\nport = 1\nport = 2\n", 3, "port"),
    ] {
        let directory = Directory::new();
        directory.write("config.toml", &format!("{place}{valid}"));
        for command in ["start", "check"] {
            let mut process = Process::spawn(&[command], directory.path());
            assert_eq!(
                process.exit_code().await,
                Some(2),
                "{command} with {place:?}: {}",
                process.output()
            );
            let output = process.stream("err");
            let lines: Vec<&str> = output.lines().filter(|text| !text.trim().is_empty()).collect();
            let [one] = lines.as_slice() else { panic!("one line for {place:?}: {output}") };
            assert!(
                one.contains(&format!("config.toml:{line}")),
                "{place:?}: {one:?} should name line {line}"
            );
            assert!(one.contains(named), "{place:?}: {one:?} should name {named:?}");
        }
    }
}

#[tokio::test]
async fn every_fault_has_its_own_line() {
    let directory = Directory::new();
    directory.write("config.toml", "[server]\nport = 70000\nprot = 1\n[log]\nlevel = \"loud\"\n");
    let environment = [("REVERB_SCALING_ENABLED", "yes"), ("CAMPANILE_SERVER__SHARDS", "many")];
    for command in ["start", "check"] {
        let mut process = Process::spawn_with(&[command], directory.path(), &environment);
        assert_eq!(process.exit_code().await, Some(2), "{}", process.output());
        let output = process.stream("err");
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), 5, "{output}");
        for named in ["config.toml:2", "config.toml:3", "config.toml:5", "REVERB_SC", "__SHARDS"] {
            assert_eq!(lines.iter().filter(|line| line.contains(named)).count(), 1, "{output}");
        }
        assert!(lines.iter().all(|line| line.starts_with("campanile: ")), "{output}");
    }
}

#[tokio::test]
async fn an_unknown_key_of_an_app_is_reported_with_its_line() {
    let directory = Directory::new();
    let text = Settings::new().toml();
    directory.write("config.toml", &format!("{text}secrte = \"x\"\n"));
    let mut process = Process::spawn(&["check"], directory.path());
    assert_eq!(process.exit_code().await, Some(2));
    let output = process.stream("err");
    assert!(output.contains(&format!("config.toml:{}", text.lines().count() + 1)), "{output}");
    assert!(output.contains("secrte"), "{output}");
    assert!(!output.contains(SECRET), "{output}");
}

#[tokio::test]
async fn a_bad_variable_exits_2_and_is_named() {
    let directory = Directory::new();
    directory.write("config.toml", &Settings::new().toml());
    for (name, value) in [
        ("CAMPANILE_SERVER__PORT", "x"),
        ("CAMPANILE_SERVER__PROT", "1"),
        ("CAMPANILE_LOG__LEVEL", "loud"),
    ] {
        let mut process = Process::spawn_with(&["check"], directory.path(), &[(name, value)]);
        assert_eq!(process.exit_code().await, Some(2), "{name}: {}", process.output());
        assert!(process.stream("err").contains(name), "{}", process.output());
    }
}

#[tokio::test]
async fn check_prints_the_json_schema_whatever_the_configuration() {
    let directory = Directory::new();
    directory.write("config.toml", "[server]\nport = 70000\n");
    let mut process = Process::spawn(&["check", "--schema"], directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    let printed: Value = serde_json::from_str(&process.stream("out")).unwrap();
    let documented = include_str!("../../docs/settings.schema.json");
    assert_eq!(printed, serde_json::from_str::<Value>(documented).unwrap());
}

#[tokio::test]
async fn wrong_usage_exits_2() {
    let directory = Directory::new();
    for arguments in [
        &["start", "--nonsense"][..],
        &["nonsense"],
        &["publish"],
        &["start", "--config", "missing.toml"],
    ] {
        let mut process = Process::spawn(arguments, directory.path());
        assert_eq!(process.exit_code().await, Some(2), "{arguments:?}: {}", process.output());
        assert!(!process.stream("err").is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn publish_takes_its_credentials_from_flags() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let directory = Directory::new();
    let url = server.url();
    let flags = ["--url", &url, "--app-id", APP_ID, "--key", KEY, "--secret", SECRET];
    let arguments = [&["publish", "a", "my-event", r#"{"x":1}"#][..], &flags].concat();
    let mut process = Process::spawn(&arguments, directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    client.expect_event("a", "my-event", r#"{"x":1}"#).await;
}

#[tokio::test]
async fn publish_takes_its_credentials_from_the_configuration() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let directory = configured_for(&server);
    let mut process = Process::spawn(&["publish", "a", "my-event", "hello"], directory.path());
    assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    client.expect_event("a", "my-event", "hello").await;
}

#[tokio::test]
async fn a_publish_that_is_repeated_with_its_key_delivers_once() {
    let server = Settings::new().start().await;
    let mut client = server.client().await;
    client.subscribe("a").await;
    let directory = configured_for(&server);
    for data in ["first", "second"] {
        let arguments = ["publish", "a", "e", data, "--idempotency-key", "k"];
        let mut process = Process::spawn(&arguments, directory.path());
        assert_eq!(process.exit_code().await, Some(0), "{}", process.output());
    }
    client.expect_event("a", "e", "first").await;
    server.assert_no_other_events("a", &mut [&mut client]).await;
}

#[tokio::test]
async fn a_failed_publish_exits_1_with_the_reason() {
    let server = Settings::new().start().await;
    let directory = Directory::new();
    let url = server.url();
    let arguments = [
        "publish", "a", "e", "1", "--url", &url, "--app-id", APP_ID, "--key", KEY, "--secret",
        "wrong",
    ];
    let mut process = Process::spawn(&arguments, directory.path());
    assert_eq!(process.exit_code().await, Some(1), "{}", process.output());
    assert!(process.stream("err").contains("Invalid signature"), "{}", process.output());
    let nobody = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}");
    let arguments = [
        "publish", "a", "e", "1", "--url", &url, "--app-id", APP_ID, "--key", KEY, "--secret",
        SECRET,
    ];
    let mut process = Process::spawn(&arguments, directory.path());
    assert_eq!(process.exit_code().await, Some(1), "{}", process.output());
    assert!(process.stream("err").contains(&nobody.to_string()), "{}", process.output());
}

#[tokio::test]
async fn listen_prints_one_object_of_json_for_each_event() {
    let server = Settings::new().start().await;
    let directory = configured_for(&server);
    let channels = ["a", "private-b", "presence-c"];
    let arguments = [&["listen"][..], &channels, &["--json"]].concat();
    let mut process = Process::spawn(&arguments, directory.path());
    for channel in channels {
        let occupied = async || server.channel(channel, "").await["occupied"] == json!(true);
        eventually("the listener has subscribed", occupied).await;
        server.publish(channel, "my-event", "line one\nline \"two\"").await;
        let line = process.line("the event", |line| line.contains("my-event")).await;
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&event["event"], &event["channel"]), (&json!("my-event"), &json!(channel)));
        assert_eq!(event["data"], "line one\nline \"two\"");
    }
}

#[tokio::test]
async fn listen_prints_why_it_is_rejected() {
    let server = Settings::new().start().await;
    let directory = Directory::new();
    let wrong =
        Settings::new().app("secret", quoted("wrong")).server("port", server.address.port());
    directory.write("config.toml", &wrong.server("host", quoted("127.0.0.1")).toml());
    let mut process = Process::spawn(&["listen", "private-b", "--json"], directory.path());
    let line = process.line("the rejection", |line| line.contains("Invalid signature")).await;
    assert!(serde_json::from_str::<Value>(&line).unwrap()["event"].is_string(), "{line}");
}

#[tokio::test]
async fn the_log_holds_no_secrets_and_no_payloads() {
    let server =
        Settings::new().section("metrics", "token", quoted("token-of-metrics")).start().await;
    let mut client = server.client().await;
    client.subscribe("private-a").await;
    let signature = client.auth("private-a", None).split_once(':').unwrap().1.to_owned();
    client.whisper("client-x", "private-a", json!("words-of-a-client")).await;
    client.sign_in(r#"{"id":"1","user_info":{"name":"name-of-a-user"}}"#).await;
    server.publish("private-a", "e", "words-of-a-publisher").await;
    client.expect_event("private-a", "e", "words-of-a-publisher").await;
    let call = Call::get("channels");
    let signed = call.correct_signature();
    assert_eq!(call.send(&server).await.status, 200);
    drop(client);
    server.wait_for_connections(0).await;
    let log = server.process.output();
    let words =
        [SECRET, "token-of-metrics", "words-of-a-client", "words-of-a-publisher", "name-of-a-user"];
    for word in words.into_iter().chain([signature.as_str(), &signed]) {
        assert!(!log.contains(word), "{word:?} is in the log");
    }
}

/// A directory with the configuration of a running server.
fn configured_for(server: &Server) -> Directory {
    let directory = Directory::new();
    let settings =
        Settings::new().server("host", quoted("127.0.0.1")).server("port", server.address.port());
    directory.write("config.toml", &settings.toml());
    directory
}
