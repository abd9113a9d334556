//! Users that connections sign in as.

use super::{
    ChannelName, InvalidChannelName, SignInRejection,
    json::{self, to_json_string},
    member::user_info,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The user that a connection is signed in as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// The user's id: never empty, and valid in the name of its server-to-user channel.
    pub id: Arc<str>,
    /// The application's information about the user: a JSON object as [`compact`](super::compact)
    /// writes it.
    pub info: Option<Arc<str>>,
    /// The users whose online state this one receives: at most [`User::WATCHLIST_MAX`].
    pub watchlist: Vec<Arc<str>>,
    /// Whether the application sent more ids than [`User::WATCHLIST_MAX`].
    pub watchlist_truncated: bool,
}

#[derive(Deserialize)]
struct UserData<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_info: Option<&'a RawValue>,
    #[serde(borrow)]
    watchlist: Option<&'a RawValue>,
}

const ID_RULE: &str =
    "user_data needs an id: a number, or a non-empty string of letters, digits and _ - = @ , . ;";
const ID_LENGTH_RULE: &str = "the id in user_data is too long: with #server-to-user- before it, it has at most \
    max_channel_name_length bytes";
const WATCHLIST_RULE: &str = "watchlist in user_data must be an array of strings and numbers";

impl<'a> UserData<'a> {
    fn parse(user_data: &'a str) -> Option<Self> {
        let is_object = user_data.trim_start().starts_with('{');
        is_object.then(|| serde_json::from_str(user_data).ok()).flatten()
    }
}

impl User {
    /// Maximum number of ids that one user watches. Source: Pusher Channels docs, "Watchlist
    /// events".
    pub const WATCHLIST_MAX: usize = 100;

    /// Parses `user_data`, whose signature is verified already. `max_channel_name_length` limits
    /// the id through the name of its channel.
    ///
    /// # Errors
    ///
    /// The rejection with the violated rule.
    pub fn parse(user_data: &str, max_channel_name_length: usize) -> Result<Self, SignInRejection> {
        let user_data = json::replace_lone_surrogates(user_data);
        let data = UserData::parse(&user_data)
            .ok_or(SignInRejection::User("user_data must be a JSON object"))?;
        let id = data
            .id
            .and_then(|raw| json::parse_id(raw.get()))
            .ok_or(SignInRejection::User(ID_RULE))?;
        ChannelName::of_user(&id, max_channel_name_length).map_err(|rule| {
            let is_too_long = matches!(rule, InvalidChannelName::UserIdTooLong { .. });
            SignInRejection::User(if is_too_long { ID_LENGTH_RULE } else { ID_RULE })
        })?;
        let info = user_info(data.user_info).map_err(SignInRejection::User)?;
        let watchlist: Option<Vec<&RawValue>> = data
            .watchlist
            .map_or(Ok(None), |raw| serde_json::from_str(raw.get()))
            .map_err(|_| SignInRejection::User(WATCHLIST_RULE))?;
        let mut watchlist = watchlist
            .unwrap_or_default()
            .into_iter()
            .map(|raw| json::parse_id(raw.get()).map(Arc::from))
            .collect::<Option<Vec<Arc<str>>>>()
            .ok_or(SignInRejection::User(WATCHLIST_RULE))?;
        let watchlist_truncated = Self::WATCHLIST_MAX < watchlist.len();
        watchlist.truncate(Self::WATCHLIST_MAX);
        watchlist.sort_unstable();
        watchlist.dedup();
        Ok(Self { id: id.into(), info, watchlist, watchlist_truncated })
    }

    /// The `user_data` for the response: unchanged, except that a numeric id becomes a string, which
    /// pusher-js requires.
    #[must_use]
    pub fn user_data_for_client(&self, mut user_data: String) -> String {
        let valid = json::replace_lone_surrogates(&user_data);
        let number = UserData::parse(&valid)
            .and_then(|data| data.id)
            .map(RawValue::get)
            .filter(|raw| !raw.starts_with('"'));
        // The replacement changes no offset.
        let range = number.map(|raw| {
            let start = raw.as_ptr().addr() - valid.as_ptr().addr();
            start..start + raw.len()
        });
        if let Some(range) = range {
            user_data.replace_range(range, &to_json_string(&self.id));
        }
        user_data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_of_a_user_is_required() {
        let data = r#"{"id":"7","user_info":{"name": "Ann"},"watchlist":["9","8","9"],"x":1}"#;
        let user = User::parse(data, 200).unwrap();
        assert_eq!(&*user.id, "7");
        assert_eq!(user.info.as_deref(), Some(r#"{"name":"Ann"}"#));
        assert_eq!(user.watchlist, [Arc::from("8"), Arc::from("9")]);
        assert!(!user.watchlist_truncated);
        assert_eq!(User::parse(r#"{"id":"7"}"#, 200).unwrap().info, None);
    }

    #[test]
    fn data_without_a_valid_user_is_rejected() {
        for data in [
            "",
            "[]",
            r#"["7",null,null]"#,
            "{}",
            r#"{"id":1e999}"#,
            r#"{"id":true}"#,
            r#"{"id":""}"#,
            r#"{"id":"Ann Smith"}"#,
            r#"{"id":"1","user_info":5}"#,
            r#"{"id":"1","watchlist":"2"}"#,
            r#"{"id":"1","watchlist":[1e999]}"#,
            r#"{"id":"1","watchlist":[["2"]]}"#,
        ] {
            assert!(User::parse(data, 200).is_err(), "{data}");
        }
    }

    #[test]
    fn numbers_are_ids_in_one_spelling() {
        let data = r#"{"x":[10.0],"id":10.0 ,"user_info":[],"watchlist":[1e1,"10",-0,"\ud800"]}"#;
        let user = User::parse(data, 200).unwrap();
        assert_eq!((&*user.id, user.info.as_deref()), ("10", None));
        assert_eq!(user.watchlist, ["0", "10", "\u{fffd}"].map(Arc::from));
        let expected = data.replace(r#""id":10.0"#, r#""id":"10""#);
        assert_eq!(user.user_data_for_client(data.to_owned()), expected);
        assert_eq!(
            user.user_data_for_client(expected.clone()),
            expected,
            "a string stays as it is"
        );
    }

    #[test]
    fn a_watchlist_is_truncated_after_its_hundredth_id() {
        let data = |ids: usize| {
            let ids: Vec<String> = (0..ids).map(|id| format!("{id:03}")).collect();
            format!(r#"{{"id":"a","watchlist":{}}}"#, serde_json::to_string(&ids).unwrap())
        };
        let user = User::parse(&data(100), 200).unwrap();
        assert_eq!((user.watchlist.len(), user.watchlist_truncated), (100, false));
        let user = User::parse(&data(101), 200).unwrap();
        assert_eq!((user.watchlist.len(), user.watchlist_truncated), (100, true));
        assert!(!user.watchlist.contains(&"100".into()));
    }

    #[test]
    fn an_id_that_is_too_long_is_reported() {
        let parse = |length| User::parse(&format!(r#"{{"id":"{}"}}"#, "x".repeat(length)), 200);
        assert!(parse(184).is_ok());
        let SignInRejection::User(rule) = parse(185).unwrap_err() else {
            panic!("another rejection")
        };
        assert!(rule.contains("max_channel_name_length"), "{rule}");
        let SignInRejection::User(rule) = parse(0).unwrap_err() else {
            panic!("another rejection")
        };
        assert!(rule.contains("non-empty"), "{rule}");
    }
}
