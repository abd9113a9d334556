//! The variables of other servers: what each does, and how it is applied.

use super::{
    convert::Convert,
    error::{ConfigError, ErrorCollector, collect_errors},
    key::KeyPath,
    raw_config::RawConfig,
    schema::unknown,
    unsupported::UNSUPPORTED,
    variables::{Variables, is_true},
};

/// A variable of another server, by its effect. The first value of each is its name; the first app stands
/// for the app that it configures.
#[derive(Debug)]
pub(super) enum CompatVariable {
    /// Name, key, conversion: sets the key.
    Sets(&'static str, &'static str, Convert),
    /// Name, key, conversion, warning: sets the key, and warns about a difference in meaning.
    SetsWithWarning(&'static str, &'static str, Convert, &'static str),
    /// Name, key, conversion, the other server's default: sets the key, if another variable enables that.
    /// See [`apply_if_enabled`].
    SetsIfEnabled(&'static str, &'static str, Convert, &'static str),
    /// Name, the other server's default, reason: has no effect. Values other than the default cause a
    /// warning.
    Ignored(&'static str, &'static str, &'static str),
    /// Describes Redis, with the other server's default. Read by `redis`, if Redis is in use.
    Redis(&'static str, &'static str),
    /// Describes the database of apps, with the other server's default. Read by `soketi::database`, if
    /// there is one.
    OfDatabase(&'static str, &'static str),
    /// May have the supported values. Others request the feature, and are rejected.
    AllowedValues(&'static str, &'static [&'static str], &'static str),
    /// Has no effect and needs no warning, or is read by code beside the table.
    HandledElsewhere(&'static str),
}

impl CompatVariable {
    /// The variable's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sets(name, ..)
            | Self::SetsWithWarning(name, ..)
            | Self::SetsIfEnabled(name, ..)
            | Self::Ignored(name, ..)
            | Self::Redis(name, _)
            | Self::OfDatabase(name, _)
            | Self::AllowedValues(name, ..)
            | Self::HandledElsewhere(name) => name,
        }
    }

    /// The key that the variable sets; `None` if it sets none.
    fn key(&self) -> Option<&'static str> {
        match self {
            Self::Sets(_, key, _)
            | Self::SetsWithWarning(_, key, ..)
            | Self::SetsIfEnabled(_, key, ..) => Some(key),
            Self::Ignored(..)
            | Self::Redis(..)
            | Self::OfDatabase(..)
            | Self::AllowedValues(..)
            | Self::HandledElsewhere(_) => None,
        }
    }

    /// The conversion of the value for the key that the variable sets.
    pub(super) fn convert(&self) -> Option<Convert> {
        match self {
            Self::Sets(_, _, convert)
            | Self::SetsWithWarning(_, _, convert, _)
            | Self::SetsIfEnabled(_, _, convert, _) => Some(*convert),
            Self::Ignored(..)
            | Self::Redis(..)
            | Self::OfDatabase(..)
            | Self::AllowedValues(..)
            | Self::HandledElsewhere(_) => None,
        }
    }

    /// Whether the variable configures an app.
    pub(super) fn is_of_app(&self) -> bool {
        self.key().is_some_and(|key| key.starts_with("apps[0]."))
            || self.name().starts_with("SOKETI_DEFAULT_APP_")
    }
}

/// All variables of one server.
pub(super) trait CompatVariables:
    IntoIterator<Item = &'static CompatVariable> + Clone
{
}

impl<T: IntoIterator<Item = &'static CompatVariable> + Clone> CompatVariables for T {}

/// The key that the variable `name` sets; `None` if it sets none.
pub(super) fn key_of(table: impl CompatVariables, name: &str) -> Option<&'static str> {
    table.into_iter().find(|variable| variable.name() == name)?.key()
}

/// Applies the variables with the prefix `prefix` to `raw`, and warns about those without effect.
///
/// # Errors
///
/// A value is not of its kind.
pub(super) fn apply(
    prefix: &str,
    table: impl CompatVariables,
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let known: Vec<_> = table.clone().into_iter().map(CompatVariable::name).collect();
    let applied = apply_all(table, variables, raw, warnings);
    for name in variables.names(prefix).filter(|name| !known.contains(name)) {
        let unknown = unknown("variable", name, known.iter().copied());
        warnings.push(format!("{} has no effect: {unknown}", variables.source(name)));
    }
    applied
}

/// Applies variables to `raw`, and warns about those without effect.
///
/// # Errors
///
/// A value is not of its kind.
pub(super) fn apply_all(
    table: impl CompatVariables,
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let mut errors = ErrorCollector::default();
    for variable in table {
        if let Some(value) = variables.non_empty(variable.name()) {
            let warning = errors.collect(apply_one(variable, value, variables, raw));
            warnings.extend(warning.flatten());
        }
    }
    errors.take_result()
}

/// Sets the keys of the variables [that another enables](CompatVariable::SetsIfEnabled), if `enabling_variable`
/// is true. Otherwise warns about those that have no effect.
///
/// # Errors
///
/// A value is not of its kind.
pub(super) fn apply_if_enabled(
    enabling_variable: &str,
    table: impl CompatVariables,
    variables: &Variables,
    raw: &mut RawConfig,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let is_on = is_true(enabling_variable, variables)?;
    for variable in table {
        let CompatVariable::SetsIfEnabled(name, key, convert, default) = variable else { continue };
        let set = variables.non_empty(name);
        if is_on {
            let source = variables.source(if set.is_some() { name } else { enabling_variable });
            let value = convert(set.unwrap_or(default));
            let value = value.map_err(|message| ConfigError::at(&source, message))?;
            raw.set(KeyPath::new(*key), value, source);
        } else if set.is_some_and(|value| value != *default) {
            let source = variables.source(name);
            warnings.push(format!("{source} has no effect: {enabling_variable} is not true"));
        }
    }
    Ok(())
}

/// Warns about the variables [of Redis](CompatVariable::Redis) that have no effect, because `why`.
pub(super) fn warn_no_redis(
    table: impl CompatVariables,
    why: &str,
    variables: &Variables,
    warnings: &mut Vec<String>,
) {
    for variable in table {
        let CompatVariable::Redis(name, default) = variable else { continue };
        if variables.non_empty(name).is_some_and(|value| value != *default) {
            warnings.push(format!("{} has no effect: {why}", variables.source(name)));
        }
    }
}

/// Rejects values that request what is not supported.
///
/// # Errors
///
/// There is such a value.
pub(super) fn reject_unsupported(
    table: impl CompatVariables,
    variables: &Variables,
) -> Result<(), ConfigError> {
    collect_errors(table.into_iter().map(|variable| {
        if let CompatVariable::AllowedValues(name, supported, what) = variable
            && variables.non_empty(name).is_some_and(|value| !supported.contains(&value))
        {
            return Err(ConfigError::at(variables.source(name), format!("{what} {UNSUPPORTED}")));
        }
        Ok(())
    }))
}

/// Applies one variable. Returns a warning, if there is one.
fn apply_one(
    variable: &CompatVariable,
    value: &str,
    variables: &Variables,
    raw: &mut RawConfig,
) -> Result<Option<String>, ConfigError> {
    let source = variables.source(variable.name());
    let mut set = |key: &str, convert: Convert| {
        let key = KeyPath::new(variables.with_app_index(key));
        let value = convert(value).map_err(|message| ConfigError::key(&source, &key, message))?;
        raw.set(key, value, source.clone());
        Ok(())
    };
    match variable {
        CompatVariable::Sets(_, key, convert) => set(key, *convert).map(|()| None),
        CompatVariable::SetsWithWarning(_, key, convert, why) => {
            set(key, *convert)?;
            Ok(Some(format!("{source} sets {}: {why}", variables.with_app_index(key))))
        }
        CompatVariable::Ignored(_, default, why) => {
            let why = variables.with_app_index(why);
            Ok((value != *default).then(|| format!("{source} has no effect: {why}")))
        }
        CompatVariable::SetsIfEnabled(..)
        | CompatVariable::Redis(..)
        | CompatVariable::OfDatabase(..)
        | CompatVariable::AllowedValues(..)
        | CompatVariable::HandledElsewhere(_) => Ok(None),
    }
}
