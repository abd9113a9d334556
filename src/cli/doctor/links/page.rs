//! What a page has for its requests: the token in it, and its cookies.

use super::super::probe::{Answer, Peer};
use crate::cli::trust::Trust;
use hyper::{Uri, header::SET_COOKIE};
use percent_encoding::percent_decode_str;

/// The cookie of Laravel whose value a page without a token sends back.
const TOKEN_COOKIE: &str = "XSRF-TOKEN";

/// The server of a URL, and its path and query as they are: a slash at the end may matter.
pub(super) fn peer_and_path(url: &Uri, trust: &Trust) -> Result<(Peer, String), String> {
    let mut peer = Peer::from_url(&url.to_string(), trust)?;
    peer.prefix.clear();
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    Ok((peer, if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }))
}

/// The value of the cookie with the token, as a script of the page decodes it.
pub(super) fn token_of_cookie(cookies: &str) -> Option<String> {
    let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == TOKEN_COOKIE)?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

/// The content of `<meta name="csrf-token" content="…">`.
pub(super) fn token_of(page: &str) -> Option<String> {
    let tag = page.split("<meta").find(|tag| tag.contains("csrf-token"))?;
    let tag = tag.split('>').next()?;
    let (_, content) = tag.split_once("content=")?;
    let quote = content.chars().next().filter(|c| ['"', '\''].contains(c))?;
    Some(content[1..].split(quote).next()?.to_owned()).filter(|token| !token.is_empty())
}

/// The cookies of the user with those that the page sets.
pub(super) fn merged(cookie: Option<&str>, page: &Answer) -> Option<String> {
    let mut all: Vec<(String, String)> = Vec::new();
    let pair = |text: &str| {
        let (name, value) = text.trim().split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    let set = page.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let set = set.filter_map(|line| pair(line.split(';').next()?));
    for (name, value) in cookie.unwrap_or_default().split(';').filter_map(pair).chain(set) {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => all.push((name, value)),
        }
    }
    let all: Vec<_> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Some(all.join("; ")).filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_page_is_found() {
        for (page, token) in [
            (
                r#"<head><meta charset="utf-8"><meta name="csrf-token" content="abc"></head>"#,
                Some("abc"),
            ),
            ("<meta content='x' name='csrf-token'>", Some("x")),
            (r#"<meta name="csrf-token" content="">"#, None),
            (r#"<meta name="csrf-token"><p content="x">"#, None),
            ("<h1>csrf-token</h1>", None),
        ] {
            assert_eq!(token_of(page).as_deref(), token, "{page}");
        }
    }
}
