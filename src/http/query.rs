//! The parameters of a query string.

use std::{borrow::Cow, ops::RangeInclusive};

/// A decoded key and value, borrowed unless decoding changed it.
pub(super) type Parameter<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Most requests have at most this many parameters.
const USUAL_COUNT: usize = 8;

/// The parameters of a query.
#[derive(Debug)]
pub(super) struct Query<'a> {
    /// In the order in which they were sent, decoded as those of a form.
    pub(super) parameters: Vec<Parameter<'a>>,
    /// What the signature covers if the query is in its canonical form: every parameter has a value and a key without
    /// capital letters, nothing is escaped, and the keys are sorted, apart from that of the signature. It is the text
    /// before and after the signature, which joined is the canonical text.
    pub(super) signed: Option<[&'a str; 2]>,
}

/// A part of a query, between two `&`.
struct Part<'a> {
    text: &'a str,
    /// Where it begins in the query.
    start: usize,
    /// Where its first `=` is.
    equals: Option<usize>,
    is_escaped: bool,
    has_capital_in_key: bool,
}

impl<'a> Part<'a> {
    fn decoded(&self) -> Parameter<'a> {
        if self.is_escaped {
            let mut decoded = form_urlencoded::parse(self.text.as_bytes());
            return decoded.next().unwrap_or_default();
        }
        match self.equals {
            Some(at) => (self.text[..at].into(), self.text[at + 1..].into()),
            None => (self.text.into(), "".into()),
        }
    }
}

/// The bytes that [`parts`] looks at: few of a query.
static MARKS: [bool; 256] = byte_table(&[b'%'..=b'&', b'+'..=b'+', b'='..=b'=', b'A'..=b'Z']);

/// A table of the bytes in these ranges.
pub(super) const fn byte_table(ranges: &[RangeInclusive<u8>]) -> [bool; 256] {
    let (mut table, mut at) = ([false; 256], 0);
    while at < ranges.len() {
        let (mut byte, end) = (*ranges[at].start() as usize, *ranges[at].end() as usize);
        while byte <= end {
            table[byte] = true;
            byte += 1;
        }
        at += 1;
    }
    table
}

/// Passes the parts of a query on, the empty ones included. Reads each byte once.
fn parts<'a>(query: &'a str, mut each: impl FnMut(&Part<'a>)) {
    let new = |start| Part {
        text: "",
        start,
        equals: None,
        is_escaped: false,
        has_capital_in_key: false,
    };
    let mut part = new(0);
    for (at, byte) in query.bytes().enumerate() {
        if !MARKS[usize::from(byte)] {
            continue;
        }
        match byte {
            b'&' => {
                part.text = &query[part.start..at];
                each(&part);
                part = new(at + 1);
            }
            b'=' if part.equals.is_none() => part.equals = Some(at - part.start),
            b'%' | b'+' => part.is_escaped = true,
            b'A'..=b'Z' if part.equals.is_none() => part.has_capital_in_key = true,
            _ => {}
        }
    }
    part.text = &query[part.start..];
    each(&part);
}

/// Parses a query.
pub(super) fn parse(query: &str) -> Query<'_> {
    let mut parameters: Vec<Parameter<'_>> = Vec::with_capacity(USUAL_COUNT);
    let (mut is_canonical, mut signature, mut last_key) = (true, None, "");
    parts(query, |part| {
        if !part.text.is_empty() {
            parameters.push(part.decoded());
        }
        let Some(equals) = part.equals else { return is_canonical = false };
        let key = &part.text[..equals];
        if key == "auth_signature" {
            is_canonical &= !part.is_escaped;
            signature = Some((part.start, part.start + part.text.len()));
        } else {
            is_canonical &= last_key <= key && !part.is_escaped && !part.has_capital_in_key;
            last_key = key;
        }
    });
    let signed = signature.filter(|_| is_canonical).map(|(start, end)| {
        let (before, after) = (&query[..start], query[end..].strip_prefix('&').unwrap_or_default());
        // The separator before the signature belongs to what follows it.
        match after {
            "" => [before.strip_suffix('&').unwrap_or(before), ""],
            after => [before, after],
        }
    });
    Query { parameters, signed }
}

/// The first value of the parameter `name`, decoded.
pub(super) fn value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut found = None;
    parts(query, |part| {
        if found.is_none() {
            let (key, value) = part.decoded();
            found = (key == name).then_some(value);
        }
    });
    found
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
            assert_eq!(parse(query).parameters, expected, "{query}");
        }
    }

    #[test]
    fn the_first_value_of_a_parameter_is_found() {
        for (query, expected) in [
            ("a=1&b=2&b=3", Some("2")),
            ("%62=%32&b=3", Some("2")),
            ("b&b=3", Some("")),
            ("a=b=2", None),
            ("bb=1", None),
            ("", None),
        ] {
            assert_eq!(value(query, "b").as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn a_parameter_without_escapes_is_borrowed() {
        let parameters = parse("a=1&b=%31").parameters;
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
            assert_eq!(parse(query).signed.unwrap().concat(), canonical, "{query}");
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
            assert_eq!(parse(other).signed, None, "{other}");
        }
    }
}
