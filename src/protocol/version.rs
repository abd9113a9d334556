//! The protocol version that a client asks for.

/// The version of a connection. Versions 4 to 7 are treated alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Version(u8);

/// The reason why the requested version is rejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VersionError {
    /// `?protocol=` is not a number, and negotiation is strict.
    Malformed,
    /// A version below 4, which Pusher no longer supports either.
    Unsupported,
    /// No `?protocol=`, and negotiation is strict.
    Missing,
}

impl Version {
    /// The newest version, also used if the client requests none.
    pub const NEWEST: Self = Self(7);
    const OLDEST: u64 = 4;

    /// Parses the `protocol` parameter of the query. A version above 7 is treated as 7. `strict`
    /// rejects a missing or invalid version.
    ///
    /// # Errors
    ///
    /// The version is rejected.
    pub fn negotiate(protocol: Option<&str>, strict: bool) -> Result<Self, VersionError> {
        match protocol.map(str::parse::<u64>) {
            Some(Ok(requested)) if requested < Self::OLDEST => Err(VersionError::Unsupported),
            Some(Ok(requested)) => {
                Ok(u8::try_from(requested).map_or(Self::NEWEST, |v| Self(v.min(Self::NEWEST.0))))
            }
            Some(Err(_)) if strict => Err(VersionError::Malformed),
            None if strict => Err(VersionError::Missing),
            Some(Err(_)) | None => Ok(Self::NEWEST),
        }
    }

    /// The number, 4 to 7.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_negotiation_rejects_missing_and_invalid_versions() {
        let lenient = |text| Version::negotiate(text, false).map(Version::number);
        let strict = |text| Version::negotiate(text, true).map(Version::number);
        assert_eq!(lenient(Some("7")), Ok(7));
        assert_eq!(lenient(Some("5")), Ok(5));
        assert_eq!(lenient(Some("9")), Ok(7));
        assert_eq!(lenient(Some("900")), Ok(7));
        assert_eq!(lenient(Some("abc")), Ok(7));
        assert_eq!(lenient(None), Ok(7));
        assert_eq!(lenient(Some("3")), Err(VersionError::Unsupported));
        assert_eq!(strict(Some("abc")), Err(VersionError::Malformed));
        assert_eq!(strict(None), Err(VersionError::Missing));
        assert_eq!(strict(Some("7")), Ok(7));
    }

    #[test]
    fn versions_4_to_7_are_served() {
        for (asked, served) in [("4", 4), ("6", 6), ("8", 7), ("255", 7), ("256", 7)] {
            assert_eq!(Version::negotiate(Some(asked), true).map(Version::number), Ok(served));
        }
        for asked in ["0", "1", "3"] {
            let rejected = Version::negotiate(Some(asked), false);
            assert_eq!(rejected, Err(VersionError::Unsupported), "{asked}");
        }
        for asked in ["", "-1", "7.0"] {
            let rejected = Version::negotiate(Some(asked), true);
            assert_eq!(rejected, Err(VersionError::Malformed), "{asked}");
        }
    }
}
