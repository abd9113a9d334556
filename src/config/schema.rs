//! All keys with the kind of their values, derived from the serialized defaults.

use super::{AppConfig, Config, WebhookConfig, key::Key};
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue},
};

/// The kind of a key's value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ValueKind {
    /// A string.
    Text,
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
    /// The rule that a value of another kind violates.
    pub(super) fn rule(self) -> &'static str {
        match self {
            Self::Text => "must be a string",
            Self::Integer => "must be an integer",
            Self::Boolean => "must be true or false",
            Self::List => "must be a list of strings",
            Self::Map => "must be a table of strings",
        }
    }

    /// The kind of a value; `None` for a section or a list of sections.
    fn of(name: &str, value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::String(_) => Some(Self::Text),
            DeValue::Integer(_) => Some(Self::Integer),
            DeValue::Boolean(_) => Some(Self::Boolean),
            DeValue::Array(items) if !items.iter().any(|item| item.get_ref().is_table()) => {
                Some(Self::List)
            }
            DeValue::Table(_) if name == "headers" => Some(Self::Map),
            DeValue::Array(_) | DeValue::Table(_) | DeValue::Float(_) | DeValue::Datetime(_) => {
                None
            }
        }
    }

    /// `value` as this kind, or the violated rule.
    pub(super) fn value(self, value: &DeValue<'_>) -> Result<Value, &'static str> {
        let value = match (self, value) {
            (Self::Text, DeValue::String(text)) => Some(Value::String(text.to_string())),
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
            (Self::Text | Self::Integer | Self::Boolean | Self::List | Self::Map, _) => None,
        };
        value.ok_or(self.rule())
    }
}

fn text(value: &DeValue<'_>) -> Option<Value> {
    value.as_str().map(|text| Value::String(text.to_owned()))
}

/// Every key, in the order of the manual, by its pattern: `apps[].key`.
#[derive(Debug)]
pub(super) struct Schema(Vec<(String, ValueKind)>);

/// What a pattern refers to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SchemaNode {
    /// A value.
    Leaf(ValueKind),
    /// A table of keys.
    Section,
    /// A list of tables of keys.
    Sections,
}

impl Schema {
    /// The schema of [`Config`].
    pub(super) fn new() -> Self {
        let app =
            AppConfig { webhooks: vec![WebhookConfig::default()], ..AppConfig::development() };
        let sample = Config { apps: vec![app], ..Config::default() };
        Self(flatten(&sample).into_iter().map(|(key, kind, _)| (key.pattern(), kind)).collect())
    }

    /// What `pattern` refers to, if the key or section exists.
    pub(super) fn node(&self, pattern: &str) -> Option<SchemaNode> {
        self.0.iter().find_map(|(leaf, kind)| match leaf.strip_prefix(pattern)? {
            "" => Some(SchemaNode::Leaf(*kind)),
            rest if rest.starts_with('.') => Some(SchemaNode::Section),
            rest if rest.starts_with("[].") => Some(SchemaNode::Sections),
            _another_name => None,
        })
    }

    /// The error for an unknown key, with a suggestion from the same section.
    pub(super) fn unknown(&self, key: &Key) -> String {
        let section = key.section().pattern();
        let beside = self.0.iter().filter_map(|(leaf, _)| {
            let rest = if section.is_empty() {
                leaf
            } else {
                leaf.strip_prefix(&section)?.strip_prefix('.')?
            };
            rest.split(['.', '[']).next()
        });
        unknown("key", key.name(), beside)
    }

    /// The patterns and kinds of all keys.
    pub(super) fn leaves(&self) -> impl Iterator<Item = (&str, ValueKind)> {
        self.0.iter().map(|(pattern, kind)| (pattern.as_str(), *kind))
    }
}

/// "unknown `what`", with the candidate that is most similar to `name`, if one is similar.
pub(super) fn unknown<'a>(
    what: &str,
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> String {
    let near = candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, candidate)) => format!("unknown {what}; did you mean `{candidate}`?"),
        None => format!("unknown {what}"),
    }
}

/// The edit distance of `a` and `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Every value of `config`, in the order of the manual, with masked secrets.
pub(super) fn flatten(config: &Config) -> Vec<(Key, ValueKind, Value)> {
    let text = toml::to_string(config).expect("a configuration has only what TOML has");
    let table = DeTable::parse(&text).expect("what was serialized parses");
    let mut values = Vec::new();
    flatten_table(table.get_ref(), &Key::default(), &mut values);
    values
}

fn flatten_table(table: &DeTable<'_>, section: &Key, values: &mut Vec<(Key, ValueKind, Value)>) {
    for (name, value) in in_order(table) {
        let key = section.child(name.get_ref());
        let value = value.get_ref();
        match (ValueKind::of(key.name(), value), value) {
            (Some(kind), _) => values.extend(kind.value(value).map(|value| (key, kind, value))),
            (None, DeValue::Array(items)) => {
                let tables = items.iter().filter_map(|item| item.get_ref().as_table());
                for (index, item) in tables.enumerate() {
                    flatten_table(item, &key.item(index), values);
                }
            }
            (None, value) => {
                value.as_table().into_iter().for_each(|table| flatten_table(table, &key, values));
            }
        }
    }
}

/// The entries of a table in their original order.
pub(super) fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_matches_the_structs() {
        let schema = Schema::new();
        assert_eq!(schema.node("server"), Some(SchemaNode::Section));
        assert_eq!(schema.node("server.tls"), Some(SchemaNode::Section));
        assert_eq!(schema.node("apps"), Some(SchemaNode::Sections));
        assert_eq!(schema.node("apps[].webhooks"), Some(SchemaNode::Sections));
        assert_eq!(
            schema.node("apps[].webhooks[].headers"),
            Some(SchemaNode::Leaf(ValueKind::Map))
        );
        assert_eq!(schema.node("server.trusted_proxies"), Some(SchemaNode::Leaf(ValueKind::List)));
        assert_eq!(schema.node("server.por"), None);
        assert_eq!(schema.node("server.port2"), None);
        assert_eq!(schema.leaves().next(), Some(("server.host", ValueKind::Text)));
        assert_eq!(schema.leaves().count(), 66);
    }

    #[test]
    fn only_a_similar_name_is_suggested() {
        let schema = Schema::new();
        assert_eq!(schema.unknown(&Key::new("apps[0].keey")), "unknown key; did you mean `key`?");
        assert_eq!(schema.unknown(&Key::new("serve")), "unknown key; did you mean `server`?");
        assert_eq!(schema.unknown(&Key::new("server.colour_of_bell")), "unknown key");
    }

    #[test]
    fn the_distance_counts_letters() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "xyz", 3),
            ("ab", "b", 1),
            ("b", "ab", 1),
            ("port", "prot", 2),
            ("key", "keey", 1),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
