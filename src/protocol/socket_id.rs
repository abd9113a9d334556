//! The socket id: the public name of a connection.

use std::{fmt, num::NonZero};

/// A connection's public name, `a.b` on the wire with `a` and `b` in 1..2³².
///
/// Signatures are bound to it, so it is random (64 bits) and not reused.
/// Each half has at most ten digits, so that clients which parse the halves do not overflow.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct SocketId {
    high: NonZero<u32>,
    low: NonZero<u32>,
}

/// The text is not `digits.digits`, which every server SDK requires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidSocketId;

impl SocketId {
    /// Makes an id from 64 random bits.
    #[must_use]
    pub fn from_random(bits: u64) -> Self {
        let half = |bits: u32| NonZero::new(bits).unwrap_or(NonZero::<u32>::MAX);
        // The truncation is intended.
        #[expect(clippy::cast_possible_truncation, reason = "the low half")]
        let low = bits as u32;
        let high = (bits >> 32) as u32;
        Self { high: half(high), low: half(low) }
    }

    /// The id as one number, for other nodes.
    #[must_use]
    pub fn bits(self) -> u64 {
        u64::from(self.high.get()) << 32 | u64::from(self.low.get())
    }

    /// The inverse of [`SocketId::bits`]; `None` if a half is zero.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let half = |bits: u64| NonZero::new(u32::try_from(bits).ok()?);
        Some(Self { high: half(bits >> 32)?, low: half(bits & u64::from(u32::MAX))? })
    }

    /// Parses an id that an application sent. A well-formed id that no server assigns is `None`.
    ///
    /// # Errors
    ///
    /// [`InvalidSocketId`] when `text` is not two runs of digits around one dot.
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidSocketId> {
        let (high, low) = text.split_once('.').ok_or(InvalidSocketId)?;
        let digits = |half: &str| !half.is_empty() && half.bytes().all(|b| b.is_ascii_digit());
        if !digits(high) || !digits(low) {
            return Err(InvalidSocketId);
        }
        let id = high.parse().ok().zip(low.parse().ok()).map(|(high, low)| Self { high, low });
        // Only the canonical form matches a connection: `07.1` is not `7.1`.
        Ok(id.filter(|id| id.to_string() == text))
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.high, self.low)
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_id_is_parsed_to_the_same_id() {
        for bits in [0, 1, u64::MAX, 0x0000_0001_0000_0000, 0xdead_beef_0bad_cafe] {
            let id = SocketId::from_random(bits);
            assert_eq!(SocketId::parse(&id.to_string()), Ok(Some(id)));
        }
    }

    #[test]
    fn unknown_ids_match_no_connection_and_invalid_ones_are_rejected() {
        for text in ["999999999999.1", "0.1", "01.5", "1.99999999999999999999"] {
            assert_eq!(SocketId::parse(text), Ok(None), "{text}");
        }
        for text in ["", ".", "1", "1.", ".1", "1.2.3", "a.b", "1.2 ", "-1.2", "1,2", "+1.2"] {
            assert_eq!(SocketId::parse(text), Err(InvalidSocketId), "{text}");
        }
    }

    #[test]
    fn an_id_takes_eight_bytes_even_when_optional() {
        assert_eq!(size_of::<SocketId>(), 8);
        assert_eq!(size_of::<Option<SocketId>>(), 8);
    }

    #[test]
    fn an_id_is_one_number_for_other_nodes() {
        for bits in [0x0000_0001_0000_0001, u64::MAX, 0xdead_beef_0bad_cafe] {
            let id = SocketId::from_random(bits);
            assert_eq!((id.bits(), SocketId::from_bits(bits)), (bits, Some(id)));
        }
        let id = SocketId::from_random(0x0000_0007_0000_0009);
        assert_eq!((id.to_string(), format!("{id:?}")), ("7.9".to_owned(), "7.9".to_owned()));
        let zeros = SocketId::from_random(0);
        assert_eq!(zeros.bits(), u64::MAX, "a half is never zero");
        for bits in [0, 7, 7 << 32] {
            assert_eq!(SocketId::from_bits(bits), None, "a half of it is zero");
        }
    }
}
