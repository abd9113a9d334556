//! The replies of the model: RESP3 values, with the error texts and number formats of Redis.

use redis::{ServerError, Value};
use std::borrow::Cow;

/// A key, a field, an argument.
pub(crate) type Bytes = Vec<u8>;

/// An error reply: its code, a space and its text, as sent after the `-`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ModelError(pub(crate) Cow<'static, str>);

/// The result of a command.
pub(crate) type Reply = Result<Value, ModelError>;

pub(crate) const WRONG_TYPE: ModelError =
    ModelError(Cow::Borrowed("WRONGTYPE Operation against a key holding the wrong kind of value"));
pub(crate) const NOT_AN_INTEGER: ModelError =
    ModelError(Cow::Borrowed("ERR value is not an integer or out of range"));
pub(crate) const NOT_A_FLOAT: ModelError =
    ModelError(Cow::Borrowed("ERR value is not a valid float"));
pub(crate) const SYNTAX: ModelError = ModelError(Cow::Borrowed("ERR syntax error"));
pub(crate) const OVERFLOW: ModelError =
    ModelError(Cow::Borrowed("ERR increment or decrement would overflow"));

impl ModelError {
    pub(crate) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }

    /// The error as redis-rs parses it.
    pub(crate) fn to_value(&self) -> Value {
        Value::ServerError(self.to_server_error())
    }

    fn to_server_error(&self) -> ServerError {
        // An error is one line; Redis replaces line breaks as well.
        let line = self.0.replace(['\r', '\n'], " ");
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()) {
            Ok(Value::ServerError(error)) => error,
            other => panic!("an error line was parsed as {other:?}"),
        }
    }
}

/// A command's reply as a RESP3 value.
pub(crate) fn to_value(reply: Reply) -> Value {
    reply.unwrap_or_else(|failure| failure.to_value())
}

pub(crate) fn bulk(bytes: impl Into<Bytes>) -> Value {
    Value::BulkString(bytes.into())
}

pub(crate) fn bulk_or_nil(bytes: Option<&Bytes>) -> Value {
    bytes.map_or(Value::Nil, |bytes| Value::BulkString(bytes.clone()))
}

pub(crate) fn int(count: usize) -> Value {
    Value::Int(i64::try_from(count).expect("a count is small"))
}

pub(crate) fn flag(is_set: bool) -> Value {
    Value::Int(i64::from(is_set))
}

/// Parses an integer as strictly as Redis: no plus sign, no leading zeros.
pub(crate) fn integer(bytes: &[u8]) -> Result<i64, ModelError> {
    let number: i64 =
        str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or(NOT_AN_INTEGER)?;
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let is_canonical = digits == b"0" || digits.first().is_some_and(|digit| *digit != b'0');
    let is_minus_zero = bytes == b"-0";
    if is_canonical && bytes[0] != b'+' && !is_minus_zero {
        Ok(number)
    } else {
        Err(NOT_AN_INTEGER)
    }
}

/// Parses a score.
pub(crate) fn float(bytes: &[u8]) -> Option<f64> {
    let text = str::from_utf8(bytes).ok()?;
    let number: f64 = text.parse().ok()?;
    // A negative zero loses its sign, which no test depends on.
    (!number.is_nan()).then_some(number + 0.0)
}

/// Formats a number like `%.{digits}g` in C.
pub(crate) fn general(number: f64, digits: usize) -> String {
    if number.is_infinite() {
        return if number < 0.0 { "-inf".into() } else { "inf".into() };
    }
    if number.is_nan() {
        return if number.is_sign_negative() { "-nan".into() } else { "nan".into() };
    }
    if number == 0.0 {
        return if number.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let scientific = format!("{:.*e}", digits - 1, number);
    let (mantissa, exponent) = scientific.split_once('e').expect("there is an exponent");
    let exponent: i32 = exponent.parse().expect("a number");
    let trim = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    let most = i32::try_from(digits).expect("few digits");
    if exponent < -4 || most <= exponent {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(most - 1 - exponent).expect("not negative");
    trim(&format!("{number:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::{ErrorKind, ServerErrorKind};

    #[test]
    fn numbers_are_written_as_by_c() {
        for (number, digits, text) in [
            (0.0, 17, "0"),
            (3.0, 17, "3"),
            (-1.5, 17, "-1.5"),
            (0.1, 17, "0.10000000000000001"),
            (0.1, 14, "0.1"),
            (1e16, 17, "10000000000000000"),
            (1e17, 17, "1e+17"),
            (1e14, 14, "1e+14"),
            (1_700_000_000_000.0, 14, "1700000000000"),
            (1_700_000_000_000_123.0, 14, "1.7000000000001e+15"),
            (0.000_012_5, 14, "1.25e-05"),
            (f64::INFINITY, 17, "inf"),
        ] {
            assert_eq!(general(number, digits), text);
        }
    }

    #[test]
    fn integers_are_read_strictly() {
        for (text, number) in
            [("0", Some(0)), ("-7", Some(-7)), ("9223372036854775807", Some(i64::MAX))]
        {
            assert_eq!(integer(text.as_bytes()).ok(), number);
        }
        for text in ["", "+1", "01", "-0", " 1", "1.0", "9223372036854775808", "x"] {
            assert_eq!(integer(text.as_bytes()), Err(NOT_AN_INTEGER), "{text}");
        }
    }

    #[test]
    fn errors_are_of_the_kinds_of_redis_rs() {
        let error =
            |text: &'static str| redis::RedisError::from(ModelError::new(text).to_server_error());
        assert_eq!(error("NOSCRIPT No").kind(), ErrorKind::Server(ServerErrorKind::NoScript));
        let moved = error("MOVED 7 host:6379");
        assert_eq!(moved.kind(), ErrorKind::Server(ServerErrorKind::Moved));
        assert_eq!(moved.redirect_node(), Some(("host:6379", 7)));
        assert_eq!(error("WRONGTYPE No").code(), Some("WRONGTYPE"));
        assert_eq!(error("OOM No").kind(), ErrorKind::Extension);
    }
}
