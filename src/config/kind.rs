//! The kinds of values.

use toml::{
    Spanned, Value,
    de::{DeTable, DeValue},
};

/// The kind of a key's value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ValueKind {
    /// A string.
    String,
    /// A non-negative integer.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A list of strings.
    List,
    /// A table of strings with free names.
    Map,
}

impl ValueKind {
    /// The error message for a value of another kind.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::String => "must be a string",
            Self::Integer => "must be an integer",
            Self::Boolean => "must be true or false",
            Self::List => "must be a list of strings",
            Self::Map => "must be a table of strings",
        }
    }

    /// `value` as this kind, or the error message.
    pub(super) fn value(self, value: &DeValue<'_>) -> Result<Value, &'static str> {
        let value = match (self, value) {
            (Self::String, DeValue::String(text)) => Some(Value::String(text.to_string())),
            (Self::Integer, DeValue::Integer(number)) => {
                i64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::Integer)
            }
            (Self::Boolean, DeValue::Boolean(truth)) => Some(Value::Boolean(*truth)),
            (Self::List, DeValue::Array(items)) => {
                let texts = items.iter().map(|item| text(item.get_ref()));
                texts.collect::<Option<_>>().map(Value::Array)
            }
            (Self::Map, DeValue::Table(table)) => {
                let texts = table.iter().map(|(name, value)| {
                    Some((name.get_ref().to_string(), text(value.get_ref())?))
                });
                texts.collect::<Option<_>>().map(Value::Table)
            }
            (Self::String | Self::Integer | Self::Boolean | Self::List | Self::Map, _) => None,
        };
        value.ok_or(self.message())
    }
}

fn text(value: &DeValue<'_>) -> Option<Value> {
    value.as_str().map(|text| Value::String(text.to_owned()))
}

/// The entries of a table in their original order.
pub(super) fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}
