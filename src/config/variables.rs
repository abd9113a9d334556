//! The environment variables, from the process environment and from `.env`, and the options of soketi's
//! file, which have the names of their variables.

use super::{convert::boolean, error::ConfigError, value_source::ValueSource};
use std::collections::BTreeMap;
use toml::Value;

/// Prefixes of variables that are read, except for service links.
const READ_PREFIXES: [&str; 4] = [super::key::PREFIX, "REVERB_", "SOKETI_", "REDIS_"];

/// Prefixes of variables whose values follow Laravel's conventions.
const LARAVEL_PREFIXES: [&str; 5] =
    ["REVERB_", "REDIS_", "PUSHER_", "LARAVEL_WEBSOCKETS_", "WEBSOCKETS_"];

/// Prefix of soketi's variables for the first app.
const FIRST_APP: &str = "SOKETI_DEFAULT_APP_";

/// All variables. The real environment wins over `.env`, which wins over soketi's file.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Variables {
    by_name: BTreeMap<String, Variable>,
    /// The names of variables whose quotes were removed.
    unquoted: Vec<String>,
    /// The app that variables of the first app are about.
    app: usize,
}

#[derive(Clone, PartialEq)]
struct Variable {
    value: String,
    source: ValueSource,
}

/// A value in a configuration file of soketi.
pub(super) struct OptionValue {
    /// The variable that has the same effect.
    pub(super) variable: &'static str,
    /// The value as it would be written in that variable.
    pub(super) text: String,
    /// Where it is in the file.
    pub(super) source: ValueSource,
}

impl Variables {
    /// Merges the variables of the process environment, `env`, with those of a `.env` file and its
    /// name.
    pub(super) fn new(
        env: &BTreeMap<String, String>,
        dotenv: Option<(&str, &BTreeMap<String, String>)>,
    ) -> Self {
        let mut variables = Self::default();
        if let Some((file, values)) = dotenv {
            variables.insert_all(values, Some(file));
        }
        variables.insert_all(env, None);
        variables.strip_quotes();
        variables
    }

    /// Removes quotes from values of the process environment. `docker --env-file` keeps the quotes of
    /// a `.env` file.
    fn strip_quotes(&mut self) {
        for (name, variable) in &mut self.by_name {
            let is_ours = READ_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            let value = variable.value.trim();
            if is_ours
                && !name.starts_with("REDIS_")
                && variable.is_of_process()
                && let Some(inner) = without_quotes(value)
            {
                variable.value = inner.to_owned();
                self.unquoted.push(name.clone());
            }
        }
    }

    /// Warnings about how variables were written.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.unquoted.iter().map(|name| {
            format!(
                "environment {name}: surrounding quotes are removed; docker --env-file keeps them"
            )
        })
    }

    fn insert_all(&mut self, values: &BTreeMap<String, String>, dotenv: Option<&str>) {
        for (name, value) in values {
            let ours = READ_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            // Other names with a dot are those of options without a variable.
            let is_read = if ours { !is_service_link(name, value) } else { !name.contains('.') };
            if is_read {
                let dotenv = dotenv.map(str::to_owned);
                let source = ValueSource::Environment { variable: name.clone(), dotenv };
                self.by_name.insert(name.clone(), Variable { value: value.clone(), source });
            }
        }
    }

    /// Adds the `values` of a file, except for those that a variable sets.
    pub(super) fn add_defaults(&mut self, values: &[OptionValue]) {
        for value in values {
            if self.non_empty(value.variable).is_none() {
                self.add(value);
            }
        }
    }

    fn add(&mut self, OptionValue { variable, text, source }: &OptionValue) {
        let value = Variable { value: text.clone(), source: source.clone() };
        self.by_name.insert((*variable).to_owned(), value);
    }

    /// The variables of soketi that are about the app with the index `app`, of which a file sets
    /// `values`. As in soketi, variables of the first app override the file, and limits of an app
    /// override the variables for all apps.
    pub(super) fn for_app(&self, app: usize, values: &[OptionValue]) -> Self {
        let is_of_first = |name: &str| name.starts_with(FIRST_APP);
        let names = self.by_name.iter().filter(|(name, variable)| {
            let is_option = matches!(variable.source, ValueSource::FileOption { .. });
            (app == 0 || !is_of_first(name)) && (name.starts_with("SOKETI_") || is_option)
        });
        let by_name = names.map(|(name, variable)| (name.clone(), variable.clone())).collect();
        let mut variables = Self { by_name, unquoted: Vec::new(), app };
        for value in values {
            if !is_of_first(value.variable) || variables.non_empty(value.variable).is_none() {
                variables.add(value);
            }
        }
        variables
    }

    /// A key or text about `apps[0]` as one about the app that the variables are about.
    pub(super) fn with_app_index(&self, text: &str) -> String {
        text.replace("apps[0]", &format!("apps[{}]", self.app))
    }

    /// Whether a variable `name` has a meaning beside these. Laravel's `REDIS_` variables are for
    /// its cache, and count only if Reverb's scaling is enabled; `PORT` is handled separately.
    pub(super) fn is_read(&self, name: &str, pusher_env: bool) -> bool {
        let is_ours =
            LARAVEL_PREFIXES.iter().chain(&READ_PREFIXES).any(|prefix| name.starts_with(prefix));
        is_ours
            && match name.split_once('_') {
                Some(("REDIS", _)) => is_true("REVERB_SCALING_ENABLED", self).unwrap_or_default(),
                Some(("PUSHER", _)) => pusher_env,
                Some(_) | None => true,
            }
    }

    /// The value of the variable `name`, by the conventions of its prefix: for `REVERB_` and other
    /// variables of Laravel, `null` etc. means that nothing is set.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.by_name.get(name)?.value.as_str();
        if LARAVEL_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            parse_laravel(value)
        } else {
            Some(value)
        }
    }

    /// The value of the variable `name` as Laravel's `env()` reads it; none for `null`.
    pub(super) fn laravel_value(&self, name: &str) -> Option<&str> {
        Some(parse_laravel(&self.by_name.get(name)?.value).unwrap_or("null"))
    }

    /// The unchanged value of the variable `name` in the process environment.
    pub(super) fn process_value(&self, name: &str) -> Option<&str> {
        let variable = self.by_name.get(name).filter(|variable| variable.is_of_process())?;
        Some(variable.value.trim()).filter(|value| !value.is_empty())
    }

    /// The value of another server's variable; `None` if it is empty or null.
    pub(super) fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !matches!(value.trim(), "" | "null"))
    }

    /// The source of the variable `name`.
    pub(super) fn source(&self, name: &str) -> ValueSource {
        let missing = || ValueSource::Environment { variable: name.to_owned(), dotenv: None };
        self.by_name.get(name).map_or_else(missing, |variable| variable.source.clone())
    }

    /// The names of the variables that begin with `prefix`.
    pub(super) fn names(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }
}

impl Variable {
    /// Whether it is one of the process environment.
    fn is_of_process(&self) -> bool {
        matches!(self.source, ValueSource::Environment { dotenv: None, .. })
    }
}

/// The content of the quotes around `value`, if there are quotes and none inside, as there are in a
/// list of quoted words.
fn without_quotes(value: &str) -> Option<&str> {
    let inner = |quote| {
        value.strip_prefix(quote)?.strip_suffix(quote).filter(|inner| !inner.contains(quote))
    };
    ['"', '\''].into_iter().find_map(inner)
}

/// Whether Kubernetes or Docker set the variable for a service with the same name. A pod beside a
/// service named `campanile` has `CAMPANILE_PORT=tcp://10.0.0.1:8080`, and must start all the same.
fn is_service_link(name: &str, value: &str) -> bool {
    let host_or_port = ["_SERVICE_HOST", "_SERVICE_PORT"].iter().any(|part| name.contains(part));
    let port_of = name.split_once("_PORT_").is_some_and(|(_, rest)| {
        rest.split_once('_').is_some_and(|(number, rest)| {
            number.parse::<u16>().is_ok()
                && ["TCP", "UDP", "SCTP"].iter().any(|p| rest.starts_with(p))
        })
    });
    let port = name.ends_with("_PORT") && value.contains("://");
    host_or_port || port_of || port
}

/// The value that Laravel's `env()` returns.
fn parse_laravel(value: &str) -> Option<&str> {
    let is = |word: &str| {
        value.eq_ignore_ascii_case(word)
            || value
                .strip_prefix('(')
                .and_then(|value| value.strip_suffix(')'))
                .is_some_and(|value| value.eq_ignore_ascii_case(word))
    };
    let unquoted =
        ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    match value {
        _ if is("null") => None,
        _ if is("true") => Some("true"),
        _ if is("false") => Some("false"),
        _ if is("empty") => Some(""),
        value => Some(unquoted.unwrap_or(value)),
    }
}

/// Whether the switch `name` is on.
///
/// # Errors
///
/// Its value is neither on nor off.
pub(super) fn is_true(name: &str, variables: &Variables) -> Result<bool, ConfigError> {
    let Some(value) = variables.non_empty(name) else { return Ok(false) };
    let value =
        boolean(value).map_err(|message| ConfigError::at(variables.source(name), message))?;
    Ok(value == Value::Boolean(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laravels_words_for_values_are_read() {
        for (written, meant) in [
            ("true", Some("true")),
            ("(true)", Some("true")),
            ("TRUE", Some("true")),
            ("false", Some("false")),
            ("(false)", Some("false")),
            ("null", None),
            ("(null)", None),
            ("empty", Some("")),
            ("(empty)", Some("")),
            ("'quoted'", Some("quoted")),
            ("truest", Some("truest")),
            ("", Some("")),
        ] {
            assert_eq!(parse_laravel(written), meant, "{written}");
        }
    }

    #[test]
    fn only_laravels_variables_have_laravels_words() {
        let env = ["REVERB_APP_KEY", "CAMPANILE_APPS__0__KEY"];
        let env = env.map(|name| (name.to_owned(), "(empty)".to_owned())).into();
        let variables = Variables::new(&env, None);
        assert_eq!(variables.get("REVERB_APP_KEY"), Some(""));
        assert_eq!(variables.get("CAMPANILE_APPS__0__KEY"), Some("(empty)"));
    }

    #[test]
    fn service_links_are_not_settings() {
        for (name, value) in [
            ("CAMPANILE_SERVICE_HOST", "10.0.0.1"),
            ("CAMPANILE_SERVICE_PORT_HTTP", "8080"),
            ("CAMPANILE_PORT", "tcp://10.0.0.1:8080"),
            ("CAMPANILE_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("SOKETI_PORT", "tcp://10.0.0.1:6001"),
            ("REVERB_SERVER_PORT", "tcp://10.0.0.1:8080"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
        for (name, value) in
            [("SOKETI_PORT", "6001"), ("CAMPANILE_SERVER__PORT", "8080"), ("CAMPANILE_PORT_X", "1")]
        {
            assert!(!is_service_link(name, value), "{name}");
        }
    }
}
