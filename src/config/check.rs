//! Checks every value by the rule of its setting.

use super::{
    convert,
    draft::Draft,
    error::{ConfigError, all},
    schema,
    table::Rule,
};
use toml::Value;

/// Checks every value of `draft` by itself, and normalizes it.
pub(super) fn check_values(draft: &mut Draft) -> Result<(), ConfigError> {
    all(draft.settings_mut().map(|(key, setting)| {
        check_one(&key.pattern(), &mut setting.value).map_err(|rule| {
            // The value may have been written in another unit.
            let number = setting.value.as_integer();
            let rule = match number.filter(|_| setting.origin.is_of_other_server()) {
                Some(number) => format!("is set to {number}, and {rule}"),
                None => rule,
            };
            ConfigError::key(&setting.origin, key, rule)
        })
    }))
}

/// Checks a value of one setting, written as in a variable. `pattern` is its key, with `[]` for an
/// index.
///
/// # Errors
///
/// The rule that the value breaks, or that there is no such setting.
pub fn check_setting(pattern: &str, value: &str) -> Result<(), String> {
    let setting = schema::setting(pattern).ok_or_else(|| "is not a setting".to_owned())?;
    let mut value = convert::to_kind(setting.kind, value)?;
    check_one(pattern, &mut value)
}

/// The rule of `pattern` that `value` violates, if any.
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
        (Value::Table(table), Rule::Entries(check, _)) => check(table),
        (_, _) => Ok(()),
    }
}

fn check_text(rule: Rule, text: &mut String) -> Result<(), String> {
    if text.contains(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    match rule {
        Rule::Words(words) if !words.contains(&text.as_str()) => {
            return Err(format!("must be one of {}", words.join(", ")));
        }
        Rule::Form(form, _) => *text = form(text)?,
        Rule::Any(_) | Rule::Range(..) | Rule::Words(_) | Rule::Entries(..) => {}
    }
    Ok(())
}
