//! Converts the text of an environment variable to the value of a key.

use super::kind::ValueKind;
use toml::{Value, de::DeTable};

/// Converts a text to a value, or returns the error message.
pub(super) type Convert = fn(&str) -> Result<Value, &'static str>;

/// A value of `kind`: TOML for lists and tables, or a list with commas.
pub(super) fn to_kind(kind: ValueKind, value: &str) -> Result<Value, &'static str> {
    match kind {
        ValueKind::String => text(value),
        ValueKind::Integer => integer(value),
        ValueKind::Boolean => boolean(value),
        ValueKind::List => list(value),
        ValueKind::Map => from_toml(kind, value),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it stands in tables as a `Convert`")]
pub(super) fn text(value: &str) -> Result<Value, &'static str> {
    Ok(Value::String(value.to_owned()))
}

pub(super) fn integer(value: &str) -> Result<Value, &'static str> {
    let digits = value.trim().replace('_', "");
    digits.parse().map(Value::Integer).map_err(|_| ValueKind::Integer.message())
}

pub(super) fn boolean(value: &str) -> Result<Value, &'static str> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(Value::Boolean(true)),
        "false" | "0" => Ok(Value::Boolean(false)),
        _other => Err("must be true or false, or 1 or 0"),
    }
}

pub(super) fn list(value: &str) -> Result<Value, &'static str> {
    if value.trim().starts_with('[') && value.trim().ends_with(']') {
        return from_toml(ValueKind::List, value);
    }
    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
    Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
}

fn from_toml(kind: ValueKind, value: &str) -> Result<Value, &'static str> {
    let line = format!("v = {value}");
    let table = DeTable::parse(&line).map_err(|_| kind.message())?;
    let only = table.get_ref().get("v").filter(|_| table.get_ref().len() == 1);
    only.ok_or(kind.message()).and_then(|value| kind.value(value.get_ref()))
}

/// A limit for which other servers write -1 for none, and Campanile 0.
pub(super) fn limit(value: &str) -> Result<Value, &'static str> {
    integer(value).map(|value| if value == Value::Integer(-1) { Value::Integer(0) } else { value })
}

/// Seconds from milliseconds, rounded up.
pub(super) fn milliseconds(value: &str) -> Result<Value, &'static str> {
    let message = "must be a number of milliseconds";
    let milliseconds: u32 = value.trim().parse().map_err(|_| message)?;
    Ok(Value::Integer(milliseconds.div_ceil(1_000).into()))
}

/// Bytes from kilobytes, which may have a fraction.
pub(super) fn kilobytes(value: &str) -> Result<Value, &'static str> {
    bytes(value, 1_024).ok_or("must be a number of kilobytes")
}

/// Bytes from megabytes, which may have a fraction.
pub(super) fn megabytes(value: &str) -> Result<Value, &'static str> {
    bytes(value, 1_048_576).ok_or("must be a number of megabytes")
}

/// Bytes from a decimal number of units of `size` bytes, rounded up.
fn bytes(value: &str, size: u64) -> Option<Value> {
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), "0"));
    let unit = 10_u32.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (whole, fraction): (u32, u32) = (whole.parse().ok()?, fraction.parse().ok()?);
    let of_fraction = (u64::from(fraction) * size).div_ceil(u64::from(unit));
    let bytes = u64::from(whole) * size + of_fraction;
    i64::try_from(bytes).ok().map(Value::Integer)
}

/// soketi's switch for client events.
pub(super) fn from_client_messages(value: &str) -> Result<Value, &'static str> {
    let enabled = boolean(value)? == Value::Boolean(true);
    text(if enabled { "members" } else { "none" })
}

/// Reverb's setting for client events. Values other than `members` and `all` disable them there.
pub(super) fn from_accept_from(value: &str) -> Result<Value, &'static str> {
    text(if matches!(value, "members" | "all") { "members" } else { "none" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list_of(items: &[&str]) -> Value {
        Value::Array(items.iter().map(|item| Value::String((*item).to_owned())).collect())
    }

    #[test]
    fn a_list_is_toml_or_has_commas() {
        assert_eq!(list(r#"["a", "b,c"]"#), Ok(list_of(&["a", "b,c"])));
        assert_eq!(list(" a, b ,,"), Ok(list_of(&["a", "b"])));
        assert_eq!(list(""), Ok(list_of(&[])));
        assert_eq!(list("[1]"), Err("must be a list of strings"));
        assert_eq!(list("[\"a\"]\nw = [\"b\"]"), Err("must be a list of strings"));
    }

    #[test]
    fn a_table_is_toml() {
        let table = to_kind(ValueKind::Map, r#"{ Authorization = "x" }"#).unwrap();
        assert_eq!(table["Authorization"], Value::String("x".to_owned()));
        assert_eq!(to_kind(ValueKind::Map, "x=y"), Err("must be a table of strings"));
    }

    #[test]
    fn units_are_converted() {
        for (convert, written, expected) in [
            (milliseconds as Convert, "3000", 3),
            (milliseconds, "3001", 4),
            (milliseconds, "0", 0),
            (kilobytes, "100", 102_400),
            (kilobytes, "0.5", 512),
            (kilobytes, "1.001", 1_026),
            (megabytes, "100", 104_857_600),
            (megabytes, "0.5", 524_288),
            (limit, "-1", 0),
            (limit, "7", 7),
            (integer, "10_000", 10_000),
        ] {
            assert_eq!(convert(written), Ok(Value::Integer(expected)), "{written}");
        }
    }

    #[test]
    fn values_other_than_numbers_are_rejected() {
        assert_eq!(integer("8o80"), Err("must be an integer"));
        assert_eq!(milliseconds("-1"), Err("must be a number of milliseconds"));
        for written in ["", "x", "-1", "1.", "1.x", "9999999999", "1.99999999999"] {
            assert_eq!(kilobytes(written), Err("must be a number of kilobytes"), "{written}");
            assert_eq!(megabytes(written), Err("must be a number of megabytes"), "{written}");
        }
    }

    #[test]
    fn a_switch_has_four_spellings() {
        for (written, expected) in [("true", true), ("1", true), ("FALSE", false), ("0", false)] {
            assert_eq!(boolean(written), Ok(Value::Boolean(expected)), "{written}");
        }
        assert_eq!(boolean("yes"), Err("must be true or false, or 1 or 0"));
    }
}
