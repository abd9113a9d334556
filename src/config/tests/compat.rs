//! The defaults of Reverb and soketi.

use super::{Setup, source, with_app};
use crate::config::{AppConfig, ClientEvents, Loaded, schema::flatten};

const REVERB_PAGE: &str = include_str!("../../../docs/migrate/reverb.md");
const SOKETI_PAGE: &str = include_str!("../../../docs/migrate/soketi.md");
const LARAVEL_WEBSOCKETS_PAGE: &str = include_str!("../../../docs/migrate/laravel-websockets.md");
const PUSHER_PAGE: &str = include_str!("../../../docs/migrate/pusher.md");

/// An app that is configured with Reverb's variables.
fn reverb() -> Setup {
    Setup::default().dotenv("REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s3cr3t-of-reverb")
}

/// An app that is configured with soketi's variables.
fn soketi() -> Setup {
    Setup::default()
        .env("SOKETI_DEFAULT_APP_ID", "1")
        .env("SOKETI_DEFAULT_APP_KEY", "k")
        .env("SOKETI_DEFAULT_APP_SECRET", "s3cr3t-of-soketi")
}

fn settings(loaded: &Loaded) -> Vec<(String, String)> {
    let values = flatten(&loaded.config).into_iter();
    let values = values.map(|(key, value)| (key.to_string(), value.to_string()));
    values
        .filter(|(key, _)| !["id", "key"].iter().any(|name| key == &format!("apps[0].{name}")))
        .collect()
}

/// The rows of the table with this header.
fn rows<'a>(page: &'a str, header: &str) -> Vec<&'a str> {
    let (_, table) = page.split_once(header).expect(header);
    table.lines().skip(2).take_while(|line| line.starts_with('|')).collect()
}

#[test]
fn the_tables_of_the_manual_are_what_the_code_does() {
    for (page, header, setup) in [
        (REVERB_PAGE, "| setting | in `config.toml` | from `REVERB_APP_*` |", reverb()),
        (SOKETI_PAGE, "| setting | in `config.toml` | from soketi's configuration |", soketi()),
    ] {
        let [own, other] = [with_app(), setup].map(|setup| settings(&setup.loaded()));
        let differing = own.iter().zip(&other).filter(|(own, other)| own != other);
        let expected: Vec<_> = differing
            .map(|((key, own), (_, other))| format!("| `{key}` | {own} | {other} |"))
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(rows(page, header), expected);
    }
}

/// An app from `PUSHER_*` has Campanile's defaults, whichever server it is from.
#[test]
fn the_tables_of_other_servers_have_the_defaults_of_campanile() {
    let mut pusher = Setup::default()
        .dotenv("PUSHER_APP_ID=1\nPUSHER_APP_KEY=k\nPUSHER_APP_SECRET=s3cr3t-of-pusher");
    pusher.sources.pusher_env = true;
    let own = settings(&pusher.loaded());
    for (page, header) in [
        (LARAVEL_WEBSOCKETS_PAGE, "| setting | laravel-websockets | Campanile |"),
        (PUSHER_PAGE, "| setting | hosted Pusher | Campanile |"),
    ] {
        let rows = rows(page, header);
        assert!(5 < rows.len(), "{header}");
        for row in rows {
            let is_default = |(key, value): &(String, String)| {
                row.starts_with(&format!("| `{key}` | ")) && row.ends_with(&format!(" | {value} |"))
            };
            assert!(own.iter().any(is_default), "{row}");
        }
    }
}

#[test]
fn check_names_the_server_whose_default_it_is() {
    let loaded = reverb().loaded();
    assert_eq!(source(&loaded, "[[apps]]", "max_presence_members"), "default of Reverb");
    assert_eq!(source(&loaded, "[[apps]]", "max_connections"), "default");
    assert!(
        loaded.infos[1].starts_with("configured by REVERB_* variables: "),
        "{:?}",
        loaded.infos
    );
    assert_eq!(loaded.warnings, [""; 0]);
    let loaded = soketi().loaded();
    assert_eq!(source(&loaded, "[server]", "port"), "default of soketi");
    assert!(
        loaded.infos[0].starts_with("configured by SOKETI_* variables or soketi's file: "),
        "{:?}",
        loaded.infos
    );
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(with_app().loaded().infos, [""; 0]);
}

#[test]
fn explicit_values_override_the_other_servers_defaults() {
    let file = "[connection]\nmax_message_bytes = 65_536\n";
    let loaded = soketi()
        .file(file)
        .env("SOKETI_PORT", "7001")
        .env("CAMPANILE_APPS__0__CLIENT_EVENTS", "members")
        .env("REVERB_APP_MAX_CONNECTIONS", "5")
        .loaded();
    assert_eq!(loaded.config.server.port, 7001);
    assert_eq!(loaded.config.connection.max_message_bytes, 65_536);
    assert_eq!(loaded.config.apps[0].client_events, ClientEvents::Members);
    assert_eq!(loaded.config.apps[0].max_connections, 5);
    assert_eq!(loaded.config.apps[0].cache_ttl_s, 3_600);
}

#[test]
fn an_app_of_the_file_has_campaniles_defaults() {
    let file = "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecret = \"s3cr3t-of-ours\"";
    let loaded =
        Setup::default().file(file).env("SOKETI_DEBUG", "1").env("REVERB_HOST", "x").loaded();
    assert_eq!(loaded.config.apps[0].cache_ttl_s, 1_800);
    assert_eq!(loaded.config.server.port, 8080);
}

#[test]
fn the_variable_of_the_key_decides_the_defaults() {
    let both = || {
        soketi().env("REVERB_APP_KEY", "k").env("REVERB_APP_ID", "1").env("REVERB_APP_SECRET", "s")
    };
    assert_eq!(both().loaded().config.apps[0].max_presence_members, 1_000_000);
    assert_eq!(
        both().env("CAMPANILE_APPS__0__KEY", "k").loaded().config.apps[0].max_presence_members,
        100
    );
}

#[test]
fn the_development_app_has_the_defaults_of_the_server_whose_variables_are_set() {
    let loaded = Setup::default().env("SOKETI_DEBUG", "1").loaded();
    assert!(loaded.is_development());
    assert_eq!(loaded.config.server.port, 6001);
    assert_eq!(loaded.config.apps[0].client_events, ClientEvents::None);
    let loaded = Setup::default().env("SOKETI_DEBUG", "").loaded();
    assert_eq!(loaded.config.server.port, 8080);
}

#[test]
fn soketi_has_an_id_and_a_key_by_itself_but_no_secret_here() {
    let secret = Setup::default().env("SOKETI_DEFAULT_APP_SECRET", "s3cr3t-of-soketi").loaded();
    assert_eq!(secret.config.apps[0].id, "app-id");
    assert_eq!(secret.config.apps[0].key, "app-key");
    assert_eq!(source(&secret, "[[apps]]", "key"), "default of soketi");
}

#[test]
fn a_small_outbox_keeps_a_small_message() {
    let loaded = soketi().env("CAMPANILE_CONNECTION__MAX_OUTBOX_BYTES", "110000").loaded();
    assert_eq!(loaded.config.connection.max_message_bytes, 65_536);
}

#[test]
fn a_raised_request_raises_the_event_and_the_outbox() {
    let loaded = reverb().env("REVERB_MAX_REQUEST_SIZE", "5000000").loaded();
    assert_eq!(loaded.config.server.max_request_bytes, 5_000_000);
    assert_eq!(loaded.config.apps[0].max_event_bytes, 5_000_000);
    assert_eq!(loaded.config.connection.max_outbox_bytes, 10_000_000);
    let by = "environment REVERB_MAX_REQUEST_SIZE also sets";
    let expected = [
        format!("{by} apps[0].max_event_bytes to 5000000, so that the two limits are consistent"),
        format!(
            "{by} connection.max_outbox_bytes to 10000000, so that the two limits are consistent"
        ),
    ];
    assert_eq!(loaded.warnings, expected);
    let event = |setup: Setup| setup.loaded().config.apps[0].max_event_bytes;
    let raised = |by: &str| reverb().env("REVERB_MAX_REQUEST_SIZE", by);
    assert_eq!(event(raised("200000")), 200_000);
    assert_eq!(event(raised("100000000")), 67_108_864);
    assert_eq!(
        event(raised("5000000").file("[connection]\nmax_outbox_bytes = 2_000_000")),
        2_000_000
    );
    assert_eq!(
        event(
            raised("5000000")
                .file("[connection]\nmax_outbox_bytes = 70_000")
                .env("CAMPANILE_APPS__0__MAX_EVENT_BYTES", "60000")
        ),
        60_000
    );
    assert_eq!(event(raised("5000000").env("CAMPANILE_APPS__0__MAX_EVENT_BYTES", "60000")), 60_000);
}

#[test]
fn a_limit_that_fits_exactly_leaves_the_others_alone() {
    let event = AppConfig::default().max_event_bytes;
    let loaded = reverb().env("REVERB_MAX_REQUEST_SIZE", &event.to_string()).loaded();
    assert_eq!(source(&loaded, "[[apps]]", "max_event_bytes"), "default");
    assert_eq!(loaded.warnings, [""; 0]);
    let larger = event + 1;
    let loaded = reverb().env("REVERB_MAX_REQUEST_SIZE", &larger.to_string()).loaded();
    assert_eq!(loaded.config.apps[0].max_event_bytes, larger);
    let loaded = reverb().env("REVERB_MAX_REQUEST_SIZE", &(event - 1).to_string()).loaded();
    assert_eq!(loaded.config.apps[0].max_event_bytes, event - 1);

    let file = "[server]\nmax_request_bytes = 204_800\n[connection]\nmax_outbox_bytes = 204_800";
    let limits = |event: &str| {
        let loaded = with_app().file(file).env("SOKETI_EVENT_MAX_SIZE_IN_KB", event).loaded();
        let server = loaded.config.server.max_request_bytes;
        (server, loaded.config.connection.max_outbox_bytes, loaded.warnings.len())
    };
    assert_eq!(limits("199"), (204_800, 204_800, 0));
    assert_eq!(limits("200"), (204_800, 204_800, 0));
    assert_eq!(limits("201"), (411_648, 411_648, 2));

    let message = |bytes: &str| {
        let loaded = with_app().env("REVERB_APP_MAX_MESSAGE_SIZE", bytes).loaded();
        (loaded.config.connection.max_outbox_bytes, loaded.warnings.len())
    };
    assert_eq!(message("1048576"), (1_048_576, 0));
    assert_eq!(message("1048577"), (1_048_577, 1));
}
