//! Hides secrets in reports, so that a report can be pasted into an issue.

use hyper::Uri;
use percent_encoding::percent_decode_str;

/// The secrets that a report must not contain.
#[derive(Debug, Default)]
pub(super) struct Mask(Vec<String>);

/// The length of a signature: SHA-256 in hexadecimal.
const SIGNATURE: usize = 64;
const HIDDEN: &str = "***";

/// Minimum length of a secret that is searched for, in bytes: shorter ones are parts of ordinary
/// words and numbers.
const LENGTH_MIN: usize = 6;
/// Values that hide nothing, and are words of the report.
const WORDS: [&str; 3] = ["secret", "password", "laravel"];
/// Parts of the names of query parameters and variables whose values are secrets.
const NAMES: [&str; 5] = ["secret", "password", "token", "signature", "session"];

impl Mask {
    /// Adds a secret, its words, and itself as it is without percent-encoding.
    pub(super) fn add(&mut self, secret: &str) {
        let secret = secret.trim();
        let decoded = percent_decode_str(secret).decode_utf8_lossy();
        self.add_one(secret);
        self.add_one(&decoded);
        // A server may repeat the token of `Bearer TOKEN` alone.
        for word in secret.split_whitespace().filter(|word| LENGTH_MIN <= word.len()) {
            self.add_one(word);
        }
    }

    fn add_one(&mut self, secret: &str) {
        let is_searched = LENGTH_MIN <= secret.len() && !WORDS.contains(&secret);
        if is_searched && !self.0.iter().any(|known| known == secret) {
            self.0.push(secret.to_owned());
            // A secret may contain a shorter one, of which it must not leave a rest.
            self.0.sort_by_key(|known| std::cmp::Reverse(known.len()));
        }
    }

    /// Adds the values of cookies: `name=value; other=value`.
    pub(super) fn add_cookies(&mut self, cookies: &str) {
        for cookie in cookies.split(';') {
            self.add(cookie.split_once('=').map_or(cookie, |(_, value)| value));
        }
    }

    /// Adds the values in the query of a URL, and its user and password.
    pub(super) fn add_url(&mut self, url: &Uri) {
        let query = url.query().unwrap_or_default();
        for (_, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            self.add(value);
        }
        let user = url.authority().and_then(|authority| authority.as_str().rsplit_once('@'));
        for part in user.iter().flat_map(|(user, _host)| user.split(':')) {
            self.add(part);
        }
    }

    /// The text with `***` for secrets, signatures, and the users and tokens in URLs.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut text = without_users(text);
        for secret in &self.0 {
            text = text.replace(secret.as_str(), HIDDEN);
        }
        without_signatures(&without_tokens(&text))
    }
}

/// Whether a variable or a query parameter of this name has a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|part| name.contains(part))
}

/// The text with `***` for the user and the password of each URL.
fn without_users(text: &str) -> String {
    let (mut masked, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        let is_end = |c: char| c.is_whitespace() || ['/', '?', '#', '"'].contains(&c);
        let end = after.find(is_end).unwrap_or(after.len());
        let user = after[..end].rfind('@');
        if user.is_some() {
            masked.push_str(HIDDEN);
        }
        rest = &after[user.unwrap_or(0)..];
    }
    masked + rest
}

/// The text with `***` for the value of each query parameter that has the name of a secret.
fn without_tokens(text: &str) -> String {
    let (mut masked, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(['?', '&']) {
        let (before, after) = rest.split_at(at + 1);
        masked.push_str(before);
        let is_end = |c: char| c.is_whitespace() || ['&', '#', '"'].contains(&c);
        let end = after.find(is_end).unwrap_or(after.len());
        match after[..end].split_once('=') {
            Some((name, value)) if is_secret(name) && !value.is_empty() => {
                masked.push_str(name);
                masked.push('=');
                masked.push_str(HIDDEN);
            }
            Some(_) | None => masked.push_str(&after[..end]),
        }
        rest = &after[end..];
    }
    masked + rest
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
        let secrets = ["hunter2", " ", "", "1", "en", "secret", "hunter2-and-more", "session=abc"];
        for secret in secrets.into_iter().chain(["Bearer a-long-token", "eyJp%3D%3D"]) {
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
            ("its secret is open 127.0.0.1", "its secret is open 127.0.0.1".to_owned()),
            ("a-long-token", "***".to_owned()),
            ("eyJp%3D%3D eyJp==", "*** ***".to_owned()),
            ("at https://user:p@ss@a.test/x, b@c", "at https://***@a.test/x, b@c".to_owned()),
            ("wss://a.test:443/app ws://b", "wss://a.test:443/app ws://b".to_owned()),
            ("/x?protocol=7&access_token=ab#c", "/x?protocol=7&access_token=***#c".to_owned()),
            ("a & b? Yes", "a & b? Yes".to_owned()),
        ] {
            assert_eq!(mask.apply(text), shown);
        }
    }

    #[test]
    fn parts_of_a_url_are_hidden_elsewhere() {
        let mut mask = Mask::default();
        mask.add_url(&"https://staging:hunter2@a.test/x?tenant=seventh&l=en".parse().unwrap());
        assert_eq!(mask.apply("a.test staging hunter2 seventh en"), "a.test *** *** *** en");
    }
}
