//! Idempotency keys: a publish that is repeated with the same key is delivered once.

use crate::protocol::ChannelName;
use sha2::{Digest as _, Sha256};
use std::{borrow::Cow, fmt, time::Duration};

/// How long the result of a publish with a key is remembered. Sockudo's default, and the two minutes within which
/// Ably recognises a repetition.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(120);
/// Maximum characters of a key: Sockudo's default. A UUID has 36.
const IDEMPOTENCY_KEY_MAX: usize = 128;

/// The key that a publisher gave an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdempotencyKey<'a> {
    text: Cow<'a, str>,
    /// The position of the event in the batch that the key belongs to, if it is the key of a whole batch.
    position: Option<usize>,
}

/// The error for a text that is not a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidIdempotencyKey;

/// Identifies the event of a key on one channel: a digest, so that each takes the same room.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PublishId([u8; 16]);

impl<'a> IdempotencyKey<'a> {
    /// Checks a key.
    ///
    /// # Errors
    ///
    /// It has not 1 to 128 characters, or one that is not printable ASCII.
    pub fn parse(text: impl Into<Cow<'a, str>>) -> Result<Self, InvalidIdempotencyKey> {
        let text = text.into();
        let is_valid = (1..=IDEMPOTENCY_KEY_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if is_valid { Ok(Self { text, position: None }) } else { Err(InvalidIdempotencyKey) }
    }

    /// The key of one event of a batch with this key.
    #[must_use]
    pub fn at(&self, position: usize) -> Self {
        Self { text: self.text.clone(), position: Some(position) }
    }

    /// The id of the event with this key and `name` on `channel`. The data is not part of it: SDKs encrypt it anew for
    /// each attempt.
    #[must_use]
    pub fn publish_id(&self, channel: &ChannelName, name: &str) -> PublishId {
        let position = self.position.map(|position| position.to_string()).unwrap_or_default();
        let mut digest = Sha256::new();
        // Only the name, which is last, may have line breaks.
        for part in [&position, &*self.text, channel.as_str(), name] {
            digest.update(part);
            digest.update("\n");
        }
        let bytes = digest.finalize();
        Self::truncated(&bytes)
    }

    fn truncated(digest: &[u8]) -> PublishId {
        PublishId(digest[..16].try_into().expect("a digest has 32 bytes"))
    }
}

impl fmt::Display for InvalidIdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string of 1 to {IDEMPOTENCY_KEY_MAX} printable ASCII characters")
    }
}

impl fmt::Display for PublishId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name, 200).unwrap()
    }

    #[test]
    fn a_key_has_1_to_128_printable_characters() {
        let longest = "k".repeat(128);
        for text in ["a", "order 17: {paid} ~", &longest] {
            assert!(IdempotencyKey::parse(text).is_ok(), "{text}");
        }
        for text in ["", "a\n", "\u{7f}", "\u{e9}", &format!("{longest}k")] {
            assert_eq!(IdempotencyKey::parse(text), Err(InvalidIdempotencyKey), "{text:?}");
        }
    }

    #[test]
    fn a_key_stands_for_one_event_on_one_channel() {
        let key = |text: &'static str| IdempotencyKey::parse(text).unwrap();
        let id = key("k").publish_id(&channel("a"), "e");
        assert_eq!(key("k").publish_id(&channel("a"), "e"), id);
        assert_eq!(id.to_string().len(), 32);
        let ids = HashSet::from([
            id,
            key("l").publish_id(&channel("a"), "e"),
            key("k").publish_id(&channel("b"), "e"),
            key("k").publish_id(&channel("a"), "f"),
            key("k").at(0).publish_id(&channel("a"), "e"),
            key("k").at(1).publish_id(&channel("a"), "e"),
            key("0k").publish_id(&channel("a"), "e"),
            key("ka").publish_id(&channel("a"), "e"),
        ]);
        assert_eq!(ids.len(), 8);
    }
}
