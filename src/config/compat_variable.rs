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

/// A variable of another server: its name, and then what its effect needs. Keys of apps are those of
/// the first app.
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
    /// Describes the database of apps, with the other server's default. Read by `soketi::database`, if
    /// there is one.
    OfDatabase(&'static str, &'static str),
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
            | Self::OfDatabase(name, _)
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
            Self::Ignored(..)
            | Self::OfRedis(..)
            | Self::OfDatabase(..)
            | Self::Only(..)
            | Self::Silent(_) => None,
        }
    }

    /// The conversion of the value for the key that the variable sets.
    pub(super) fn convert(&self) -> Option<Convert> {
        match self {
            Self::Sets(_, _, convert)
            | Self::Nearly(_, _, convert, _)
            | Self::Switched(_, _, convert, _) => Some(*convert),
            Self::Ignored(..)
            | Self::OfRedis(..)
            | Self::OfDatabase(..)
            | Self::Only(..)
            | Self::Silent(_) => None,
        }
    }

    /// Whether the variable configures an app.
    pub(super) fn is_of_app(&self) -> bool {
        self.key().is_some_and(|key| key.starts_with("apps[0]."))
            || self.name().starts_with("SOKETI_DEFAULT_APP_")
    }
}

/// Variables of another server, each with its effect.
pub(super) trait Table: IntoIterator<Item = &'static CompatVariable> + Clone {}

impl<T: IntoIterator<Item = &'static CompatVariable> + Clone> Table for T {}

/// The key that the variable `name` sets; `None` if it sets none.
pub(super) fn key_of(table: impl Table, name: &str) -> Option<&'static str> {
    table.into_iter().find(|variable| variable.name() == name)?.key()
}

/// Writes the values of the variables of `family` into `draft` as the table says, and notes those
/// without effect.
///
/// # Errors
///
/// A value is not of its kind.
pub(super) fn apply(
    family: &str,
    table: impl Table,
    variables: &Variables,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let known: Vec<_> = table.clone().into_iter().map(CompatVariable::name).collect();
    let applied = apply_all(table, variables, draft, notes);
    for name in variables.names(family).filter(|name| !known.contains(name)) {
        let unknown = unknown("variable", name, known.iter().copied());
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
    table: impl Table,
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
    table: impl Table,
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
    table: impl Table,
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
    table: impl Table,
    variables: &Variables,
) -> Result<(), ConfigError> {
    all(table.into_iter().map(|variable| {
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
        let key = Key::new(variables.of_its_app(key));
        let value = convert(value).map_err(|rule| ConfigError::key(&origin, &key, rule))?;
        draft.set(key, value, origin.clone());
        Ok(())
    };
    match variable {
        CompatVariable::Sets(_, key, convert) => set(key, *convert).map(|()| None),
        CompatVariable::Nearly(_, key, convert, why) => {
            set(key, *convert)?;
            Ok(Some(format!("{origin} sets {}: {why}", variables.of_its_app(key))))
        }
        CompatVariable::Ignored(_, default, why) => {
            let why = variables.of_its_app(why);
            Ok((value != *default).then(|| format!("{origin} has no effect: {why}")))
        }
        CompatVariable::Switched(..)
        | CompatVariable::OfRedis(..)
        | CompatVariable::OfDatabase(..)
        | CompatVariable::Only(..)
        | CompatVariable::Silent(_) => Ok(None),
    }
}
