//! Who joins a presence channel.

use super::{SubscriptionRefusal, json::compact};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// A user on a presence channel, as one subscription brings it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// The user's id, never empty. Numbers are written as text: `10` and `"10"` are one user.
    pub user_id: Arc<str>,
    /// A JSON object, without white space; `{}` when the application said nothing.
    pub user_info: Arc<str>,
}

/// The bounds on a member's data.
#[derive(Clone, Copy, Debug)]
pub struct MemberLimits {
    /// Largest `user_info`, in bytes of JSON without white space.
    pub max_user_info_bytes: usize,
}

#[derive(Deserialize)]
struct ChannelData<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_info: Option<&'a RawValue>,
}

const NO_INFO: &str = "{}";

impl Member {
    /// Longest user id, in characters. Source: Pusher Channels docs, "Presence channels".
    pub const USER_ID_LEN_MAX: usize = 128;

    /// Reads `channel_data`, once its signature is known to be right.
    ///
    /// # Errors
    ///
    /// The refusal that names the rule which the data breaks.
    pub fn parse(channel_data: &str, limits: MemberLimits) -> Result<Self, SubscriptionRefusal> {
        let data: ChannelData<'_> = Some(channel_data)
            .filter(|text| text.trim_start().starts_with('{'))
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or(SubscriptionRefusal::Member("channel_data must be a JSON object"))?;
        let user_id =
            data.user_id.and_then(|raw| user_id(raw.get())).ok_or(SubscriptionRefusal::Member(
                "channel_data needs a user_id, a non-empty text or a number",
            ))?;
        Self::bounded(user_id.into(), user_info(data.user_info)?, limits)
    }

    /// The member that another node has told of, if it can be one.
    #[must_use]
    pub fn from_parts(user_id: &str, user_info: &str) -> Option<Self> {
        let is_object = user_info.starts_with('{');
        let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(user_info).is_ok();
        (!user_id.is_empty() && is_object && is_json())
            .then(|| Self { user_id: user_id.into(), user_info: user_info.into() })
    }

    /// The member that a signed-in user is where no `channel_data` says otherwise.
    ///
    /// # Errors
    ///
    /// The refusal that names the rule which the user's data breaks.
    pub fn from_user(
        user_id: Arc<str>,
        info: Option<&str>,
        limits: MemberLimits,
    ) -> Result<Self, SubscriptionRefusal> {
        Self::bounded(user_id, info.unwrap_or(NO_INFO).into(), limits)
    }

    fn bounded(
        user_id: Arc<str>,
        user_info: Arc<str>,
        limits: MemberLimits,
    ) -> Result<Self, SubscriptionRefusal> {
        if Self::USER_ID_LEN_MAX < user_id.chars().count() {
            return Err(SubscriptionRefusal::Member("user_id is longer than 128 characters"));
        }
        let max = limits.max_user_info_bytes;
        if max < user_info.len() {
            return Err(SubscriptionRefusal::MemberTooLarge { max });
        }
        Ok(Self { user_id, user_info })
    }
}

fn user_id(raw: &str) -> Option<String> {
    if raw.starts_with('"') {
        return serde_json::from_str(raw).ok().filter(|id: &String| !id.is_empty());
    }
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then(|| raw.to_owned())
}

fn user_info(raw: Option<&RawValue>) -> Result<Arc<str>, SubscriptionRefusal> {
    match raw.map_or("null", RawValue::get) {
        "null" => Ok(NO_INFO.into()),
        object if object.starts_with('{') => Ok(compact(object).into()),
        _ => Err(SubscriptionRefusal::Member(
            "user_info supplied to presence subscription is invalid - \
             if supplied it must be a type of hash",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MemberLimits = MemberLimits { max_user_info_bytes: 1_024 };

    fn parse(data: &str) -> Result<(String, String), SubscriptionRefusal> {
        Member::parse(data, LIMITS).map(|m| (m.user_id.to_string(), m.user_info.to_string()))
    }

    #[test]
    fn ids_are_texts_whatever_they_were() {
        let member = |id: &str, info: &str| Ok((id.to_owned(), info.to_owned()));
        assert_eq!(
            parse(r#"{"user_id":"1","user_info":{"n": "a b"}}"#),
            member("1", r#"{"n":"a b"}"#)
        );
        assert_eq!(parse(r#"{"user_id":10}"#), member("10", "{}"));
        assert_eq!(parse(r#"{"user_id":"0","user_info":null,"x":1}"#), member("0", "{}"));
        assert_eq!(parse(r#"{"user_id":"\u00e9"}"#), member("é", "{}"));
    }

    #[test]
    fn what_names_no_user_is_refused() {
        for data in [
            "",
            "5",
            "[]",
            "{}",
            r#"{"user_id":""}"#,
            r#"{"user_id":{}}"#,
            r#"{"user_id":true}"#,
            r#"{"user_id":null}"#,
            r#"{"user_id":"1","user_info":"x"}"#,
            r#"{"user_id":"1","user_info":[]}"#,
        ] {
            assert!(matches!(parse(data), Err(SubscriptionRefusal::Member(_))), "{data}");
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
        assert_eq!(with_info(1_025), Err(SubscriptionRefusal::MemberTooLarge { max: 1_024 }));
    }
}
