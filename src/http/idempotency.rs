//! The idempotency key of a publish request: the field `idempotency_key` of an event, or the header
//! `X-Idempotency-Key`. The names, and that the field wins, are Sockudo's.

use super::response::ApiError;
use crate::broker::{IdempotencyKey, InvalidIdempotencyKey};
use hyper::{HeaderMap, header::HeaderName};
use serde_json::value::RawValue;
use std::borrow::Cow;

const HEADER: HeaderName = HeaderName::from_static("x-idempotency-key");

/// The key in the header.
///
/// # Errors
///
/// 400 if it is not valid, or if there are several.
pub(super) fn from_header(headers: &HeaderMap) -> Result<Option<IdempotencyKey<'_>>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::bad_request("The header X-Idempotency-Key is repeated"));
    }
    let text = value.to_str().unwrap_or_default();
    let key = IdempotencyKey::parse(text).map_err(|rule| invalid("X-Idempotency-Key", rule))?;
    Ok(Some(key))
}

/// The key in the field of an event.
///
/// # Errors
///
/// 400 if it is not valid.
pub(super) fn from_field(
    raw: Option<&RawValue>,
) -> Result<Option<IdempotencyKey<'static>>, ApiError> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
    let text: Result<Cow<'static, str>, _> = serde_json::from_str(raw.get());
    let key = text.map_err(|_| InvalidIdempotencyKey).and_then(IdempotencyKey::parse);
    key.map(Some).map_err(|rule| invalid("idempotency_key", rule))
}

fn invalid(what: &str, rule: InvalidIdempotencyKey) -> ApiError {
    ApiError::bad_request(format!("{what} must be {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn a_field_is_a_valid_string_or_absent() {
        let read = |text: &str| {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            from_field(Some(&raw)).map_err(|error| format!("{error:?}"))
        };
        assert_eq!(read(r#""a\u0062""#), Ok(Some(IdempotencyKey::parse("ab").unwrap())));
        assert_eq!(read("null"), Ok(None));
        assert!(from_field(None).unwrap().is_none());
        for text in ["7", "{}", r#""""#, r#""\n""#, r#""é""#] {
            let error = read(text).unwrap_err();
            assert!(error.contains("idempotency_key must be a string of 1 to 128"), "{error}");
        }
    }

    #[test]
    fn a_header_is_valid_and_not_repeated() {
        let read = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
            }
            let key = from_header(&headers).map(|key| key.map(|key| format!("{key:?}")));
            key.map_err(|error| format!("{error:?}"))
        };
        let key = IdempotencyKey::parse("a b").unwrap();
        assert_eq!(read(&[b"a b"]), Ok(Some(format!("{key:?}"))));
        assert_eq!(read(&[]), Ok(None));
        for (values, rule) in [
            (&[&b"a"[..], b"a"][..], "X-Idempotency-Key is repeated"),
            (&[b""], "X-Idempotency-Key must be a string of 1 to 128"),
            (&[b"\xe9"], "X-Idempotency-Key must be a string of 1 to 128"),
        ] {
            let error = read(values).unwrap_err();
            assert!(error.contains(rule), "{error}");
        }
    }
}
