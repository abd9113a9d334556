//! The parameters of a query string.

use std::borrow::Cow;

/// A decoded key and value, borrowed unless decoding changed it.
pub(super) type Parameter<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Most requests have at most this many parameters.
const USUAL_COUNT: usize = 8;

/// The parameters in the order in which they were sent, decoded as those of a form.
pub(super) fn parameters(query: &str) -> Vec<Parameter<'_>> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let mut parameters = Vec::with_capacity(USUAL_COUNT);
    for part in parts {
        if is_escaped(part) {
            parameters.extend(form_urlencoded::parse(part.as_bytes()));
        } else {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            parameters.push((key.into(), value.into()));
        }
    }
    parameters
}

fn is_escaped(text: &str) -> bool {
    text.bytes().any(|byte| matches!(byte, b'%' | b'+'))
}

/// A query in its canonical form: every parameter has a value and a key without capital letters, nothing is escaped,
/// and the keys are sorted, apart from that of the signature. Returns what the signature covers: the text before and
/// after the signature, which joined is the canonical text. `None` for another query.
pub(super) fn canonical_parts(query: &str) -> Option<[&str; 2]> {
    if is_escaped(query) {
        return None;
    }
    let (mut signature, mut last_key, mut start) = (None, "", 0);
    for part in query.split('&') {
        let (key, _) = part.split_once('=')?;
        let end = start + part.len();
        if key == "auth_signature" {
            signature = Some((start, end));
        } else if key < last_key || key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        } else {
            last_key = key;
        }
        start = end + 1;
    }
    let (start, end) = signature?;
    let (before, after) = (&query[..start], query[end..].strip_prefix('&').unwrap_or_default());
    // The separator before the signature belongs to what follows it.
    let before = if after.is_empty() { before.strip_suffix('&').unwrap_or(before) } else { before };
    Some([before, after])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_as_those_of_a_form() {
        for query in [
            "",
            "a=1&b=2",
            "a=1&&b=2&",
            "a&b=&=c&=",
            "a=b=c",
            "a+b=c+d&e=f",
            "a%20b=c%2Bd&e=%26%3d&f=%",
            "a=%ff&%C3%B6=%c3&\u{f6}=\u{f6}",
            "info[]=a&info[]=b",
        ] {
            let expected: Vec<Parameter<'_>> = form_urlencoded::parse(query.as_bytes()).collect();
            assert_eq!(parameters(query), expected, "{query}");
        }
    }

    #[test]
    fn a_parameter_without_escapes_is_borrowed() {
        let parameters = parameters("a=1&b=%31");
        assert!(matches!(&parameters[0], (Cow::Borrowed("a"), Cow::Borrowed("1"))));
        assert_eq!(parameters[1].1, "1");
    }

    #[test]
    fn a_canonical_query_is_read_without_its_signature() {
        for (query, canonical) in [
            ("a=1&auth_signature=x&b=2", "a=1&b=2"),
            ("auth_signature=x&a=1&b=2", "a=1&b=2"),
            ("a=1&b=2&auth_signature=x", "a=1&b=2"),
            ("a=2&a=1&auth_signature=x", "a=2&a=1"),
            ("auth_signature=x", ""),
        ] {
            assert_eq!(canonical_parts(query).unwrap().concat(), canonical, "{query}");
        }
        for other in [
            "a=1&b=2",
            "b=2&a=1&auth_signature=x",
            "A=1&auth_signature=x",
            "a=%31&auth_signature=x",
            "a=1+1&auth_signature=x",
            "a&auth_signature=x",
            "a=1&&auth_signature=x",
            "a=1&auth_signature=x&",
            "",
        ] {
            assert_eq!(canonical_parts(other), None, "{other}");
        }
    }
}
