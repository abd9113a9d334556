//! The token by which a client that was disconnected is recognised when it returns.

use std::{fmt, sync::Arc};

/// The name that a page chooses for itself once per load, and keeps over its reconnections.
///
/// It stands in the address, and so in access logs: it identifies a client, but authorizes nothing.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct ResumeToken(Box<str>);

/// A client with a token. Tokens of different apps have nothing to do with one another.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientName {
    /// The id of the app.
    pub app_id: Arc<str>,
    /// The token that the client has chosen.
    pub token: ResumeToken,
}

/// What the path of a WebSocket names: an app, and perhaps a returning client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedClient<'a> {
    /// The key of the app.
    pub key: &'a str,
    /// The token of a client that wants to resume, valid or not.
    pub token: Option<&'a str>,
}

/// The text is not a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidToken;

impl ResumeToken {
    /// Minimum length, in characters: enough that two clients never choose the same.
    pub const LEN_MIN: usize = 16;
    /// Maximum length, in characters.
    pub const LEN_MAX: usize = 64;
    /// What precedes the token in a segment of the path.
    pub const SEGMENT_PREFIX: &'static str = "resume-";

    /// Parses a token.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] unless it has 16 to 64 of `A` to `Z`, `a` to `z`, `0` to `9`, `_` and `-`.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_valid =
            (Self::LEN_MIN..=Self::LEN_MAX).contains(&text.len()) && text.bytes().all(is_allowed);
        if is_valid { Ok(Self(text.into())) } else { Err(InvalidToken) }
    }

    /// The token as the client sent it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Only the beginning: the token is in no log of this server.
impl fmt::Debug for ResumeToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}…", &self.0[..4])
    }
}

impl<'a> NamedClient<'a> {
    /// Splits the token off a key, for libraries without an option for the path: `KEY~TOKEN`. Keys
    /// contain no `~` unless what follows the last one is no token.
    #[must_use]
    pub fn split_key(key: &'a str) -> Self {
        match key.rsplit_once('~') {
            Some((key, token)) if !key.is_empty() && ResumeToken::parse(token).is_ok() => {
                Self { key, token: Some(token) }
            }
            _ => Self { key, token: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_length_and_an_alphabet() {
        for good in ["0123456789abcdef", "ABCDEFGHIJKLMNOP_-", &"x".repeat(64)] {
            assert_eq!(
                ResumeToken::parse(good).map(|token| token.as_str().to_owned()),
                Ok(good.into())
            );
        }
        for bad in ["", "0123456789abcde", &"x".repeat(65), "0123456789abcde~", "0123456789abcdé"]
        {
            assert_eq!(ResumeToken::parse(bad), Err(InvalidToken), "{bad}");
        }
    }

    #[test]
    fn a_key_may_be_followed_by_a_token() {
        let split = |text| {
            let NamedClient { key, token } = NamedClient::split_key(text);
            (key, token)
        };
        assert_eq!(split("key"), ("key", None));
        assert_eq!(split("key~0123456789abcdef"), ("key", Some("0123456789abcdef")));
        assert_eq!(split("a~key~0123456789abcdef"), ("a~key", Some("0123456789abcdef")));
        for whole in ["key~short", "key~", "~0123456789abcdef"] {
            assert_eq!(split(whole), (whole, None));
        }
    }

    #[test]
    fn the_log_shows_only_the_beginning() {
        let token = ResumeToken::parse("0123456789abcdef").unwrap();
        assert_eq!(format!("{token:?}"), "0123…");
    }
}
