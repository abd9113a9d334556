//! Every setting in `config.toml` has a test that changes it by a reload.

use std::collections::BTreeSet;

use super::{
    app_directory, app_limits, apps, connections, console, restart, settings, tls, webhooks,
};

/// Each setting that a reload changes, with the test that shows that the running server applies the new value.
const TESTS: [(&str, fn()); 66] = [
    (
        "server.path",
        settings::request_limits_metrics_token_and_path_apply_to_keep_alive_connections,
    ),
    ("server.health_at_root", crate::root_page::health_at_root_applies_at_once),
    ("server.max_connections", settings::connection_limits_of_the_node_apply_to_new_connections),
    ("server.max_http_connections", connections::max_http_connections_applies_to_new_connections),
    ("server.max_head_bytes", connections::max_head_bytes_applies_to_new_connections),
    (
        "server.max_request_bytes",
        settings::request_limits_metrics_token_and_path_apply_to_keep_alive_connections,
    ),
    (
        "server.request_timeout_s",
        connections::request_timeout_s_applies_to_requests_and_messages_that_begin,
    ),
    ("server.shutdown_grace_s", connections::shutdown_grace_s_applies_to_the_next_stop),
    ("server.trusted_proxies", settings::trusted_proxies_apply_at_once),
    ("server.tls.cert", tls::changed_certificate_files_are_used_for_new_handshakes),
    ("server.tls.key", tls::changed_certificate_files_are_used_for_new_handshakes),
    (
        "connection.activity_timeout_s",
        connections::activity_and_pong_timeouts_apply_to_connections_that_begin,
    ),
    (
        "connection.pong_timeout_s",
        connections::activity_and_pong_timeouts_apply_to_connections_that_begin,
    ),
    (
        "connection.max_message_bytes",
        settings::max_message_bytes_applies_at_once_and_session_limits_to_new_connections,
    ),
    ("connection.max_outbox_bytes", connections::max_outbox_bytes_applies_to_living_connections),
    (
        "connection.max_channels",
        settings::max_message_bytes_applies_at_once_and_session_limits_to_new_connections,
    ),
    (
        "connection.max_connections_per_ip",
        settings::connection_limits_of_the_node_apply_to_new_connections,
    ),
    (
        "connection.new_connections_per_second_per_ip",
        connections::new_connections_per_second_per_ip_applies_to_new_connections,
    ),
    (
        "connection.max_messages_per_second",
        connections::max_messages_per_second_applies_to_connections_that_begin,
    ),
    (
        "connection.strict_protocol",
        settings::max_message_bytes_applies_at_once_and_session_limits_to_new_connections,
    ),
    ("apps[].id", apps::a_new_app_is_served_at_once_and_the_others_notice_nothing),
    ("apps[].key", apps::an_app_with_another_key_is_another_app),
    ("apps[].secret", apps::another_secret_applies_to_later_signatures),
    ("apps[].secret_file", apps::the_file_of_a_secret_is_read_again),
    ("apps[].enabled", apps::a_disabled_app_rejects_everything_until_it_is_enabled_again),
    ("apps[].allowed_origins", apps::changed_origins_apply_to_new_connections),
    ("apps[].tls_only", app_limits::tls_only_applies_to_connections_that_begin),
    ("apps[].max_connections", apps::a_changed_connection_limit_applies_to_new_connections),
    ("apps[].client_events", apps::changed_app_limits_apply_to_existing_connections),
    (
        "apps[].client_events_per_second",
        app_limits::client_events_per_second_applies_to_living_connections,
    ),
    ("apps[].max_messages", app_limits::max_messages_applies_to_living_connections),
    (
        "apps[].max_messages_window_s",
        app_limits::max_messages_window_s_applies_to_living_connections,
    ),
    ("apps[].max_messages_closes", app_limits::max_messages_closes_applies_to_living_connections),
    ("apps[].user_authentication", apps::changed_app_limits_apply_to_existing_connections),
    (
        "apps[].authorized_connections_timeout_s",
        app_limits::authorized_connections_timeout_s_applies_to_connections_that_begin,
    ),
    ("apps[].subscription_count", apps::subscription_counts_can_be_turned_on_and_off),
    ("apps[].max_event_bytes", apps::changed_app_limits_apply_to_existing_connections),
    ("apps[].max_event_channels", app_limits::max_event_channels_applies_to_the_next_publish),
    ("apps[].max_event_name_length", app_limits::max_event_name_length_applies_to_the_next_publish),
    ("apps[].max_batch_events", app_limits::max_batch_events_applies_to_the_next_publish),
    ("apps[].max_channel_name_length", apps::changed_app_limits_apply_to_existing_connections),
    ("apps[].max_presence_members", app_limits::max_presence_members_applies_to_the_next_member),
    (
        "apps[].max_presence_user_info_bytes",
        app_limits::max_presence_user_info_bytes_applies_to_the_next_member,
    ),
    ("apps[].cache_ttl_s", app_limits::cache_ttl_s_applies_to_the_next_event),
    ("apps[].max_cache_bytes", app_limits::max_cache_bytes_applies_at_once_and_to_the_next_event),
    ("apps[].requests_per_second", app_limits::requests_per_second_applies_to_the_next_request),
    ("apps[].console_password", console::another_password_of_an_app_ends_its_sessions),
    ("apps[].console_payloads", console::payloads_are_shown_from_the_next_session_on),
    ("apps[].webhooks[].name", webhooks::the_name_of_a_webhook_labels_its_metrics),
    ("apps[].webhooks[].url", webhooks::webhooks_are_added_changed_and_removed),
    ("apps[].webhooks[].events", webhooks::the_events_and_filters_of_a_webhook_apply_at_once),
    ("apps[].webhooks[].channel_prefix", webhooks::webhooks_are_added_changed_and_removed),
    (
        "apps[].webhooks[].channel_suffix",
        webhooks::the_events_and_filters_of_a_webhook_apply_at_once,
    ),
    ("apps[].webhooks[].headers", webhooks::webhooks_are_added_changed_and_removed),
    (
        "apps[].history[].prefix",
        app_limits::history_applies_at_once_to_what_is_kept_and_to_new_subscriptions,
    ),
    (
        "apps[].history[].seconds",
        app_limits::history_applies_at_once_to_what_is_kept_and_to_new_subscriptions,
    ),
    (
        "apps[].history[].events",
        app_limits::history_applies_at_once_to_what_is_kept_and_to_new_subscriptions,
    ),
    (
        "apps[].history[].replay",
        app_limits::history_applies_at_once_to_what_is_kept_and_to_new_subscriptions,
    ),
    ("apps_from.directory", app_directory::another_folder_is_read_at_once),
    ("webhooks.batch_ms", webhooks::batch_ms_applies_to_the_next_event),
    ("webhooks.deny_private", webhooks::deny_private_applies_to_the_next_request),
    (
        "metrics.token",
        settings::request_limits_metrics_token_and_path_apply_to_keep_alive_connections,
    ),
    ("metrics.token_file", settings::the_file_of_the_metrics_token_is_read_again),
    ("console.password", console::another_password_ends_sessions),
    ("console.password_file", console::the_file_of_the_password_is_read_again),
    ("log.level", settings::the_log_level_applies_at_once),
];

/// The settings in a text with the format of `config.toml`: those of webhooks and history are in comments.
fn documented_settings(text: &str) -> BTreeSet<String> {
    let (mut section, mut settings) = (String::new(), BTreeSet::new());
    for line in text.lines() {
        let example = line
            .strip_prefix("# ")
            .filter(|line| section.starts_with("apps[].") || line.starts_with("[[apps."));
        let line = example.unwrap_or(line);
        let is_name =
            |name: &str| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
        if let Some(name) = line.strip_prefix("[[").and_then(|line| line.strip_suffix("]]")) {
            section = format!("{}[]", name.replace('.', "[]."));
        } else if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((name, _)) = line.split_once(" = ").filter(|(name, _)| is_name(name)) {
            settings.insert(format!("{section}.{name}"));
        }
    }
    settings
}

fn restart_settings() -> BTreeSet<String> {
    restart::KEYS.iter().map(|(section, key, _)| format!("{section}.{key}")).collect()
}

#[test]
fn each_documented_setting_has_a_test_and_each_test_is_of_a_documented_setting() {
    let documented = documented_settings(include_str!("../../../config.toml"));
    let mut tested = restart_settings();
    for (key, _test) in TESTS {
        assert!(tested.insert(key.to_owned()), "{key} is there twice");
    }
    assert_eq!(documented, tested);
}

#[test]
fn the_documents_list_the_settings_that_need_a_restart() {
    let of_redis = |key: &String| key.starts_with("redis.");
    let expected: BTreeSet<String> = restart_settings()
        .into_iter()
        .filter(|key| !of_redis(key))
        .chain(["[redis]".into()])
        .collect();
    let page = include_str!("../../../docs/reload.md");
    let row = page.lines().find(|line| line.contains("**after a restart**")).expect("a row");
    let named: BTreeSet<String> = row.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(named, expected);
    let text = include_str!("../../../config.toml").replace("\n# ", " ");
    let (_, rest) = text.split_once("Only a restart changes ").expect("a list in config.toml");
    let (named, _) = rest.split_once(';').expect("the end of the list");
    let named = named.replace(" and ", ", ");
    assert_eq!(named.split(", ").map(str::to_owned).collect::<BTreeSet<_>>(), expected);
}
