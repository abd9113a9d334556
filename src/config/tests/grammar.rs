//! The grammar of `.env`.

use super::{Setup, with_app};
use crate::config::dotenv::{SyntaxError, parse};
use std::collections::BTreeMap;

fn value(text: &str) -> String {
    let env = [("OUTER".to_owned(), "outer".to_owned())].into();
    parse(text, &env).unwrap().remove("A").unwrap_or_else(|| panic!("{text:?} sets no A"))
}

#[test]
fn a_value_is_read_as_phpdotenv_reads_it() {
    for (text, expected) in [
        ("A=plain", "plain"),
        ("A=", ""),
        ("A= spaced  ", "spaced"),
        ("  A = spaced", "spaced"),
        ("export A=x", "x"),
        ("'A'=x", "x"),
        ("A=x\r\nB=y\r\n", "x"),
        ("\u{feff}A=x", "x"),
        ("A=x # comment", "x"),
        ("A=x#comment", "x"),
        ("A=#comment", ""),
        ("A=\"a # b\" # comment", "a # b"),
        ("A='a # b'", "a # b"),
        ("A=a=b==", "a=b=="),
        ("A=back\\slash", "back\\slash"),
        ("A=it's", "it's"),
        ("A=\"a \\\"b\\\" \\\\ \\$ \\n\"", "a \"b\" \\ $ \n"),
        ("A='a\\nb'", "a\\nb"),
        ("A=\"two\nlines\"\nB=1", "two\nlines"),
        ("B=1\nA=last\nA=wins", "wins"),
        ("# A=no\n\n   # A=no\nA=yes", "yes"),
    ] {
        assert_eq!(value(text), expected, "{text:?}");
    }
}

#[test]
fn a_variable_stands_for_its_value() {
    for (text, expected) in [
        ("B=b\nA=${B}", "b"),
        ("B=b\nA=\"<${B}>${B}\"", "<b>b"),
        ("B=b\nA='${B}'", "${B}"),
        ("A=${OUTER}", "outer"),
        ("OUTER=inner\nA=${OUTER}", "outer"),
        ("A=${UNKNOWN}", "${UNKNOWN}"),
        ("A=pa$sword", "pa$sword"),
        ("B=b\nA=$B", "$B"),
        ("B=b\nA=\"\\${B}\"", "${B}"),
        ("A=${", "${"),
    ] {
        assert_eq!(value(text), expected, "{text:?}");
    }
}

#[test]
fn a_line_that_is_not_understood_is_named() {
    let quote = "a quote is not closed";
    let space = "a value with white space needs quotes";
    let name = "a line must be NAME=value, the name of letters, digits, dots and underscores";
    let escape = r#"unknown escape: expected one of " \ $ n r t v f"#;
    for (text, line, message) in [
        ("A=1\nB=a b", 2, space),
        ("A=\"a\"b", 1, space),
        ("A=1\n\nB=\"open\nC=1", 3, quote),
        ("A='open\n'", 1, quote),
        ("A=\"\\q\"", 1, escape),
        ("=1", 1, name),
        ("two words=1", 1, name),
        ("a-b", 1, name),
    ] {
        let expected = Err(SyntaxError { line, message });
        assert_eq!(parse(text, &BTreeMap::new()), expected, "{text:?}");
    }
}

#[test]
fn a_name_alone_sets_nothing() {
    assert_eq!(parse("A\nexport B\n", &BTreeMap::new()), Ok(BTreeMap::new()));
}

#[test]
fn hostile_text_ends_without_a_panic() {
    let pieces =
        ["A", "=", "\"", "'", "\\", "$", "{", "}", "#", " ", "\n", "\r", "é", "${A}", "export "];
    let mut seed = 7_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push_str(pieces[usize::try_from(seed >> 33).unwrap() % pieces.len()]);
        }
        let _ = parse(&text, &BTreeMap::new());
    }
}

#[test]
fn a_broken_dotenv_is_rejected_with_its_line() {
    let error = with_app().dotenv("APP_NAME=Laravel\nAPP_URL=a b").error();
    assert_eq!(error, ".env:2: a value with white space needs quotes");
}

#[test]
fn laravels_words_and_nested_variables_reach_the_configuration() {
    let dotenv = "APP_HOST=127.0.0.1\nREVERB_SERVER_HOST=\"${APP_HOST}\"\nREVERB_SERVER_PATH=(empty)\n\
        REVERB_SERVER_PORT=null\nREVERB_SCALING_ENABLED=(false)";
    let loaded = Setup::default().dotenv(dotenv).loaded();
    assert_eq!(loaded.config.server.host, "127.0.0.1");
    assert_eq!(loaded.config.server.path, "");
    assert_eq!(loaded.config.server.port, 8080);
}
