//! The forms in which the path of a request may have been signed.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The paths that may have been signed: as received, without the configured prefix, and both
/// decoded, since proxies may encode what the SDK signed raw.
pub(super) fn signed_paths<'a>(path: &'a str, prefix: &str) -> Vec<Cow<'a, str>> {
    let bare = path.strip_prefix(prefix).unwrap_or(path);
    let mut paths = vec![path.into(), bare.into()];
    paths.extend([path, bare].into_iter().filter_map(decoded).map(Cow::Owned));
    paths.dedup();
    paths
}

/// `path` percent-decoded, unless the result is ambiguous: a `%` is decoded once more by a second
/// reader, `/`, `?` and `#` end a segment or the path, and a line end separates what is signed. Any
/// other decoded text is unambiguous.
fn decoded(path: &str) -> Option<String> {
    let is_ambiguous = |c: char| c.is_control() || "%/?#".contains(c);
    let decode = |segment| {
        let text = percent_decode_str(segment).decode_utf8().ok()?;
        (!text.contains(is_ambiguous)).then_some(text)
    };
    let segments: Option<Vec<Cow<'_, str>>> = path.split('/').map(decode).collect();
    Some(segments?.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoded_path_verifies_only_if_it_is_unambiguous() {
        for (sent, signed_path, expected) in [
            ("/apps/3/channels/presence-a%3Bb", "/apps/3/channels/presence-a;b", true),
            ("/apps/3/channels/presence-%61", "/apps/3/channels/presence-a", true),
            // What the Node SDK signs, and what its URL becomes.
            ("/apps/3/users/auth0%7C1/x", "/apps/3/users/auth0|1/x", true),
            ("/apps/3/users/J%C3%B6rg/x", "/apps/3/users/J\u{f6}rg/x", true),
            ("/apps/3/users/a%20b/x", "/apps/3/users/a b/x", true),
            ("/apps/3/users/%3Cx%3E/x", "/apps/3/users/<x>/x", true),
            ("/apps/3/users/%E6%97%A5%E6%9C%AC/x", "/apps/3/users/\u{65e5}\u{672c}/x", true),
            ("/apps/3/users/%22%5B%5D%5C%5E%60%7B%7D/x", r#"/apps/3/users/"[]\^`{}/x"#, true),
            ("/ws/apps/3/users/%F0%9F%94%94/x", "/apps/3/users/\u{1f514}/x", true),
            ("/ws/apps/3/channels/presence-%61", "/apps/3/channels/presence-a", true),
            ("/apps/3/channels/a%2565", "/apps/3/channels/a%2565", true),
            // The signer means the channel "ae".
            ("/apps/3/channels/a%2565", "/apps/3/channels/a%65", false),
            ("/apps/3/channels/a%252565", "/apps/3/channels/a%65", false),
            ("/apps/3/channels/a%2565", "/apps/3/channels/ae", false),
            ("/ws/apps/3/channels/a%2565", "/apps/3/channels/a%65", false),
            ("/ws/apps/3/channels/a%2565", "/ws/apps/3/channels/a%65", false),
            ("/apps/3/channels/%61%2565", "/apps/3/channels/a%65", false),
            ("/apps/3/channels/a%2Fusers", "/apps/3/channels/a/users", false),
            ("/apps/3/channels%2Fa", "/apps/3/channels/a", false),
            ("/apps/3/channels/a%3Fx", "/apps/3/channels/a?x", false),
            ("/apps/3/channels/a%0Ax", "/apps/3/channels/a\nx", false),
            ("/apps/3/channels/a%00", "/apps/3/channels/a\0", false),
            ("/apps/3/channels/a%23x", "/apps/3/channels/a#x", false),
            ("/apps/3/users/a%7F", "/apps/3/users/a\u{7f}", false),
            ("/apps/3/users/a%C2%85", "/apps/3/users/a\u{85}", false),
            ("/apps/3/users/%C3%B6%25", "/apps/3/users/\u{f6}%", false),
            // Bytes that are a character only together with those behind the slash.
            ("/apps/3/users/%C3/%B6", "/apps/3/users/\u{f6}", false),
            ("/apps/3/users/%C0%AFx", "/apps/3/users//x", false),
            ("/apps/3/channels/%FF", "/apps/3/channels/\u{fffd}", false),
        ] {
            let paths = signed_paths(sent, "/ws");
            let verifies = paths.iter().any(|path| path == signed_path);
            assert_eq!(verifies, expected, "{sent} as {signed_path:?}");
        }
    }
}
