//! Tables of the variables of other servers, with the effect of each.

use super::{
    convert::Convert,
    draft::Draft,
    error::{ConfigError, Faults, all},
    key::Key,
    schema::unknown,
    unsupported::UNSUPPORTED,
    variables::{Variables, is_true},
};

/// A variable of another server: its name, and then what its effect needs.
#[derive(Debug)]
pub(super) enum CompatVariable {
    /// Sets the key.
    Sets(&'static str, &'static str, Convert),
    /// Sets the key, with a difference in meaning that is noted.
    Nearly(&'static str, &'static str, Convert, &'static str),
    /// Sets the key, with the other server's default if the variable is missing, while a switch is
    /// on: see [`apply_switched`].
    Switched(&'static str, &'static str, Convert, &'static str),
    /// Has no effect. The reason is noted, unless the value is the other server's default.
    Ignored(&'static str, &'static str, &'static str),
    /// Describes Redis, with the other server's default. Read by `redis`, if Redis is in use.
    OfRedis(&'static str, &'static str),
    /// May have the supported values. Others request the feature, and are rejected.
    Only(&'static str, &'static [&'static str], &'static str),
    /// Has no effect and needs no note, or is read by code beside the table.
    Silent(&'static str),
}

impl CompatVariable {
    /// The variable's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sets(name, ..)
            | Self::Nearly(name, ..)
            | Self::Switched(name, ..)
            | Self::Ignored(name, ..)
            | Self::OfRedis(name, _)
            | Self::Only(name, ..)
            | Self::Silent(name) => name,
        }
    }

    /// The key that the variable sets; `None` if it sets none.
    fn key(&self) -> Option<&'static str> {
        match self {
            Self::Sets(_, key, _) | Self::Nearly(_, key, ..) | Self::Switched(_, key, ..) => {
                Some(key)
            }
            Self::Ignored(..) | Self::OfRedis(..) | Self::Only(..) | Self::Silent(_) => None,
        }
    }
}

/// The key that the variable `name` sets; `None` if it sets none.
pub(super) fn key_of(table: &[CompatVariable], name: &str) -> Option<&'static str> {
    table.iter().find(|variable| variable.name() == name)?.key()
}

/// Writes the values of the variables of `family` into `draft` as the table says, and notes those
/// without effect.
///
/// # Errors
///
/// A value is not of its kind.
pub(super) fn apply(
    family: &str,
    table: &[CompatVariable],
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let applied = apply_all(table, variables, draft, notes);
    let known = || table.iter().map(CompatVariable::name);
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
    table: &[CompatVariable],
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let mut faults = Faults::default();
    for variable in table {
        if let Some(value) = variables.set(variable.name()) {
            let note = faults.take(apply_one(variable, value, variables, draft));
            notes.extend(note.flatten());
        }
    }
    faults.result()
}

/// Sets the keys of the [switched](CompatVariable::Switched) variables if the variable `switch` is true. Otherwise notes
/// those without effect.
///
/// # Errors
///
/// A value is not of its kind.
pub(super) fn apply_switched(
    switch: &str,
    table: &[CompatVariable],
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let is_on = is_true(switch, variables)?;
    for variable in table {
        let CompatVariable::Switched(name, key, convert, default) = variable else { continue };
        let set = variables.set(name);
        if is_on {
            let origin = variables.origin(if set.is_some() { name } else { switch });
            let value = convert(set.unwrap_or(default));
            let value = value.map_err(|rule| ConfigError::at(&origin, rule))?;
            draft.set(Key::new(*key), value, origin);
        } else if set.is_some_and(|value| value != *default) {
            let origin = variables.origin(name);
            notes.push(format!("{origin} has no effect: {switch} is not true"));
        }
    }
    Ok(())
}

/// Notes the variables [of Redis](CompatVariable::OfRedis) that have no effect, because `why`.
pub(super) fn note_no_redis(
    table: &[CompatVariable],
    why: &str,
    variables: &Variables,
    notes: &mut Vec<String>,
) {
    for variable in table {
        let CompatVariable::OfRedis(name, default) = variable else { continue };
        if variables.set(name).is_some_and(|value| value != *default) {
            notes.push(format!("{} has no effect: {why}", variables.origin(name)));
        }
    }
}

/// Rejects values that request what is not supported.
///
/// # Errors
///
/// There is such a value.
pub(super) fn reject_unsupported(
    table: &[CompatVariable],
    variables: &Variables,
) -> Result<(), ConfigError> {
    all(table.iter().map(|variable| {
        if let CompatVariable::Only(name, supported, what) = variable
            && variables.set(name).is_some_and(|value| !supported.contains(&value))
        {
            return Err(ConfigError::at(variables.origin(name), format!("{what} {UNSUPPORTED}")));
        }
        Ok(())
    }))
}

/// Applies one variable. Returns the note, if one is due.
fn apply_one(
    variable: &CompatVariable,
    value: &str,
    variables: &Variables,
    draft: &mut Draft,
) -> Result<Option<String>, ConfigError> {
    let origin = variables.origin(variable.name());
    let mut set = |key: &str, convert: Convert| {
        let key = Key::new(key);
        let value = convert(value).map_err(|rule| ConfigError::key(&origin, &key, rule))?;
        draft.set(key, value, origin.clone());
        Ok(())
    };
    match variable {
        CompatVariable::Sets(_, key, convert) => set(key, *convert).map(|()| None),
        CompatVariable::Nearly(_, key, convert, why) => {
            set(key, *convert)?;
            Ok(Some(format!("{origin} sets {key}: {why}")))
        }
        CompatVariable::Ignored(_, default, why) => {
            Ok((value != *default).then(|| format!("{origin} has no effect: {why}")))
        }
        CompatVariable::Switched(..)
        | CompatVariable::OfRedis(..)
        | CompatVariable::Only(..)
        | CompatVariable::Silent(_) => Ok(None),
    }
}
