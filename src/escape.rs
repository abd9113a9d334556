//! Escapes untrusted text for terminals and logs: a terminal interprets some characters, and a log
//! has one line for each event.

use std::fmt::{self, Display, Write as _};

/// Displays text with unsafe characters escaped, so that a terminal interprets none of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

/// Whether a terminal may interpret the character instead of showing it: control characters (C0,
/// DEL, C1), line and paragraph separators, and those that change the text's direction.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if is_unsafe(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// JSON on one line: the same value, with unsafe characters written as `\uXXXX`. Outside of
/// strings, valid JSON has no unsafe character but white space.
pub(crate) fn json_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.trim().chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if is_unsafe(c) => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2Jb\r\n\tc\u{7f}\u{9b}31m\u{202e}d\u{2066}\u{2028}é😀";

    #[test]
    fn escaped_text_has_no_terminal_sequences() {
        let shown = Escaped(HOSTILE).to_string();
        assert_eq!(shown, r"a\u{1b}[2Jb\r\n\tc\u{7f}\u{9b}31m\u{202e}d\u{2066}\u{2028}é😀");
        assert!(!shown.chars().any(is_unsafe));
    }

    #[test]
    fn a_line_of_json_has_the_same_value() {
        let value = serde_json::json!({"data": HOSTILE, HOSTILE: [1.5, null]});
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let line = json_line(&text);
            assert!(!line.chars().any(is_unsafe), "{line}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
        }
    }
}
