//! JSON files: which files are JSON, and their content.

use crate::config::error::ConfigError;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, error::Category};
use std::{fmt, path::Path};

/// Whether a configuration file is JSON, by its name or its content.
pub(in crate::config) fn is_json(file: &str, text: &str) -> bool {
    let is_named =
        || Path::new(file).extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
    let json = without_comments(text.trim_start());
    // A table of TOML begins with a bracket too.
    let is_list = || {
        json.starts_with('[')
            && (json[1..].trim_start().starts_with('{')
                || json.lines().next().is_some_and(|line| line.trim_end() == "[")
                || serde_json::from_str::<IgnoredAny>(json).is_ok())
    };
    json.starts_with('{') || is_list() || is_named()
}

/// `text` without leading comments, which are not JSON, but are often written in it.
fn without_comments(text: &str) -> &str {
    let mut text = text;
    loop {
        let end = if text.starts_with("//") {
            "\n"
        } else if text.starts_with("/*") {
            "*/"
        } else {
            return text;
        };
        text = text.split_once(end).map_or("", |(_, rest)| rest.trim_start());
    }
}

/// The members of the object that the file contains.
///
/// # Errors
///
/// The text is not JSON, is not an object, or an object in it has a name twice.
pub(super) fn parse(file: &str, text: &str) -> Result<Map<String, Value>, ConfigError> {
    if text.trim().is_empty() {
        return Err(ConfigError::at(file, "is empty: a file without options contains {}"));
    }
    match serde_json::from_str(text) {
        Ok(Unique(Value::Object(members))) => Ok(members),
        Ok(Unique(_other)) => {
            Err(ConfigError::at(file, "must be a JSON object with the options of soketi"))
        }
        Err(error) => Err(syntax_error(file, text, &error)),
    }
}

fn syntax_error(file: &str, text: &str, error: &serde_json::Error) -> ConfigError {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let at = line.get(error.column().saturating_sub(1)..).unwrap_or_default();
    let message = match error.classify() {
        Category::Eof => "is not complete: it ends within a value".to_owned(),
        Category::Syntax if message.contains("recursion limit") => {
            "is nested too deeply".to_owned()
        }
        Category::Syntax if at.starts_with(['/', '#']) => {
            "must have no comments, which are not JSON".to_owned()
        }
        Category::Syntax => format!("is not JSON: {message}"),
        Category::Data | Category::Io => message.to_owned(),
    };
    ConfigError::at(format_args!("{file}:{}", error.line()), message)
}

/// A value without repeated names in its objects. Of those, a parser would drop all but one.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if values.contains_key(&name) {
                return Err(A::Error::custom(format_args!("duplicate name `{name}`")));
            }
            let Unique(value) = members.next_value()?;
            values.insert(name, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_json_by_its_content_or_its_name() {
        for text in [
            "{}",
            " \n{\"port\": 1",
            "// soketi\n{",
            "/* one\n two */ // three\n\n{}",
            "[{ \"id\": 1",
            "[\n  1",
            "[\"a\", \"b\"]\n",
            "[1, 2]",
        ] {
            assert!(is_json("config.toml", text), "{text}");
        }
        for text in ["", "port = 1", "[server]\n", "[[apps]]\n", "[\"a b\"]\nx =", "[ server ]\n"] {
            assert!(!is_json("config.toml", text), "{text}");
            assert!(is_json("/etc/soketi.JSON", text), "{text}");
        }
    }

    fn error(text: &str) -> String {
        parse("f", text).unwrap_err().to_string()
    }

    #[test]
    fn text_that_is_not_a_json_object_is_rejected_with_its_line() {
        for (text, expected) in [
            ("", "f: is empty: a file without options contains {}"),
            (" \n", "f: is empty: a file without options contains {}"),
            ("[{}]", "f: must be a JSON object with the options of soketi"),
            ("6001", "f: must be a JSON object with the options of soketi"),
            ("{\n\"a\": 1,\n", "f:3: is not complete: it ends within a value"),
            ("{\"a\": \"hunter2", "f:1: is not complete: it ends within a value"),
            ("// port\n{}", "f:1: must have no comments, which are not JSON"),
            ("{\n \"a\": 1, // hunter2\n}", "f:2: must have no comments, which are not JSON"),
            ("{\n # a\n}", "f:2: must have no comments, which are not JSON"),
            ("{\"a\": [1,]}", "f:1: is not JSON: trailing comma"),
            ("{\n\"a\": 1,\n}", "f:3: is not JSON: trailing comma"),
            ("{'a': 1}", "f:1: is not JSON: key must be a string"),
            ("{} {}", "f:1: is not JSON: trailing characters"),
            ("{\"a\": 1e999}", "f:1: is not JSON: number out of range"),
            ("{\"a\": 1,\n \"a\": 2}", "f:2: duplicate name `a`"),
            ("{\"a\": [{\"b\": 1, \"c\": 2, \"b\": 3}]}", "f:1: duplicate name `b`"),
            ("{\"a\": 1, \"\\u0061\": 2}", "f:1: duplicate name `a`"),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_rejected() {
        for open in ["[", "{\"a\":"] {
            let text = format!("{{\"a\":{}", open.repeat(1_000_000));
            assert_eq!(error(&text), "f:1: is nested too deeply");
        }
    }

    #[test]
    fn a_value_is_read_as_it_is() {
        let text = r#"{"a": [null, true, -1, 18446744073709551615, 0.5, "x\n", {"b": {}}]}"#;
        let expected: Map<String, Value> = serde_json::from_str(text).unwrap();
        assert_eq!(parse("f", text).unwrap(), expected);
    }
}
