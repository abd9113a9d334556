//! Two things about JSON text that can be said without parsing it into values.

/// JSON text without the white space between its tokens. `raw` must be valid JSON; numbers and
/// escapes stay as they are written, which a parse and a print would not promise.
#[must_use]
pub fn compact(raw: &str) -> String {
    let mut compacted = String::with_capacity(raw.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in raw.chars() {
        if in_string {
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if character.is_ascii_whitespace() {
            continue;
        } else {
            in_string = character == '"';
        }
        compacted.push(character);
    }
    compacted
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
        } else if body[at + 1] != b'u' {
            (at, len) = (at + 2, len + 1);
        } else {
            match code_unit(body, at) {
                0..0x80 => len += 1,
                0x80..0x800 => len += 2,
                0xd800..0xdc00 if is_low_surrogate(body, at + 6) => (at, len) = (at + 6, len + 4),
                _ => len += 3,
            }
            at += 6;
        }
    }
    len
}

/// The value of the `\uXXXX` at `at`.
fn code_unit(body: &[u8], at: usize) -> u32 {
    body[at + 2..at + 6]
        .iter()
        .fold(0, |unit, digit| unit * 16 + char::from(*digit).to_digit(16).unwrap_or(0))
}

fn is_low_surrogate(body: &[u8], at: usize) -> bool {
    body.get(at..at + 2) == Some(br"\u")
        && at + 6 <= body.len()
        && (0xdc00..0xe000).contains(&code_unit(body, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacting_touches_only_space_between_tokens() {
        let raw =
            "{ \"a b\" :\n[ 1e400 , \"\\\" { \\\\\" ,\ttrue ] , \"a b\": 12345678901234567890 }";
        let expected = r#"{"a b":[1e400,"\" { \\",true],"a b":12345678901234567890}"#;
        assert_eq!(compact(raw), expected);
        assert_eq!(compact(expected), expected);
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
}
