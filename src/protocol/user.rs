//! Who signs in.

use super::{ChannelName, SignInRefusal, json::compact};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The user that a connection is signed in as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// The user's id: never empty, and fit for the name of its server-to-user channel.
    pub id: Arc<str>,
    /// What the application says of the user: a JSON object without white space.
    pub info: Option<Arc<str>>,
    /// The users whose coming and going this one is told of: at most [`User::WATCHLIST_MAX`].
    pub watchlist: Vec<Arc<str>>,
    /// Whether the application sent more ids than are watched.
    pub watchlist_was_cut: bool,
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

impl User {
    /// Most ids that one user may watch. Source: Pusher Channels docs, "Watchlist events".
    pub const WATCHLIST_MAX: usize = 100;

    /// Reads `user_data`, once its signature is known to be right. `max_channel_name_length`
    /// bounds the id through the name of its channel.
    ///
    /// # Errors
    ///
    /// The refusal that names the rule which the data breaks.
    pub fn parse(user_data: &str, max_channel_name_length: usize) -> Result<Self, SignInRefusal> {
        let data: UserData<'_> = Some(user_data)
            .filter(|text| text.trim_start().starts_with('{'))
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or(SignInRefusal::User("user_data must be a JSON object"))?;
        let id: String = data
            .id
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .filter(|id: &String| ChannelName::of_user(id, max_channel_name_length).is_some())
            .ok_or(SignInRefusal::User(
                "user_data needs an id: a non-empty text of letters, digits and _ - = @ , . ;",
            ))?;
        let info = match data.user_info.map_or("null", RawValue::get) {
            "null" => None,
            object if object.starts_with('{') => Some(compact(object).into()),
            _ => return Err(SignInRefusal::User("user_info in user_data must be an object")),
        };
        let watchlist: Option<Vec<String>> = data
            .watchlist
            .map_or(Ok(None), |raw| serde_json::from_str(raw.get()))
            .map_err(|_| SignInRefusal::User("watchlist in user_data must be an array of texts"))?;
        let mut watchlist: Vec<Arc<str>> =
            watchlist.unwrap_or_default().into_iter().map(Into::into).collect();
        let watchlist_was_cut = Self::WATCHLIST_MAX < watchlist.len();
        watchlist.truncate(Self::WATCHLIST_MAX);
        watchlist.sort_unstable();
        watchlist.dedup();
        Ok(Self { id: id.into(), info, watchlist, watchlist_was_cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_an_id_and_maybe_more() {
        let data = r#"{"id":"7","user_info":{"name": "Ann"},"watchlist":["9","8","9"],"x":1}"#;
        let user = User::parse(data, 200).unwrap();
        assert_eq!(&*user.id, "7");
        assert_eq!(user.info.as_deref(), Some(r#"{"name":"Ann"}"#));
        assert_eq!(user.watchlist, [Arc::from("8"), Arc::from("9")]);
        assert!(!user.watchlist_was_cut);
        assert_eq!(User::parse(r#"{"id":"7"}"#, 200).unwrap().info, None);
    }

    #[test]
    fn what_names_no_user_is_refused() {
        for data in [
            "",
            "[]",
            "{}",
            r#"{"id":12345}"#,
            r#"{"id":""}"#,
            r#"{"id":"Ann Smith"}"#,
            r#"{"id":"1","user_info":5}"#,
            r#"{"id":"1","watchlist":"2"}"#,
            r#"{"id":"1","watchlist":[2]}"#,
        ] {
            assert!(User::parse(data, 200).is_err(), "{data}");
        }
    }

    #[test]
    fn a_watchlist_is_cut_behind_its_hundredth_id() {
        let data = |ids: usize| {
            let ids: Vec<String> = (0..ids).map(|id| format!("{id:03}")).collect();
            format!(r#"{{"id":"a","watchlist":{}}}"#, serde_json::to_string(&ids).unwrap())
        };
        let user = User::parse(&data(100), 200).unwrap();
        assert_eq!((user.watchlist.len(), user.watchlist_was_cut), (100, false));
        let user = User::parse(&data(101), 200).unwrap();
        assert_eq!((user.watchlist.len(), user.watchlist_was_cut), (100, true));
        assert!(!user.watchlist.contains(&"100".into()));
    }
}
