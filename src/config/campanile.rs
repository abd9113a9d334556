//! Our own variables: `CAMPANILE_SERVER__PORT` for `server.port`.

use super::{
    convert,
    draft::Draft,
    error::{ConfigError, all},
    key::{Key, PREFIX},
    schema::{Node, Schema, unknown},
    variables::Variables,
};

/// Writes what our own variables say into `draft`.
///
/// # Errors
///
/// When a variable names no key, or its value is not of the key's kind.
pub(super) fn read(
    variables: &Variables,
    schema: &Schema,
    draft: &mut Draft,
) -> Result<(), ConfigError> {
    all(variables.names(PREFIX).map(|name| {
        let origin = variables.origin(name);
        let key = Key::from_variable(&name[PREFIX.len()..]);
        let Some(Node::Leaf(kind)) = schema.node(&key.pattern()) else {
            return Err(ConfigError::at(origin, no_such_variable(name, &key, schema)));
        };
        let value = variables.value(name).unwrap_or_default();
        let value =
            convert::to_kind(kind, value).map_err(|rule| ConfigError::key(&origin, &key, rule))?;
        draft.set(key, value, origin);
        Ok(())
    }))
}

/// What to say of a variable that names no key. The indexes of the one that was meant are taken
/// from `key`.
fn no_such_variable(name: &str, key: &Key, schema: &Schema) -> String {
    let indexes: Vec<_> = key.parts().filter_map(|(_, index)| index).collect();
    let candidates: Vec<_> = schema
        .leaves()
        .map(|(pattern, _)| {
            let mut indexes = indexes.iter();
            let parts = pattern.split("[]").enumerate().map(|(place, part)| match place {
                0 => part.to_owned(),
                _later => format!("[{}]{part}", indexes.next().unwrap_or(&0)),
            });
            Key::new(parts.collect::<String>()).variable()
        })
        .collect();
    unknown("variable", name, candidates.iter().map(String::as_str))
}
