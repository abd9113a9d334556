//! Hides secrets in reports, so that a report can be pasted into an issue.

/// The secrets that a report must not contain.
#[derive(Debug, Default)]
pub(super) struct Mask(Vec<String>);

/// The length of a signature: SHA-256 in hexadecimal.
const SIGNATURE: usize = 64;
const HIDDEN: &str = "***";

impl Mask {
    /// Adds a secret. Its parts are not hidden.
    pub(super) fn add(&mut self, secret: &str) {
        let secret = secret.trim();
        if !secret.is_empty() && !self.0.iter().any(|known| known == secret) {
            self.0.push(secret.to_owned());
            // A secret may contain a shorter one, of which it must not leave a rest.
            self.0.sort_by_key(|known| std::cmp::Reverse(known.len()));
        }
    }

    /// The text with `***` for secrets and signatures.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret.as_str(), HIDDEN);
        }
        without_signatures(&text)
    }
}

/// The text with `***` for each run of 64 or more hexadecimal digits.
fn without_signatures(text: &str) -> String {
    let (mut masked, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(from.len());
        masked.push_str(before);
        masked.push_str(if SIGNATURE <= end { HIDDEN } else { &from[..end] });
        rest = &from[end..];
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_signatures_are_hidden_and_nothing_else() {
        let mut mask = Mask::default();
        for secret in ["hunter2", " ", "", "hunter2-and-more", "session=abc"] {
            mask.add(secret);
        }
        let signature = "0123456789abcdef".repeat(4);
        for (text, shown) in [
            ("key app-key", "key app-key".to_owned()),
            ("SECRET=hunter2", "SECRET=***".to_owned()),
            ("hunter2-and-more hunter2", "*** ***".to_owned()),
            ("Cookie: session=abc", "Cookie: ***".to_owned()),
            (&format!("auth_signature={signature}&x"), "auth_signature=***&x".to_owned()),
            (&format!("{signature}0"), "***".to_owned()),
            (&signature[1..], signature[1..].to_owned()),
            ("é face beef", "é face beef".to_owned()),
        ] {
            assert_eq!(mask.apply(text), shown);
        }
    }
}
