//! The rules for the settings of webhooks.

use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};
use std::str::FromStr;
use toml::Table;

/// Headers that the protocol or HTTP itself sets.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-pusher-key",
    "x-pusher-signature",
];

const NAME_LEN_MAX: usize = 64;

/// Checks that a URL can be posted to.
pub(super) fn url(text: &str) -> Result<String, &'static str> {
    const RULE: &str = "must be http:// or https:// with a host";
    let url = Uri::from_str(text).map_err(|_| RULE)?;
    let has_scheme = matches!(url.scheme_str(), Some("http" | "https"));
    let authority = url.authority().filter(|_| has_scheme).ok_or(RULE)?;
    if authority.as_str().contains('@') {
        return Err("must not hold a name and password: send them as a header");
    }
    if text.contains('#') {
        return Err("must not contain `#`");
    }
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    let port_fits = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.parse().is_ok_and(|port: u16| port > 0));
    if authority.host().is_empty() || !port_fits { Err(RULE) } else { Ok(text.to_owned()) }
}

/// Checks the name of a webhook.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    if NAME_LEN_MAX < text.chars().count() || text.contains(char::is_whitespace) {
        return Err("must be at most 64 characters without white space");
    }
    Ok(text.to_owned())
}

/// Checks additional headers. A message never shows a value, which may be a token.
pub(super) fn headers(table: &Table) -> Result<(), String> {
    for (name, value) in table {
        let known = HeaderName::from_str(name)
            .map_err(|_| format!("`{name}` must be the name of a header"))?;
        if RESERVED.contains(&known.as_str()) {
            return Err(format!("`{name}` is set by the server"));
        }
        if value.as_str().is_none_or(|value| HeaderValue::from_str(value).is_err()) {
            return Err(format!("`{name}` must have the value of a header, on one line"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::Value;

    #[test]
    fn urls_that_can_be_posted_to_are_accepted() {
        for fine in [
            "http://a",
            "https://app.example.com:8443/hooks?token=1",
            "http://[::1]:3000/x",
            "HTTPS://A.test/",
        ] {
            assert_eq!(url(fine).as_deref(), Ok(fine));
        }
        for wrong in [
            "",
            "a",
            "/a",
            "a.test:80",
            "ftp://a",
            "http://",
            "http:///x",
            "http://a b",
            "http://a:0",
            "http://a:99999",
            "http://a:",
            "http://é",
        ] {
            assert_eq!(url(wrong), Err("must be http:// or https:// with a host"), "{wrong}");
        }
        assert!(url("http://user:hunter2@a").is_err_and(|message| message.contains("as a header")));
        assert_eq!(url("http://a/#x"), Err("must not contain `#`"));
    }

    #[test]
    fn headers_are_added_but_do_not_replace_those_of_the_protocol() {
        let check = |name: &str, value: &str| {
            headers(&Table::from_iter([(name.to_owned(), Value::String(value.to_owned()))]))
        };
        assert_eq!(check("Authorization", "Bearer x"), Ok(()));
        for ours in RESERVED {
            let ours = ours.to_ascii_uppercase();
            assert_eq!(check(&ours, "x"), Err(format!("`{ours}` is set by the server")));
        }
        assert_eq!(check("a b", "x"), Err("`a b` must be the name of a header".to_owned()));
        let split = check("X-A", "hunter2\r\nX-Pusher-Key: k").unwrap_err();
        assert!(!split.contains("hunter2"), "{split}");
    }
}
