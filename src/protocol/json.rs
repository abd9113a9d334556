//! Operations on JSON text without a tree of values.
//!
//! Text from one peer is read by the parsers of others. Some of these reject a whole text for one
//! escape of a lone surrogate (PHP, Python's encoder, serde), and they differ in the spelling of
//! numbers. Lone surrogates are therefore replaced before received text is parsed, and numeric ids
//! are normalized.

use std::borrow::Cow;

/// Replacement of a lone surrogate's escape. It has the same length, so offsets in the text do not
/// change.
const REPLACEMENT: &str = r"\ufffd";

/// Replaces each escape of a lone surrogate by U+FFFD, as UTF-8 decoders do.
///
/// The text need not be valid JSON; valid text remains valid. A text without surrogates, which is
/// the usual case, is scanned and not copied.
#[must_use]
pub fn replace_lone_surrogates(text: &str) -> Cow<'_, str> {
    let Some(start) = text.find('\\') else { return Cow::Borrowed(text) };
    // All escapes of surrogates begin with these bytes.
    if !text[start..].contains(r"\ud") && !text[start..].contains(r"\uD") {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut copy = String::new();
    let (mut at, mut copied) = (start, 0);
    let next_escape = |at: usize| {
        bytes.get(at..)?.iter().position(|byte| *byte == b'\\').map(|distance| at + distance)
    };
    while let Some(escape) = next_escape(at) {
        at = escape;
        match code_unit(bytes, at) {
            None => at += 2,
            Some(0xd800..0xdc00) if is_low_surrogate(bytes, at + 6) => at += 12,
            Some(0xd800..0xe000) => {
                copy.extend([&text[copied..at], REPLACEMENT]);
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    copy.push_str(&text[copied..]);
    Cow::Owned(copy)
}

/// A part of a JSON text: a string, or what is between two strings.
enum Part<'a> {
    /// A string, quotes included.
    Text(&'a str),
    /// The text between two strings.
    Between(&'a str),
}

/// The parts of a valid JSON text, in order.
fn parts(mut rest: &str) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let (part, after) = match rest.find('"') {
            None if rest.is_empty() => return None,
            None => (Part::Between(rest), ""),
            Some(0) => {
                let (token, after) = rest.split_at(text_len(rest));
                (Part::Text(token), after)
            }
            Some(quote) => (Part::Between(&rest[..quote]), &rest[quote..]),
        };
        rest = after;
        Some(part)
    })
}

/// The length of the string at the beginning of `text`.
fn text_len(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Compacts JSON text as JavaScript's `JSON.stringify` prints it: without white space, and with
/// escapes only where they are required. Numbers keep their spelling. `raw` must be valid JSON.
///
/// Limits count this form: PHP, Python and Ruby write `\u0430` for a letter of two bytes, and PHP
/// writes `\/`, which would make limits depend on the sender's language.
#[must_use]
pub fn compact(raw: &str) -> String {
    let raw = replace_lone_surrogates(raw);
    let mut compacted = String::with_capacity(raw.len());
    for part in parts(&raw) {
        match part {
            Part::Between(tokens) => {
                compacted.extend(tokens.split(|c: char| c.is_ascii_whitespace()));
            }
            Part::Text(token) if token.contains('\\') => {
                let printed = serde_json::from_str(token).map(|text: String| to_json_string(&text));
                compacted.push_str(printed.as_deref().unwrap_or(token));
            }
            Part::Text(token) => compacted.push_str(token),
        }
    }
    compacted
}

/// Whether `text` has characters that are escaped in JSON.
pub(super) fn needs_escapes(text: &str) -> bool {
    text.bytes().any(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'))
}

/// Encodes `text` as a JSON string.
pub(super) fn to_json_string(text: &str) -> String {
    serde_json::to_string(text).expect("text can always be written as JSON")
}

/// Parses an id from a JSON value: a string, or a number in its normalized spelling. None for
/// another value, and for a number that is too large for JavaScript.
#[must_use]
pub fn parse_id(raw: &str) -> Option<String> {
    match raw.bytes().next()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'-' | b'0'..=b'9' => normalize_number(raw),
        _ => None,
    }
}

/// Normalizes a JSON number to JavaScript's spelling: `10`, `10.0` and `1e1` are equal. An integer
/// without exponent keeps its digits, since JavaScript would round it beyond 2⁵³.
fn normalize_number(raw: &str) -> Option<String> {
    if raw == "-0" {
        return Some("0".to_owned());
    }
    if raw.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        return Some(raw.to_owned());
    }
    let value: f64 = raw.parse().ok().filter(|value: &f64| value.is_finite())?;
    // The shortest digits that identify the number, as in JavaScript.
    let shortest = format!("{:e}", value.abs());
    let (mantissa, exponent) = shortest.split_once('e')?;
    let digits = mantissa.replace('.', "");
    let point = exponent.parse::<i32>().ok()? + 1;
    let count = i32::try_from(digits.len()).ok()?;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let unsigned = if count <= point && point <= 21 {
        format!("{digits}{}", zeros(point - count))
    } else if 0 < point && point <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).ok()?);
        format!("{whole}.{fraction}")
    } else if -6 < point && point <= 0 {
        format!("0.{}{digits}", zeros(-point))
    } else {
        format!("{mantissa}e{:+}", point - 1)
    };
    // Zero has no sign.
    let sign = if value < 0.0 { "-" } else { "" };
    Some(format!("{sign}{unsigned}"))
}

/// How many bytes of UTF-8 a JSON string stands for; `token` is the string as written, quotes
/// included, and known to be valid. A lone surrogate counts as the three bytes of U+FFFD.
#[must_use]
pub fn unescaped_len(token: &str) -> usize {
    let body = &token.as_bytes()[1..token.len() - 1];
    if !body.contains(&b'\\') {
        return body.len();
    }
    let (mut at, mut len) = (0, 0);
    while at < body.len() {
        if body[at] != b'\\' {
            (at, len) = (at + 1, len + 1);
            continue;
        }
        match code_unit(body, at) {
            None => (at, len) = (at + 2, len + 1),
            Some(unit) => {
                match unit {
                    0..0x80 => len += 1,
                    0x80..0x800 => len += 2,
                    0xd800..0xdc00 if is_low_surrogate(body, at + 6) => {
                        (at, len) = (at + 6, len + 4);
                    }
                    _ => len += 3,
                }
                at += 6;
            }
        }
    }
    len
}

/// The value of the `\uXXXX` escape at `at`, if there is one.
fn code_unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(br"\u")?;
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
}

fn is_low_surrogate(bytes: &[u8], at: usize) -> bool {
    code_unit(bytes, at).is_some_and(|unit| (0xdc00..0xe000).contains(&unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_needs_no_escapes_is_encoded_as_it_is() {
        for character in (0..=0x1_0000).filter_map(char::from_u32) {
            let text = character.to_string();
            let is_same = to_json_string(&text) == format!("\"{text}\"");
            assert_eq!(needs_escapes(&text), !is_same, "{character:?}");
        }
    }

    #[test]
    fn compacting_touches_only_space_between_tokens_and_escapes() {
        let raw =
            "{ \"a b\" :\n[ 1e400 , \"\\\" { \\\\\" ,\ttrue ] , \"a b\": 12345678901234567890 }";
        let expected = r#"{"a b":[1e400,"\" { \\",true],"a b":12345678901234567890}"#;
        assert_eq!(compact(raw), expected);
        assert_eq!(compact(expected), expected);
        for (raw, expected) in [
            (r#""\u0430\u00E9\ud83d\ude00\u20ac""#, r#""аé😀€""#),
            (r#"{"\u0061\/b":"http:\/\/x"}"#, r#"{"a/b":"http://x"}"#),
            (
                r#""\u0000\u001f\u000a\u0022\u005c\u007f\b\f\n\r\t""#,
                "\"\\u0000\\u001f\\n\\\"\\\\\u{7f}\\b\\f\\n\\r\\t\"",
            ),
            (
                r#"["\ud800",{"\udc00a":"\ude00\ud83d"}]"#,
                "[\"\u{fffd}\",{\"\u{fffd}a\":\"\u{fffd}\u{fffd}\"}]",
            ),
            (r#" "" "#, r#""""#),
            ("[ ]", "[]"),
            ("-0.10E+2", "-0.10E+2"),
        ] {
            assert_eq!(compact(raw), expected, "{raw}");
            assert_eq!(compact(expected), expected, "{raw}");
        }
    }

    #[test]
    fn a_lone_surrogate_becomes_the_replacement_character_and_nothing_else_changes() {
        for (text, expected) in [
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""\uDFFF x""#, r#""\ufffd x""#),
            (r#"{"\ud800":"\udbff\u0041\udc00"}"#, r#"{"\ufffd":"\ufffd\u0041\ufffd"}"#),
            (r#""\ud83d\ud83d\ude00\ude00""#, r#""\ufffd\ud83d\ude00\ufffd""#),
            (r#""\\\ud800""#, r#""\\\ufffd""#),
            (r#""é\ud800é""#, r#""é\ufffdé""#),
            (r#""\ud800\\udc00""#, r#""\ufffd\\udc00""#),
        ] {
            assert_eq!(replace_lone_surrogates(text), expected, "{text}");
            assert!(
                serde_json::from_str::<serde_json::Value>(&replace_lone_surrogates(text)).is_ok(),
                "{text}"
            );
            assert!(matches!(replace_lone_surrogates(expected), Cow::Borrowed(_)), "{expected}");
        }
        for text in [
            "",
            r#""plain é""#,
            r#""\ud83d\ude00\uD83D\uDE00""#,
            // Escaped backslashes: the text has no surrogate escape.
            r#""{\"a\":\"\\ud800\"}""#,
            r#""\\\\ud800""#,
            // Invalid JSON, which must not panic.
            r"\",
            r"\ud80",
            r"\udxyz",
            "\\é\\ud83d",
        ] {
            if let Cow::Owned(copy) = replace_lone_surrogates(text) {
                assert_eq!(text, "\\é\\ud83d");
                assert_eq!(copy, "\\é\\ufffd");
            }
        }
    }

    /// The right column is the output of Node for `String(JSON.parse(…))`.
    #[test]
    fn numbers_have_the_spelling_of_javascript() {
        for (raw, expected) in [
            ("10", "10"),
            ("10.0", "10"),
            ("1e1", "10"),
            ("1.0E+1", "10"),
            ("100e-1", "10"),
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("-0e9", "0"),
            ("-7", "-7"),
            ("-7.50", "-7.5"),
            ("0.1", "0.1"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("123456.789e-10", "0.0000123456789"),
            ("1.5e300", "1.5e+300"),
            ("1e20", "100000000000000000000"),
            ("1e21", "1e+21"),
            ("123456789012345680000.0", "123456789012345680000"),
            ("5e-324", "5e-324"),
            ("1e-999", "0"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("9007199254740991", "9007199254740991"),
            ("9007199254740993.0", "9007199254740992"),
        ] {
            assert_eq!(parse_id(raw).as_deref(), Some(expected), "{raw}");
        }
        // JavaScript would round integers beyond 2^53.
        for written in ["9007199254740993", "-9007199254740993", "12345678901234567890123"] {
            assert_eq!(parse_id(written).as_deref(), Some(written));
        }
        for nothing in ["1e999", "-1e999", "true", "null", "{}", "[1]"] {
            assert_eq!(parse_id(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_unescaped_length_is_that_of_the_parsed_string() {
        for token in [
            r#""""#,
            r#""plain é €""#,
            r#""\n\\\"\/""#,
            r#""\u0041\u00e9\u20ac\ud83d\ude00x""#,
            r#""\u007f\u0080\u07ff\u0800""#,
        ] {
            let parsed: String = serde_json::from_str(token).unwrap();
            assert_eq!(unescaped_len(token), parsed.len(), "{token}");
        }
        assert_eq!(unescaped_len(r#""\ud800""#), 3);
        assert_eq!(unescaped_len(r#""\ud800\u0041""#), 4);
        assert_eq!(unescaped_len(r#""\udc00\ud800""#), 6);
    }

    /// The first and the last code unit of each kind, and those beside them.
    #[test]
    fn surrogates_are_distinguished_at_their_bounds() {
        for (text, expected) in [
            (r#""\ud800\udc00x""#, r#""\ud800\udc00x""#),
            (r#""\udbff\udfffx""#, r#""\udbff\udfffx""#),
            (r#""\ud800\udbffx""#, r#""\ufffd\ufffdx""#),
            (r#""\ud7ff\udc00x""#, r#""\ud7ff\ufffdx""#),
            (r#""\ud800\ue000x""#, r#""\ufffd\ue000x""#),
            (r#""\udc00\ud800\udc00""#, r#""\ufffd\ud800\udc00""#),
            (r#""\ud800x\udc00""#, r#""\ufffdx\ufffd""#),
        ] {
            assert_eq!(replace_lone_surrogates(text), expected, "{text}");
            let parsed: String = serde_json::from_str(expected).unwrap();
            assert_eq!(unescaped_len(text), parsed.len(), "{text}");
            assert_eq!(unescaped_len(expected), parsed.len(), "{text}");
        }
    }
}
