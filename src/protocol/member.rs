//! Members of presence channels.

use super::{SubscriptionRejection, json};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::sync::Arc;

/// A user on a presence channel, as given by one subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// The user's id, not empty, at most [`Member::USER_ID_LEN_MAX`] characters. Numbers have
    /// JavaScript's spelling: `10`, `1e1` and
    /// `"10"` are the same user.
    pub user_id: Arc<str>,
    /// A JSON object as [`compact`](super::compact) writes it; `{}` if the application gave none.
    pub user_info: Arc<str>,
}

/// The limits on a member's data.
#[derive(Clone, Copy, Debug)]
pub struct MemberLimits {
    /// Maximum size of `user_info`, in bytes of the JSON that is kept: UTF-8, without white space.
    pub max_user_info_bytes: usize,
}

#[derive(Deserialize)]
struct ChannelData<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_info: Option<&'a RawValue>,
}

const EMPTY_INFO: &str = "{}";

impl Member {
    /// Maximum length of a user id, in characters. Source: Pusher Channels docs, "Presence
    /// channels".
    pub const USER_ID_LEN_MAX: usize = 128;
    /// Maximum nesting of `user_info`, which all members receive. Some parsers, such as Ruby's, accept
    /// at most a hundred levels.
    pub const USER_INFO_DEPTH_MAX: usize = 64;

    /// Parses `channel_data`, whose signature is verified already.
    ///
    /// # Errors
    ///
    /// The rejection with the violated rule.
    pub fn parse(channel_data: &str, limits: MemberLimits) -> Result<Self, SubscriptionRejection> {
        let channel_data = json::replace_lone_surrogates(channel_data);
        let data: ChannelData<'_> = Some(&*channel_data)
            .filter(|text| text.trim_start().starts_with('{'))
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or(SubscriptionRejection::Member("channel_data must be a JSON object"))?;
        let user_id = data
            .user_id
            .and_then(|raw| json::parse_id(raw.get()))
            .filter(|id| is_valid_key(id))
            .ok_or(SubscriptionRejection::Member(
                "channel_data needs a user_id: a number, or a non-empty string without a leading NUL",
            ))?;
        let info = user_info(data.user_info).map_err(SubscriptionRejection::Member)?;
        Self::bounded(user_id.into(), info.unwrap_or_else(|| EMPTY_INFO.into()), limits)
    }

    /// The member that another node has reported, if it is valid.
    #[must_use]
    pub fn from_parts(user_id: &str, user_info: &str) -> Option<Self> {
        let is_object = user_info.starts_with('{');
        let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(user_info).is_ok();
        (!user_id.is_empty() && is_object && is_json()).then(|| Self {
            user_id: user_id.into(),
            user_info: json::replace_lone_surrogates(user_info).into(),
        })
    }

    /// The signed-in user as a member, without `channel_data`.
    ///
    /// # Errors
    ///
    /// The rejection with the violated rule.
    pub fn from_user(
        user_id: Arc<str>,
        info: Option<&str>,
        limits: MemberLimits,
    ) -> Result<Self, SubscriptionRejection> {
        Self::bounded(user_id, info.unwrap_or(EMPTY_INFO).into(), limits)
    }

    fn bounded(
        user_id: Arc<str>,
        user_info: Arc<str>,
        limits: MemberLimits,
    ) -> Result<Self, SubscriptionRejection> {
        if Self::USER_ID_LEN_MAX < user_id.chars().count() {
            return Err(SubscriptionRejection::Member("user_id is longer than 128 characters"));
        }
        let max = limits.max_user_info_bytes;
        if max < user_info.len() {
            return Err(SubscriptionRejection::MemberTooLarge { max });
        }
        Ok(Self { user_id, user_info })
    }
}

/// The application's information about a user; `None` also for an empty list, which is PHP's form
/// of an empty object.
///
/// # Errors
///
/// The violated rule.
pub(super) fn user_info(raw: Option<&RawValue>) -> Result<Option<Arc<str>>, &'static str> {
    let info = raw.map_or_else(|| "null".to_owned(), |raw| json::compact(raw.get()));
    match info.as_str() {
        "null" | "[]" => Ok(None),
        object if !object.starts_with('{') => {
            Err("user_info supplied to presence subscription is invalid - \
             if supplied it must be a type of hash")
        }
        object => {
            let value = serde_json::from_str(object).ok();
            value
                .filter(|value| is_readable(value, Member::USER_INFO_DEPTH_MAX))
                .map(|_| Some(info.into()))
                .ok_or(
                    "user_info is not readable by every client: it is nested more than 64 levels \
                     deep, has a name that begins with NUL, or a number beyond 1e308",
                )
        }
    }
}

/// Whether `value`, which other members and the application read, is readable by every parser. The
/// parser has rejected numbers beyond a double before.
fn is_readable(value: &Value, levels: usize) -> bool {
    let inner = levels.checked_sub(1);
    match value {
        Value::Array(values) => {
            inner.is_some_and(|levels| values.iter().all(|value| is_readable(value, levels)))
        }
        Value::Object(members) => inner.is_some_and(|levels| {
            members
                .iter()
                .all(|(name, value)| !name.starts_with('\0') && is_readable(value, levels))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Whether `id` can be a key of a JSON object, as in the list of members: PHP rejects keys that begin
/// with NUL.
fn is_valid_key(id: &str) -> bool {
    !id.is_empty() && !id.starts_with('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MemberLimits = MemberLimits { max_user_info_bytes: 1_024 };

    fn parse(data: &str) -> Result<(String, String), SubscriptionRejection> {
        Member::parse(data, LIMITS).map(|m| (m.user_id.to_string(), m.user_info.to_string()))
    }

    #[test]
    fn ids_of_any_type_become_strings() {
        let member = |id: &str, info: &str| Ok((id.to_owned(), info.to_owned()));
        assert_eq!(
            parse(r#"{"user_id":"1","user_info":{"n": "a b"}}"#),
            member("1", r#"{"n":"a b"}"#)
        );
        assert_eq!(parse(r#"{"user_id":10}"#), member("10", "{}"));
        assert_eq!(parse(r#"{"user_id":"0","user_info":null,"x":1}"#), member("0", "{}"));
        assert_eq!(parse(r#"{"user_id":"\u00e9"}"#), member("é", "{}"));
        assert_eq!(parse(r#"{"user_id":1e1,"user_info":[ ]}"#), member("10", "{}"));
        assert_eq!(
            parse(r#"{"user_id":"\ud800","user_info":{"\u0430":"\/\udfff"},"\ud800":1}"#),
            member("\u{fffd}", "{\"а\":\"/\u{fffd}\"}")
        );
    }

    #[test]
    fn data_without_a_valid_user_is_rejected() {
        for data in [
            "",
            "5",
            "[]",
            r#"["1",null]"#,
            "{}",
            r#"{"user_id":""}"#,
            r#"{"user_id":{}}"#,
            r#"{"user_id":true}"#,
            r#"{"user_id":null}"#,
            r#"{"user_id":"1","user_info":"x"}"#,
            r#"{"user_id":"1","user_info":[0]}"#,
            r#"{"user_id":1e999}"#,
            r#"{"user_id":"\u0000"}"#,
            r#"{"user_id":"1","user_info":{"a":1e999}}"#,
            r#"{"user_id":"1","user_info":{"a":{"\u0000":1}}}"#,
        ] {
            assert!(matches!(parse(data), Err(SubscriptionRejection::Member(_))), "{data}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let with_id = |len: usize| parse(&format!(r#"{{"user_id":"{}"}}"#, "é".repeat(len)));
        assert!(with_id(128).is_ok());
        assert!(with_id(129).is_err());
        assert!(Member::from_user("x".repeat(128).into(), None, LIMITS).is_ok());
        assert!(Member::from_user("x".repeat(129).into(), None, LIMITS).is_err());
        let with_info = |len: usize| {
            parse(&format!(r#"{{"user_id":"1","user_info":{{"n":"{}"}}}}"#, "x".repeat(len - 8)))
        };
        assert!(with_info(1_024).is_ok());
        assert_eq!(with_info(1_025), Err(SubscriptionRejection::MemberTooLarge { max: 1_024 }));
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[0,{"a":"#, r#"},{"b":[]}]"#)] {
            let levels = open.matches(['[', '{']).count();
            let nested = |times: usize, value: &str| {
                let (open, close) = (open.repeat(times), close.repeat(times));
                parse(&format!(r#"{{"user_id":"1","user_info":{{"[":{open}{value}{close}}}}}"#))
            };
            let most = Member::USER_INFO_DEPTH_MAX - 1;
            assert!(nested(most / levels, r#""]""#).is_ok(), "{open}");
            assert!(nested(most / levels + 1, r#""]""#).is_err(), "{open}");
        }
    }

    #[test]
    fn a_member_of_another_node_needs_an_id_and_an_object() {
        let parts = |id: &str, info: &str| {
            Member::from_parts(id, info).map(|m| (m.user_id.to_string(), m.user_info.to_string()))
        };
        assert_eq!(parts("1", r#"{"n":1}"#), Some(("1".to_owned(), r#"{"n":1}"#.to_owned())));
        assert_eq!(parts("1", r#"{"n":"\ud800"}"#).unwrap().1, r#"{"n":"\ufffd"}"#);
        for (id, info) in [("", "{}"), ("1", ""), ("1", "[]"), ("1", "{"), ("1", "null")] {
            assert_eq!(parts(id, info), None, "{id} {info}");
        }
    }
}
