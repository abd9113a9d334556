//! The `config.toml` at the root of the repository.

use crate::config::{
    Config, check::check_values, declare::Rule, file, kind::ValueKind, load::deserialize,
    raw_config::RawConfig, schema, tests::Setup,
};

const SAMPLE: &str = include_str!("../../../config.toml");

#[test]
fn the_sample_is_the_default_configuration() {
    let mut raw = RawConfig::default();
    file::read("config.toml", SAMPLE, &mut raw).unwrap();
    assert_eq!(deserialize(&raw).unwrap(), Config::default());
}

#[test]
fn the_sample_can_be_used_as_it_is() {
    let loaded = Setup::default().file(SAMPLE).loaded();
    assert!(loaded.is_development());
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn reverb_variables_override_the_sample_file() {
    let dotenv = "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=a-secret-of-reverb\nREVERB_MAX_REQUEST_SIZE=10000";
    let loaded = Setup::default().file(SAMPLE).dotenv(dotenv).loaded();
    assert!(!loaded.is_development());
    assert_eq!(loaded.config.apps[0].id, "1");
    assert_eq!(loaded.config.apps[0].max_event_bytes, 10_000);
}

#[test]
fn the_defaults_satisfy_all_rules() {
    let mut raw = RawConfig::default();
    file::read("config.toml", SAMPLE, &mut raw).unwrap();
    assert_eq!(check_values(&mut raw), Ok(()));
}

#[test]
fn every_integer_has_a_range() {
    for setting in schema::settings() {
        let has_range = matches!(setting.rule, Rule::Range(..));
        assert_eq!(setting.kind == ValueKind::Integer, has_range, "{}", setting.key);
    }
}
