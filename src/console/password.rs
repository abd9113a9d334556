//! Passwords of the console, and their hashes.

use crate::{config::Secret, signature::secrets_equal};
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use std::fmt;

/// The system has no random numbers for the salt.
#[derive(Debug)]
pub struct HashError;

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the password cannot be hashed: no random numbers")
    }
}

/// The hash of a password for `console.password`: Argon2id with a random salt, in the PHC format.
///
/// # Errors
///
/// [`HashError`].
pub fn hash_password(password: &str) -> Result<String, HashError> {
    let hash = Argon2::default().hash_password(password.as_bytes()).map_err(|_| HashError)?;
    Ok(hash.to_string())
}

/// A hash that is that of no password. Verifying it takes as long as verifying another one.
pub(super) const HASH_OF_NONE: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
     AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Whether a configured password is a hash, which takes memory and a moment to verify.
pub(super) fn is_hash(configured: &Secret) -> bool {
    configured.expose().starts_with("$argon2")
}

/// Whether `sent` is the configured password. Takes a while if that is a hash.
pub(super) fn verify(configured: &Secret, sent: &str) -> bool {
    if !is_hash(configured) {
        return !configured.is_empty() && secrets_equal(configured.expose(), sent);
    }
    let hash = PasswordHash::new(configured.expose());
    hash.is_ok_and(|hash| Argon2::default().verify_password(sent.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_verified_by_itself_or_by_its_hash() {
        let hash = hash_password("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, hash_password("correct horse").unwrap(), "the salt is random");
        for configured in ["correct horse", &hash].map(Secret::new) {
            assert!(verify(&configured, "correct horse"));
            for other in ["correct horsE", "", "correct horse "] {
                assert!(!verify(&configured, other), "{other:?}");
            }
        }
        assert!(!verify(&Secret::new(hash.as_str()), &hash), "the hash is not the password");
        assert!(!verify(&Secret::default(), ""), "no password is set");
        let none = PasswordHash::new(HASH_OF_NONE).expect("a complete hash");
        let real = PasswordHash::new(&hash).expect("a complete hash");
        assert_eq!((none.algorithm, &none.params), (real.algorithm, &real.params));
        assert!(!verify(&Secret::new(HASH_OF_NONE), ""));
        assert!(!verify(&Secret::new("$argon2id$x"), "$argon2id$x"));
    }
}
