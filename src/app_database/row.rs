//! Reads the columns of a row as texts, whatever their types are.

use serde_json::{Map, Value};
use sqlx::{
    Column as _, Row as _, TypeInfo as _, ValueRef as _, mysql::MySqlRow, sqlite::SqliteRow,
};

/// The columns of a row that are not null, as texts, by name. `Debug` shows the names only: values may
/// be secrets.
#[derive(Default)]
pub struct AppRecord {
    columns: Vec<(String, String)>,
    /// The columns whose values are not texts.
    unreadable: Vec<String>,
}

impl AppRecord {
    /// The text in a column, if there is one.
    #[must_use]
    pub fn text(&self, column: &str) -> Option<&str> {
        self.columns.iter().find(|(name, _)| name == column).map(|(_, text)| text.as_str())
    }

    /// The columns that are texts.
    #[must_use]
    pub fn columns(&self) -> &[(String, String)] {
        &self.columns
    }

    /// The names of the columns that cannot be read as texts, such as those of binary data.
    #[must_use]
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    fn push(&mut self, name: &str, text: Option<String>) {
        match text {
            Some(text) => self.columns.push((name.to_owned(), text)),
            None => self.unreadable.push(name.to_owned()),
        }
    }
}

impl std::fmt::Debug for AppRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.columns.iter().map(|(name, _)| name)).finish()
    }
}

/// The row that PostgreSQL has written as a JSON object.
pub(super) fn from_json(text: &str) -> AppRecord {
    let mut record = AppRecord::default();
    let columns: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    for (name, value) in columns {
        match value {
            Value::Null => {}
            Value::String(text) => record.push(&name, Some(text)),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                record.push(&name, Some(value.to_string()));
            }
        }
    }
    record
}

pub(super) fn from_mysql(row: &MySqlRow) -> AppRecord {
    let mut record = AppRecord::default();
    for column in row.columns() {
        let at = column.ordinal();
        let Ok(value) = row.try_get_raw(at) else { continue };
        if value.is_null() {
            continue;
        }
        let kind = value.type_info().name().to_owned();
        let text = if kind.contains("INT") || kind == "BOOLEAN" {
            row.try_get_unchecked::<i64, _>(at).map(|number| number.to_string())
        } else if kind == "FLOAT" || kind == "DOUBLE" {
            row.try_get_unchecked::<f64, _>(at).map(|number| number.to_string())
        } else {
            row.try_get_unchecked::<String, _>(at)
        };
        record.push(column.name(), text.ok());
    }
    record
}

pub(super) fn from_sqlite(row: &SqliteRow) -> AppRecord {
    let mut record = AppRecord::default();
    for column in row.columns() {
        let at = column.ordinal();
        let Ok(value) = row.try_get_raw(at) else { continue };
        if value.is_null() {
            continue;
        }
        // The type of the value, which may differ from that of the column.
        let kind = value.type_info().name().to_owned();
        let text = match kind.as_str() {
            "INTEGER" => row.try_get_unchecked::<i64, _>(at).map(|number| number.to_string()),
            "REAL" => row.try_get_unchecked::<f64, _>(at).map(|number| number.to_string()),
            _ => row.try_get_unchecked::<String, _>(at),
        };
        record.push(column.name(), text.ok());
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_in_json_has_its_columns_as_texts_without_nulls() {
        let record = from_json(
            r#"{"id": "1", "enabled": 1, "max": null, "rate": 2.5, "tls": true, "webhooks": [{"url": "u"}]}"#,
        );
        for (column, text) in [
            ("id", Some("1")),
            ("enabled", Some("1")),
            ("max", None),
            ("rate", Some("2.5")),
            ("tls", Some("true")),
            ("webhooks", Some(r#"[{"url":"u"}]"#)),
            ("other", None),
        ] {
            assert_eq!(record.text(column), text, "{column}");
        }
        assert!(!format!("{record:?}").contains("2.5"));
    }
}
