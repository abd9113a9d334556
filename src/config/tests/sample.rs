//! The `config.toml` at the root of the repository.

use crate::config::{
    Config,
    draft::Draft,
    file,
    load::to_config,
    schema::{Schema, ValueKind},
    tests::Setup,
    values,
};

const SAMPLE: &str = include_str!("../../../config.toml");

#[test]
fn the_sample_is_the_default_configuration() {
    let mut draft = Draft::default();
    file::read("config.toml", SAMPLE, &Schema::new(), &mut draft).unwrap();
    assert_eq!(to_config(&draft).unwrap(), Config::default());
}

#[test]
fn the_sample_shows_every_key() {
    for (pattern, _) in Schema::new().leaves() {
        let (section, key) = pattern.rsplit_once('.').unwrap();
        let header = match section.strip_suffix("[]") {
            Some(list) => format!("[[{}]]", list.replace("[]", "")),
            None => format!("[{section}]"),
        };
        let lines = SAMPLE.lines().map(|line| line.trim_start_matches("# "));
        let found = lines
            .skip_while(|line| *line != header)
            .skip(1)
            .take_while(|line| !line.starts_with('['))
            .any(|line| line.starts_with(&format!("{key} = ")));
        assert!(found, "{pattern}");
    }
}

#[test]
fn the_sample_can_be_used_as_it_is() {
    let loaded = Setup::default().file(SAMPLE).loaded();
    assert!(loaded.is_development());
    assert_eq!(loaded.notes, [""; 0]);
}

#[test]
fn the_sample_beside_a_reverb_project_gives_way_to_it() {
    let dotenv = "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=a-secret-of-reverb\nREVERB_MAX_REQUEST_SIZE=10000";
    let loaded = Setup::default().file(SAMPLE).dotenv(dotenv).loaded();
    assert!(!loaded.is_development());
    assert_eq!(loaded.config.apps[0].id, "1");
    assert_eq!(loaded.config.apps[0].max_event_bytes, 10_000);
}

#[test]
fn the_built_in_defaults_hold_all_rules() {
    let mut draft = Draft::default();
    file::read("config.toml", SAMPLE, &Schema::new(), &mut draft).unwrap();
    assert_eq!(values::check(&mut draft), Ok(()));
}

/// The comment above each key of the sample, as one line.
fn comments() -> Vec<(String, String)> {
    let (mut section, mut comment, mut comments) = (String::new(), String::new(), Vec::new());
    for line in SAMPLE.lines() {
        if let Some(words) = line.strip_prefix("# ") {
            comment.extend([words, " "]);
        } else if let Some(list) = line.strip_prefix("[[") {
            section = format!("{}[]", list.trim_end_matches(']'));
        } else if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((name, _)) = line.split_once(" = ") {
            comments.push((format!("{section}.{name}"), std::mem::take(&mut comment)));
        } else {
            comment.clear();
        }
    }
    comments
}

/// A number in the format of the sample.
fn spelled(number: i64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| 0 < number && number % unit == 0) {
        Some((unit, name)) => format!("{} {name}", number / unit),
        None => number.to_string(),
    }
}

#[test]
fn the_sample_says_the_range_of_each_integer() {
    // Minimums that follow from what the setting must hold.
    let unsaid = [
        ("connection.max_outbox_bytes", 1_024),
        ("apps[].max_event_bytes", 1),
        ("apps[].max_presence_user_info_bytes", 1),
    ];
    let comments = comments();
    for (key, least, largest) in values::RANGES {
        if key == "server.port" {
            assert_eq!((least, largest), (0, i64::from(u16::MAX)));
            continue;
        }
        let (_, comment) = comments.iter().find(|(name, _)| name == key).unwrap();
        let has = |words: String| {
            comment.split(&words).skip(1).any(|rest| rest.starts_with(['.', ',', ';']))
        };
        let spells = [spelled(least), least.to_string()];
        let is_range = spells.iter().any(|least| has(format!("{least} to {}", spelled(largest))));
        let is_most = has(format!("t most {}", spelled(largest)))
            && (least == 0 || unsaid.contains(&(key, least)));
        assert!(is_range || is_most, "{key} is from {least} to {largest}: {comment}");
    }
}

#[test]
fn every_integer_has_a_range() {
    let schema = Schema::new();
    let integers =
        schema.leaves().filter(|(_, kind)| *kind == ValueKind::Integer).map(|(key, _)| key);
    let mut integers: Vec<_> = integers.collect();
    let mut ranges: Vec<_> = values::RANGES.iter().map(|(key, _, _)| *key).collect();
    integers.sort_unstable();
    ranges.sort_unstable();
    assert_eq!(integers, ranges);
}
