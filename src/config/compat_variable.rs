//! Tables of the variables of other servers, with the effect of each.

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

/// A variable of another server.
#[derive(Debug)]
pub(super) struct CompatVariable {
    /// The variable's name.
    pub(super) name: &'static str,
    meaning: Meaning,
}

/// The effect of a variable.
#[derive(Debug)]
enum Meaning {
    /// It sets a key.
    Sets(&'static str, Convert),
    /// It sets a key with a slightly different meaning, which is noted.
    Nearly(&'static str, Convert, &'static str),
    /// It has no effect, which is noted unless its value is the other server's default.
    Ignored { default: &'static str, why: &'static str },
    /// It has no effect and needs no note, or is read by code beside the table.
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

/// `name` sets `key`, with the difference `why`.
pub(super) const fn nearly(
    name: &'static str,
    key: &'static str,
    convert: Convert,
    why: &'static str,
) -> CompatVariable {
    CompatVariable { name, meaning: Meaning::Nearly(key, convert, why) }
}

/// `name` has no effect; `why` is noted if its value is not the other server's `default`.
pub(super) const fn ignored(
    name: &'static str,
    default: &'static str,
    why: &'static str,
) -> CompatVariable {
    CompatVariable { name, meaning: Meaning::Ignored { default, why } }
}

/// `name` is known, without an effect from the table.
pub(super) const fn silent(name: &'static str) -> CompatVariable {
    CompatVariable { name, meaning: Meaning::Silent }
}

/// Writes the values of the variables of `family` into `draft` as the table says, and notes those
/// without effect.
///
/// # Errors
///
/// A value is not of its kind.
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

/// Writes the values of variables into `draft` as the table says, and notes those without effect.
///
/// # Errors
///
/// A value is not of its kind.
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
/// Its value is neither on nor off.
pub(super) fn is_true(name: &str, variables: &Variables) -> Result<bool, ConfigError> {
    let Some(value) = variables.set(name) else { return Ok(false) };
    let value = boolean(value).map_err(|rule| ConfigError::at(variables.origin(name), rule))?;
    Ok(value == Value::Boolean(true))
}

/// Applies one variable. Returns the note, if one is due.
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
