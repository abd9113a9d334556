//! Checks every value by the rule of its setting.

use super::{
    convert,
    declare::Rule,
    error::{ConfigError, collect_errors},
    raw_config::RawConfig,
    schema,
};
use toml::Value;

/// Checks every value of `raw` by itself, and normalizes it.
pub(super) fn check_values(raw: &mut RawConfig) -> Result<(), ConfigError> {
    collect_errors(raw.iter_mut().map(|(key, setting)| {
        check_one(&key.schema_path(), &mut setting.value).map_err(|rule| {
            // The value may have been written in another unit.
            let number = setting.value.as_integer();
            let rule = match number.filter(|_| setting.source.is_compat()) {
                Some(number) => format!("is set to {number}, and {rule}"),
                None => rule,
            };
            ConfigError::key(&setting.source, key, rule)
        })
    }))
}

/// Checks a value of one setting, written as in a variable. `pattern` is its key, with `[]` for an
/// index.
///
/// # Errors
///
/// The value breaks the rule of its setting, or there is no such setting.
pub fn check_setting(pattern: &str, value: &str) -> Result<(), String> {
    let setting = schema::setting(pattern).ok_or_else(|| "is not a setting".to_owned())?;
    let mut value = convert::to_kind(setting.kind, value)?;
    check_one(pattern, &mut value)
}

/// Checks `value` by the rule of the setting `pattern`, and returns the error message.
fn check_one(pattern: &str, value: &mut Value) -> Result<(), String> {
    let rule = schema::setting(pattern).map_or(Rule::Any(""), |setting| setting.rule);
    match (value, rule) {
        (Value::Integer(number), Rule::Range(least, largest))
            if !(least..=largest).contains(number) =>
        {
            Err(format!("must be from {least} to {largest}"))
        }
        (Value::String(text), rule) => check_text(rule, text),
        (Value::Array(items), rule) => {
            for item in items {
                if let Value::String(text) = item {
                    check_text(rule, text).map_err(|rule| format!("`{text}` {rule}"))?;
                }
            }
            Ok(())
        }
        (Value::Table(table), Rule::Table(check, _)) => check(table),
        (_, _) => Ok(()),
    }
}

fn check_text(rule: Rule, text: &mut String) -> Result<(), String> {
    if text.contains(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    match rule {
        Rule::OneOf(words) if !words.contains(&text.as_str()) => {
            return Err(format!("must be one of {}", words.join(", ")));
        }
        Rule::Parse(form, _) => *text = form(text)?,
        Rule::Any(_) | Rule::Range(..) | Rule::OneOf(_) | Rule::Table(..) => {}
    }
    Ok(())
}
