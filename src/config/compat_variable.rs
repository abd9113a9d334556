//! How the variables of another server are read: a table says what each means to us.

use super::{
    convert::{Convert, boolean},
    draft::Draft,
    error::{ConfigError, Faults},
    key::Key,
    schema::unknown,
    unsupported,
    variables::Variables,
};
use toml::Value;

/// A variable that another server understands.
#[derive(Debug)]
pub(super) struct CompatVariable {
    /// Its name.
    pub(super) name: &'static str,
    meaning: Meaning,
}

/// What a peer's variable means to us.
#[derive(Debug)]
enum Meaning {
    /// It sets a key.
    Sets(&'static str, Convert),
    /// It sets a key that is not quite the same. The difference is worth a note.
    Nearly(&'static str, Convert, &'static str),
    /// It has no effect, which is worth a note if it is not what the peer has by itself.
    Ignored { default: &'static str, why: &'static str },
    /// It has no effect here, and nobody expects one; or code beside the table reads it together
    /// with others.
    Silent,
}

/// `name` sets `key`.
pub(super) const fn sets(
    name: &'static str,
    key: &'static str,
    convert: Convert,
) -> CompatVariable {
    CompatVariable { name, meaning: Meaning::Sets(key, convert) }
}

/// `name` sets `key`, with a difference that `why` tells.
pub(super) const fn nearly(
    name: &'static str,
    key: &'static str,
    convert: Convert,
    why: &'static str,
) -> CompatVariable {
    CompatVariable { name, meaning: Meaning::Nearly(key, convert, why) }
}

/// `name` has no effect, and `why` is said when it is set to something other than the peer's
/// `default`.
pub(super) const fn ignored(
    name: &'static str,
    default: &'static str,
    why: &'static str,
) -> CompatVariable {
    CompatVariable { name, meaning: Meaning::Ignored { default, why } }
}

/// `name` is known, and the table has nothing to do with it.
pub(super) const fn silent(name: &'static str) -> CompatVariable {
    CompatVariable { name, meaning: Meaning::Silent }
}

/// Writes what the variables of `family` say into `draft`, as `peers` has it, and notes what has no
/// effect.
///
/// # Errors
///
/// When a value is not of its kind.
pub(super) fn apply(
    family: &str,
    peers: &[CompatVariable],
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let applied = apply_all(peers, variables, draft, notes);
    let known = || peers.iter().map(|peer| peer.name).chain(unsupported::variables());
    for name in variables.names(family).filter(|name| known().all(|known| known != *name)) {
        let unknown = unknown("variable", name, known());
        notes.push(format!("{} has no effect: {unknown}", variables.origin(name)));
    }
    applied
}

/// Writes what the variables of `peers` say into `draft`, and notes what has no effect.
///
/// # Errors
///
/// When a value is not of its kind.
pub(super) fn apply_all(
    peers: &[CompatVariable],
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let mut faults = Faults::default();
    for peer in peers {
        if let Some(value) = variables.set(peer.name) {
            let note = faults.take(apply_one(peer, value, variables, draft));
            notes.extend(note.flatten());
        }
    }
    faults.result()
}

/// Whether the switch `name` is on.
///
/// # Errors
///
/// When it is neither on nor off.
pub(super) fn is_true(name: &str, variables: &Variables) -> Result<bool, ConfigError> {
    let Some(value) = variables.set(name) else { return Ok(false) };
    let value = boolean(value).map_err(|rule| ConfigError::at(variables.origin(name), rule))?;
    Ok(value == Value::Boolean(true))
}

/// Applies one variable, and returns the note that it is worth.
fn apply_one(
    peer: &CompatVariable,
    value: &str,
    variables: &Variables,
    draft: &mut Draft,
) -> Result<Option<String>, ConfigError> {
    let origin = variables.origin(peer.name);
    let mut set = |key: &str, convert: Convert| {
        let key = Key::new(key);
        let value = convert(value).map_err(|rule| ConfigError::key(&origin, &key, rule))?;
        draft.set(key, value, origin.clone());
        Ok(())
    };
    match peer.meaning {
        Meaning::Sets(key, convert) => set(key, convert).map(|()| None),
        Meaning::Nearly(key, convert, why) => {
            set(key, convert)?;
            Ok(Some(format!("{origin} sets {key}: {why}")))
        }
        Meaning::Ignored { default, why } => {
            Ok((value != default).then(|| format!("{origin} has no effect: {why}")))
        }
        Meaning::Silent => Ok(None),
    }
}
