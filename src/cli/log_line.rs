//! Formats log lines, as text or as JSON.
//!
//! Many values are chosen by clients: an `Origin`, an app key, a channel's name. Every value is
//! therefore escaped and truncated here.

use crate::escape::is_unsafe;
use std::fmt::{self, Debug, Write};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// Formats log lines.
#[derive(Clone, Copy, Debug)]
pub(super) enum LogLine {
    /// Text, for people.
    Text {
        /// Whether the terminal shows colours.
        has_colours: bool,
    },
    /// JSON, for programs: an object with the fields beside `timestamp`, `level`, `message` and
    /// `target`.
    Json,
}

/// Maximum length of a value, in bytes.
const VALUE_MAX: usize = 256;
/// Maximum length of a value in the lines about the operator's own configuration, in bytes.
const OPERATOR_VALUE_MAX: usize = 4_096;
/// Target of the lines about the operator's own configuration.
const OPERATOR_TARGET: &str = "campanile::cli";

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let is_operators = target.starts_with(OPERATOR_TARGET);
        let mut fields =
            Fields { line: *self, is_operators, message: String::new(), rest: String::new() };
        event.record(&mut fields);
        let Fields { message, rest, .. } = fields;
        match self {
            Self::Json => writeln!(
                writer,
                r#"{{"timestamp":"{timestamp}","level":"{level}","message":{}{rest},"target":"{target}"}}"#,
                quoted_json(&message),
            ),
            Self::Text { has_colours: false } => {
                writeln!(writer, "{timestamp} {level:>5} {target}: {message}{rest}")
            }
            Self::Text { has_colours: true } => writeln!(
                writer,
                "\x1b[2m{timestamp}\x1b[0m \x1b[{}m{level:>5}\x1b[0m \x1b[2m{target}:\x1b[0m {message}{rest}",
                colour(level)
            ),
        }
    }
}

fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

/// The formatted fields of one line.
struct Fields {
    line: LogLine,
    is_operators: bool,
    message: String,
    rest: String,
}

impl Fields {
    /// Adds a field whose value needs neither quotes nor escapes.
    fn add(&mut self, field: &Field, value: impl fmt::Display) {
        let name = field.name();
        // Writing to a String can't fail.
        let _ = match self.line {
            LogLine::Json => write!(self.rest, r#","{name}":{value}"#),
            LogLine::Text { has_colours: false } => write!(self.rest, " {name}={value}"),
            LogLine::Text { has_colours: true } => {
                write!(self.rest, " \x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}")
            }
        };
    }

    /// Adds a field with a text value.
    fn add_text(&mut self, field: &Field, value: &dyn Debug, has_quotes: bool) {
        let max = if self.is_operators { OPERATOR_VALUE_MAX } else { VALUE_MAX };
        let escapes_backslash = !self.is_operators && !matches!(self.line, LogLine::Json);
        let mut text = TruncatedText { text: String::new(), max, escapes_backslash };
        // An error means that the text was truncated; what was written until then is kept.
        let _ = write!(text, "{value:?}");
        let text = text.text;
        if field.name() == "message" {
            self.message = text;
            return;
        }
        let is_bare = |c: char| !c.is_whitespace() && !r#""\="#.contains(c);
        match self.line {
            LogLine::Json => self.add(field, quoted_json(&text)),
            LogLine::Text { .. }
                if !has_quotes && (self.is_operators || text.chars().all(is_bare)) =>
            {
                self.add(field, text);
            }
            LogLine::Text { .. } => {
                let text = text.replace('"', r#"\""#);
                self.add(field, format_args!(r#""{text}""#));
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, &format_args!("{value}"), true);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add_text(field, value, false);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.add(field, value);
        } else {
            self.add_text(field, &value, false);
        }
    }
}

/// Text that is escaped while it is written, and truncated at a character boundary when it becomes
/// too long.
struct TruncatedText {
    text: String,
    max: usize,
    /// Whether backslashes are escaped, so that escapes within quotes are unambiguous.
    escapes_backslash: bool,
}

impl Write for TruncatedText {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        for c in piece.chars() {
            let before = self.text.len();
            if is_unsafe(c) || c == '\\' && self.escapes_backslash {
                self.text.extend(c.escape_default());
            } else {
                self.text.push(c);
            }
            if self.max < self.text.len() {
                self.text.truncate(before);
                self.text.push('…');
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

fn quoted_json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::{
        io,
        sync::{Arc, Mutex},
    };
    use tracing_subscriber::{fmt, layer::SubscriberExt, registry};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(line: LogLine, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = fmt::layer().event_format(line).with_writer(move || writer.clone());
        tracing::subscriber::with_default(registry().with(layer), log);
        String::from_utf8(std::mem::take(&mut *sink.0.lock().unwrap())).unwrap()
    }

    fn as_json(log: impl FnOnce()) -> Value {
        serde_json::from_str(&written(LogLine::Json, log)).unwrap()
    }

    const TEXT: LogLine = LogLine::Text { has_colours: false };

    #[test]
    fn json_holds_values() {
        let origin: Option<&str> = None;
        let app = Some("a\"b");
        let address = std::net::Ipv4Addr::LOCALHOST;
        let line = as_json(|| {
            tracing::info!(
                target: "other",
                code = 4_009_u16,
                duration_s = 1.5,
                is_tls = true,
                origin,
                app,
                %address,
                "connection rejected"
            );
        });
        let fields = line.as_object().unwrap();
        assert_eq!(
            ["level", "message", "code", "duration_s", "is_tls", "app", "address"]
                .map(|name| fields[name].clone()),
            [
                Value::from("INFO"),
                "connection rejected".into(),
                4_009.into(),
                1.5.into(),
                true.into(),
                "a\"b".into(),
                "127.0.0.1".into()
            ]
        );
        assert!(!fields.contains_key("origin"), "what is absent is left out");
    }

    #[test]
    fn values_are_truncated_at_a_character_boundary() {
        for long in ["é".repeat(10_000), "x".repeat(16_384), "\u{1b}".repeat(9_999)] {
            let line = as_json(
                || tracing::info!(target: "other", origin = long, error = %long, "rejected"),
            );
            for name in ["origin", "error"] {
                let value = line[name].as_str().unwrap();
                assert!(
                    value.ends_with('…') && value.len() <= VALUE_MAX + '…'.len_utf8(),
                    "{value}"
                );
            }
            let text = written(
                TEXT,
                || tracing::info!(target: "other", origin = long, error = %long, "rejected"),
            );
            assert!(text.len() < 700, "{}", text.len());
        }
        let exact = "x".repeat(VALUE_MAX);
        let line = as_json(|| tracing::info!(target: "other", origin = exact, "rejected"));
        assert_eq!(line["origin"], exact.as_str());
    }

    #[test]
    fn values_of_the_operators_configuration_have_a_larger_limit() {
        let warning = "n".repeat(2_000);
        let line =
            as_json(|| tracing::warn!(target: "campanile::cli::start", warning, "configuration"));
        assert_eq!(line["warning"], warning.as_str());
    }

    #[test]
    fn a_value_can_not_look_like_another_line_or_field() {
        let hostile = "x\n2026 INFO forged\u{1b}[2J\u{9b}\u{202e} status=200 \"\\";
        let text = written(
            TEXT,
            || tracing::info!(target: "other", origin = hostile, path = %hostile, "rejected"),
        );
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.trim_end().chars().any(is_unsafe), "{text}");
        let value = r#""x\n2026 INFO forged\u{1b}[2J\u{9b}\u{202e} status=200 \"\\""#;
        let fields = format!("rejected origin={value} path={value}\n");
        assert!(text.ends_with(&fields), "{text}");
        let line = as_json(|| tracing::info!(target: "other", origin = hostile, "rejected"));
        assert!(!line["origin"].as_str().unwrap().chars().any(is_unsafe), "{line}");
    }

    #[test]
    fn without_colours_there_is_no_escape_sequence() {
        let log = || tracing::warn!(status = 404, "rejected");
        assert!(!written(TEXT, log).contains('\x1b'));
        assert!(written(LogLine::Text { has_colours: true }, log).contains("\x1b[33m"));
    }
}
