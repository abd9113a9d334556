//! A database of apps: its URL, soketi's variables for it, and the rows of its table.

use super::{Setup, with_app};
use crate::config::{AppConfig, ClientEvents, Config, WebhookEvent};
use std::net::{IpAddr, Ipv4Addr};

const URL: &str = "postgres://u:hunter2@h/d";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const NETWORK: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn with_url(url: &str) -> Setup {
    Setup::default().env("CAMPANILE_APPS_FROM__URL", url)
}

#[test]
fn a_database_makes_apps_in_the_configuration_optional() {
    let loaded = with_url(URL).loaded();
    assert!(loaded.config.apps.is_empty() && !loaded.is_development());
    assert_eq!(loaded.config.server.host, "0.0.0.0", "the development app is not served");
    assert!(!loaded.effective_toml().contains("hunter2"));
    let both = with_app().env("CAMPANILE_APPS_FROM__URL", URL).loaded().config;
    assert_eq!(both.apps.len(), 1);
    let limit = with_url(URL).env("CAMPANILE_APPS__0__MAX_CONNECTIONS", "5").error();
    assert!(limit.contains("apps[0].id: is required"), "{limit}");
    let with_folder = with_url(URL).env("SOKETI_PRESENCE_MAX_MEMBERS", "7").further_file(
        "apps.d/a.toml",
        "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecret = \"a-secret-in-a-file\"\n",
    );
    assert_eq!(with_folder.loaded().config.apps.len(), 1);
}

#[test]
fn the_url_of_a_database_is_checked_and_not_shown() {
    for url in [
        "postgres://u:p@h/d",
        "postgresql://u:p@h:1/d?sslmode=verify-full&sslrootcert=/a.pem",
        "postgres:///d?host=/run/postgresql",
        "mysql://u:p@h/d?ssl-mode=VERIFY_IDENTITY&ssl-ca=/a.pem",
        "mariadb://u@h/d?socket=/run/mysqld/mysqld.sock",
        "sqlite:///a/b.db",
    ] {
        assert!(with_url(url).load().is_ok(), "{url}");
    }
    let schemes = "must begin with postgres://, mysql:// or sqlite://";
    for (url, rule) in [
        ("hunter2", schemes),
        ("oracle://u:hunter2@h/d", schemes),
        ("postgres://u:hunter2@h", "must end with the name of the database"),
        ("mysql://u:hunter2@h/", "must end with the name of the database"),
        ("sqlite://", "must name a file"),
        ("sqlite:///hunter2?mode=rwc", "must have no parameters"),
        (
            "postgres://u:hunter2@h/d?ssl=true",
            "must have no other parameters than sslmode, sslrootcert, sslcert, sslkey and host",
        ),
        (
            "mysql://u:hunter2@h/d?sslmode=REQUIRED",
            "must have no other parameters than ssl-mode, ssl-ca, ssl-cert, ssl-key and socket",
        ),
        ("mysql://u:hunter2 @h/d", "must not contain white space: percent-encode it"),
    ] {
        let expected = format!("environment CAMPANILE_APPS_FROM__URL: apps_from.url: {rule}");
        assert_eq!(with_url(url).error(), expected);
    }
}

#[test]
fn the_name_of_a_table_cannot_end_a_query() {
    let with = |table: &str| with_url(URL).env("CAMPANILE_APPS_FROM__TABLE", table).load();
    for table in ["apps", "my_apps-2", "public.apps"] {
        assert_eq!(with(table).unwrap().config.apps_from.table, table);
    }
    for table in ["", ".", "a.", "a.b.c", "a b", "apps\"; DROP TABLE apps", "a`b", "é"] {
        assert!(with(table).is_err(), "{table:?}");
    }
}

/// A server that is configured by soketi's variables `SOKETI_NAME=VALUE`.
fn soketi(lines: &[&str]) -> Setup {
    lines.iter().fold(Setup::default(), |setup, line| {
        let (name, value) = line.split_once('=').unwrap();
        setup.env(&format!("SOKETI_{name}"), value)
    })
}

#[test]
fn soketis_variables_say_where_its_database_is() {
    for (lines, url) in [
        (&["APP_MANAGER_DRIVER=mysql"][..], "mysql://root:password@127.0.0.1:3306/main"),
        (&["APP_MANAGER_DRIVER=postgres"], "postgres://postgres:password@127.0.0.1:5432/main"),
        (
            &[
                "APP_MANAGER_DRIVER=mysql",
                "DB_MYSQL_HOST=::1",
                "DB_MYSQL_PORT=3307",
                "DB_MYSQL_USERNAME=so ke",
                "DB_MYSQL_PASSWORD=p@:/",
                "DB_MYSQL_DATABASE=d?b",
            ],
            "mysql://so%20ke:p%40%3A%2F@[::1]:3307/d%3Fb",
        ),
        (
            &["APP_MANAGER_DRIVER=postgres", "DB_POSTGRES_PASSWORD=", "DB_POSTGRES_HOST=db"],
            "postgres://postgres:@db:5432/main",
        ),
    ] {
        let config = soketi(lines).loaded().config;
        assert_eq!(config.apps_from.url.expose(), url, "{lines:?}");
        assert!(config.apps.is_empty());
    }
    let loaded = soketi(&["APP_MANAGER_DRIVER=mysql", "APP_MANAGER_MYSQL_TABLE=tenants"]).loaded();
    assert_eq!((loaded.config.apps_from.table.as_str(), loaded.warnings), ("tenants", vec![]));
    let error = soketi(&["APP_MANAGER_DRIVER=mysql", "DB_MYSQL_PORT=x"]).error();
    assert!(error.starts_with("environment SOKETI_DB_MYSQL_PORT: "), "{error}");
}

#[test]
fn soketis_cache_and_pool_are_taken_over() {
    let of = |lines: &[&str]| {
        let all = [&["APP_MANAGER_DRIVER=postgres"][..], lines].concat();
        let apps_from = soketi(&all).loaded().config.apps_from;
        (apps_from.cache_ttl_s, apps_from.pool_size)
    };
    assert_eq!(of(&[]), (1, 5), "soketi asks for each connection");
    assert_eq!(of(&["APP_MANAGER_CACHE_ENABLED=true"]), (86_400, 5), "soketi keeps apps forever");
    assert_eq!(of(&["APP_MANAGER_CACHE_ENABLED=1", "APP_MANAGER_CACHE_TTL=30"]), (30, 5));
    assert_eq!(of(&["DB_POOLING_ENABLED=true"]), (1, 7));
    assert_eq!(of(&["DB_POOLING_ENABLED=true", "DB_POOLING_MAX=20"]), (1, 20));
}

#[test]
fn variables_of_a_database_that_is_not_used_are_noted() {
    let warnings = |lines: &[&str]| soketi(lines).loaded().warnings;
    let why =
        "has no effect: SOKETI_APP_MANAGER_DRIVER (appManager.driver) does not name this database";
    let unused = warnings(&["DB_MYSQL_HOST=db", "DB_POSTGRES_HOST=127.0.0.1"]);
    assert_eq!(unused, [format!("environment SOKETI_DB_MYSQL_HOST {why}")]);
    let other = warnings(&["APP_MANAGER_DRIVER=mysql", "APP_MANAGER_POSTGRES_TABLE=x"]);
    assert_eq!(other, [format!("environment SOKETI_APP_MANAGER_POSTGRES_TABLE {why}")]);
    let least = warnings(&["APP_MANAGER_DRIVER=mysql", "DB_POOLING_MIN=2"]);
    assert_eq!(
        least,
        [
            "environment SOKETI_DB_POOLING_MIN has no effect: connections are made when they are needed"
        ]
    );
}

#[test]
fn soketis_file_names_its_database_too() {
    let file = r#"{"appManager": {"driver": "mysql", "mysql": {"table": "t"}},
        "database": {"mysql": {"host": "db", "port": 3307, "password": 5}}}"#;
    let loaded = Setup::default().file(file).loaded();
    let apps_from = loaded.config.apps_from;
    assert_eq!(apps_from.url.expose(), "mysql://root:5@db:3307/main");
    assert_eq!((apps_from.table.as_str(), loaded.config.apps.len()), ("t", 0));
}

/// A row with the columns that each app needs, and `more`.
fn read(config: &Config, more: &[(&str, &str)], address: IpAddr) -> Result<AppConfig, String> {
    let needed = [("id", "1"), ("key", "k"), ("secret", "a-secret-of-a-tenant")];
    let others = needed.iter().filter(|(name, _)| more.iter().all(|(other, _)| name != other));
    let row = others.chain(more).map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let row: Vec<_> = row.filter(|(_, text)| text != "null").collect();
    config.app_of_row(&row, address).map_err(|error| error.to_string())
}

fn config() -> Config {
    with_url(URL).loaded().config
}

#[test]
fn columns_are_soketis_and_nulls_mean_the_default() {
    let app = read(&config(), &[], NETWORK).unwrap();
    let expected = AppConfig {
        id: "1".into(),
        key: "k".into(),
        secret: app.secret.clone(),
        ..AppConfig::default()
    };
    assert_eq!(app, expected);
    let row = [
        ("max_connections", "-1"),
        ("enabled", "0"),
        ("enable_client_messages", "0"),
        ("max_backend_events_per_sec", "50"),
        ("max_client_events_per_sec", "-1"),
        ("max_read_req_per_sec", "9"),
        ("max_presence_members_per_channel", "30"),
        ("max_presence_member_size_in_kb", "2"),
        ("max_channel_name_length", "100"),
        ("max_event_channels_at_once", "20"),
        ("max_event_name_length", "90"),
        ("max_event_payload_in_kb", "0.5"),
        ("max_event_batch_size", "7"),
        ("enable_user_authentication", "1"),
        ("created_at", "2024-01-01"),
    ];
    let app = read(&config(), &row, NETWORK).unwrap();
    assert_eq!(
        (app.max_connections, app.enabled, app.client_events),
        (0, false, ClientEvents::None)
    );
    assert_eq!((app.requests_per_second, app.client_events_per_second), (50, 0));
    assert_eq!((app.max_presence_members, app.max_presence_user_info_bytes), (30, 2_048));
    assert_eq!((app.max_channel_name_length, app.max_event_channels), (100, 20));
    assert_eq!((app.max_event_name_length, app.max_event_bytes), (90, 512));
    assert_eq!((app.max_batch_events, app.user_authentication), (7, true));
    assert_eq!(app.authorized_connections_timeout_s, 30, "as in soketi");
}

#[test]
fn a_column_may_have_the_name_of_another_setting_but_name_no_file() {
    let row = [("allowed_origins", r#"["a.test","b.test"]"#), ("cache_ttl_s", "60")];
    let app = read(&config(), &row, NETWORK).unwrap();
    assert_eq!(app.allowed_origins, ["a.test", "b.test"]);
    assert_eq!(app.cache_ttl_s, 60);
    let app = read(&config(), &[("secret_file", "/etc/passwd")], NETWORK).unwrap();
    assert_eq!((app.secret_file.as_str(), app.secret.expose()), ("", "a-secret-of-a-tenant"));
}

#[test]
fn webhooks_are_those_of_soketi() {
    let webhooks = r#"[{"url":"https://a.test/h","event_types":["channel_occupied"],"filter":{"channel_name_starts_with":"p"}}]"#;
    let app = read(&config(), &[("webhooks", webhooks)], NETWORK).unwrap();
    assert_eq!(app.webhooks[0].events, [WebhookEvent::ChannelOccupied]);
    assert_eq!(app.webhooks[0].channel_prefix, "p");
    assert!(read(&config(), &[("webhooks", "[]")], NETWORK).unwrap().webhooks.is_empty());
    for broken in ["{", "[{}]", r#"[{"url":"https://a.test","event_types":["x"]}]"#] {
        let error = read(&config(), &[("webhooks", broken)], NETWORK).unwrap_err();
        assert!(error.starts_with("table apps: webhooks"), "{error}");
    }
}

#[test]
fn an_invalid_value_is_reported_with_its_column() {
    for (row, expected) in [
        (&[("id", "null")][..], "table apps: id: is required"),
        (&[("secret", "")], "table apps: secret: is required"),
        (&[("key", "a/b")], "table apps: key: must not contain `/`, `:`, `?`, `#` or white space"),
        (
            &[("max_connections", "-7")],
            "table apps: max_connections: is set to -7, and must be from 0 to 10000000",
        ),
        (&[("enabled", "2")], "table apps: enabled: must be true or false, or 1 or 0"),
        (
            &[("max_event_batch_size", "many")],
            "table apps: max_event_batch_size: must be an integer",
        ),
        (
            &[("max_event_payload_in_kb", "1025")],
            "table apps: max_event_payload_in_kb: is 1049600 bytes, and must be at most \
             server.max_request_bytes (1048576)",
        ),
        (
            &[("tls_only", "1")],
            "table apps: tls_only: rejects all clients unless server.tls or server.trusted_proxies is set",
        ),
    ] {
        assert_eq!(read(&config(), row, NETWORK).unwrap_err(), expected);
    }
    let largest = read(&config(), &[("max_event_payload_in_kb", "1024")], NETWORK).unwrap();
    assert_eq!(largest.max_event_bytes, 1_048_576);
}

#[test]
fn a_guessable_secret_is_rejected_off_loopback() {
    let row = [("id", "app-id"), ("key", "app-key"), ("secret", "app-secret")];
    let error = read(&config(), &row, NETWORK).unwrap_err();
    assert_eq!(error, "table apps: secret: is a published placeholder");
    assert!(read(&config(), &row, LOOPBACK).is_ok());
}

#[test]
fn the_limits_of_soketis_variables_are_those_of_all_rows() {
    let config =
        soketi(&["APP_MANAGER_DRIVER=mysql", "PRESENCE_MAX_MEMBERS=40", "DEFAULT_APP_MAX_CONNS=3"]);
    let config = config.loaded().config;
    let app = read(&config, &[("max_presence_members_per_channel", "null")], NETWORK).unwrap();
    assert_eq!(app.max_presence_members, 40);
    assert_eq!(app.client_events, ClientEvents::None, "the default of soketi");
    assert_eq!(app.cache_ttl_s, 3_600, "the default of soketi");
    assert_eq!(app.max_connections, 0, "the default app is another one");
    let own = read(&config, &[("max_presence_members_per_channel", "50")], NETWORK).unwrap();
    assert_eq!(own.max_presence_members, 50);
}
