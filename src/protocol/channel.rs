//! Channel names, and the kinds of channels that follow from them.

use std::{borrow::Borrow, fmt, sync::Arc};

/// A valid channel name.
///
/// It is not empty, at most as long as the app allows, and has only characters that the protocol
/// allows, so no later code checks it again, and it is written into JSON without escaping. Clones
/// share the text.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChannelName(Arc<str>);

/// The error of an invalid channel name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidChannelName {
    /// The name is empty.
    Empty,
    /// The name has more bytes than the app's `max_channel_name_length`.
    TooLong {
        /// The limit that was exceeded, in bytes.
        max: usize,
    },
    /// The user id of a server-to-user channel is so long that the name would exceed
    /// `max_channel_name_length`.
    UserIdTooLong {
        /// The limit of the id that was exceeded, in bytes.
        max: usize,
    },
    /// A character outside `A-Z a-z 0-9 _ - = @ , . ;`, or a `#` that does not begin
    /// `#server-to-user-`.
    Character,
}

const SERVER_TO_USER: &str = "#server-to-user-";

impl ChannelName {
    /// Parses a name from a client or from the HTTP API; `max` is the maximum length in bytes.
    ///
    /// # Errors
    ///
    /// The rule that `name` violates.
    pub fn parse(name: &str, max: usize) -> Result<Self, InvalidChannelName> {
        if name.is_empty() {
            return Err(InvalidChannelName::Empty);
        }
        if max < name.len() {
            return Err(if name.starts_with(SERVER_TO_USER) {
                InvalidChannelName::UserIdTooLong { max: max.saturating_sub(SERVER_TO_USER.len()) }
            } else {
                InvalidChannelName::TooLong { max }
            });
        }
        let plain = match name.strip_prefix(SERVER_TO_USER) {
            Some("") => return Err(InvalidChannelName::Character),
            Some(user_id) => user_id,
            None => name,
        };
        if plain.bytes().all(is_valid_byte) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidChannelName::Character)
        }
    }

    /// The server-to-user channel of `user_id`: the application sends events to the user on it. `max`
    /// as in [`ChannelName::parse`].
    ///
    /// # Errors
    ///
    /// The id can't be part of a channel name.
    pub fn of_user(user_id: &str, max: usize) -> Result<Self, InvalidChannelName> {
        Self::parse(&format!("{SERVER_TO_USER}{user_id}"), max)
    }

    /// The name, at most `max_channel_name_length` bytes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a presence channel, which has members.
    #[must_use]
    pub fn is_presence(&self) -> bool {
        self.0.starts_with("presence-")
    }

    /// Whether subscribing needs a signature. Only the prefix decides.
    #[must_use]
    pub fn needs_auth(&self) -> bool {
        self.0.starts_with("private-") || self.is_presence()
    }

    /// Whether it is a cache channel, whose last event is cached for new subscribers.
    #[must_use]
    pub fn is_cache(&self) -> bool {
        ["cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-"]
            .iter()
            .any(|prefix| self.0.starts_with(prefix))
    }

    /// The user id of a server-to-user channel; `None` for another channel.
    #[must_use]
    pub fn server_to_user(&self) -> Option<&str> {
        self.0.strip_prefix(SERVER_TO_USER)
    }

    /// Whether the channel is listed, counted, and reported as occupied and vacated: all are, except
    /// server-to-user channels.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.server_to_user().is_none()
    }
}

fn is_valid_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-=@,.;".contains(&byte)
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for InvalidChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a channel name can't be empty"),
            Self::TooLong { max } => write!(f, "a channel name has at most {max} bytes"),
            Self::UserIdTooLong { max } => write!(
                f,
                "a user's id has at most {max} bytes: with {SERVER_TO_USER} before it, it is the name \
                 of a channel"
            ),
            Self::Character => f.write_str(
                "a channel name holds only letters, digits and _ - = @ , . ; \
                 (a leading # is reserved for #server-to-user-)",
            ),
        }
    }
}

impl std::error::Error for InvalidChannelName {}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text, 200).unwrap()
    }

    #[test]
    fn kinds_follow_from_anchored_prefixes_with_their_dash() {
        // name, presence, needs auth, cache
        for (text, presence, auth, cache) in [
            ("news", false, false, false),
            ("privatex", false, false, false),
            ("presence", false, false, false),
            ("cachex", false, false, false),
            ("my-private-x", false, false, false),
            ("my-cache-x", false, false, false),
            ("cache-private-x", false, false, true),
            ("encrypted-x", false, false, false),
            ("private-x", false, true, false),
            ("private-a-cache-b", false, true, false),
            ("private-encrypted-x", false, true, false),
            ("private-cache-x", false, true, true),
            ("private-encrypted-cache-x", false, true, true),
            ("presence-x", true, true, false),
            ("presence-encrypted-x", true, true, false),
            ("presence-cache-x", true, true, true),
            ("cache-x", false, false, true),
        ] {
            let name = name(text);
            assert_eq!(name.is_presence(), presence, "{text}");
            assert_eq!(name.needs_auth(), auth, "{text}");
            assert_eq!(name.is_cache(), cache, "{text}");
        }
    }

    #[test]
    fn invalid_names_are_rejected_with_the_rule() {
        for text in ["bad name!", "a#b", "#a", "#server-to-user-", "#server-to-user-a#", "a:b", "é"]
        {
            assert_eq!(ChannelName::parse(text, 200), Err(InvalidChannelName::Character), "{text}");
        }
        assert_eq!(ChannelName::parse("", 200), Err(InvalidChannelName::Empty));
        assert!(ChannelName::parse(&"x".repeat(200), 200).is_ok());
        let long = ChannelName::parse(&"x".repeat(201), 200);
        assert_eq!(long, Err(InvalidChannelName::TooLong { max: 200 }));
    }

    #[test]
    fn texts_contain_the_name_and_the_violated_rule() {
        let texts = (name("a-b").to_string(), format!("{:?}", name("a-b")));
        assert_eq!(texts, ("a-b".to_owned(), r#""a-b""#.to_owned()));
        for (rule, words) in [
            (InvalidChannelName::Empty, "empty"),
            (InvalidChannelName::TooLong { max: 7 }, "7 bytes"),
            (InvalidChannelName::UserIdTooLong { max: 7 }, "id has at most 7 bytes"),
            (InvalidChannelName::Character, "_ - = @ , . ;"),
        ] {
            assert!(rule.to_string().contains(words), "{rule}");
        }
    }

    #[test]
    fn a_server_to_user_channel_contains_the_id_of_its_user() {
        assert_eq!(name("#server-to-user-a@b.c").server_to_user(), Some("a@b.c"));
        assert_eq!(ChannelName::of_user("7", 200), Ok(name("#server-to-user-7")));
        let rejected = |id: &str, max| ChannelName::of_user(id, max).unwrap_err();
        assert_eq!(rejected("Ann Smith", 200), InvalidChannelName::Character);
        let too_long = |max| InvalidChannelName::UserIdTooLong { max };
        assert_eq!(rejected(&"x".repeat(185), 200), too_long(184));
        assert_eq!(rejected("x", 10), too_long(0));
        assert_eq!(name("server-to-user-7").server_to_user(), None);
    }
}
