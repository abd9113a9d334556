//! Records warnings and errors of the log for the console.

use crate::recent::{self, Warning};
use serde_json::{Map, Value};
use std::fmt::Debug;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Maximum length of a value, in bytes.
const VALUE_MAX: usize = 1_024;

/// Records warnings and errors, with their fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordWarnings;

impl<S: Subscriber> Layer<S> for RecordWarnings {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = *event.metadata().level();
        if level <= Level::WARN {
            recent::WARNINGS.record(None, || warning(event));
        }
    }
}

fn warning(event: &Event<'_>) -> Warning {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let message = match fields.0.remove("message") {
        Some(Value::String(message)) => message,
        Some(_) | None => String::new(),
    };
    Warning { level: event.metadata().level().as_str(), message, fields: fields.0 }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, &value[..value.floor_char_boundary(VALUE_MAX)]);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn warnings_and_errors_are_recorded_with_their_fields() {
        recent::set_on(true);
        let subscriber = tracing_subscriber::registry().with(RecordWarnings);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(key = "a key", count = 7, flag = true, "a warning of the test");
            tracing::info!("no warning of the test");
        });
        let recorded = recent::WARNINGS.since(0);
        let of_test = |text: &str| recorded.iter().find(|line| line.record.message == text);
        let warning = &of_test("a warning of the test").unwrap().record;
        assert_eq!(warning.level, "WARN");
        assert_eq!(
            Value::from(warning.fields.clone()),
            serde_json::json!({"key": "a key", "count": 7, "flag": true})
        );
        assert!(of_test("no warning of the test").is_none());
    }
}
