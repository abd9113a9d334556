//! Configuration errors, each with its location.

use super::{key::KeyPath, value_source::ValueSource};
use crate::escape::Escaped;
use std::fmt;

/// The errors in a configuration, at least one: for each its location, its key and a message.
///
/// `Display` writes them on one line, for a log; [`lines`](Self::lines) writes one line for each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError(Vec<ConfigIssue>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct ConfigIssue {
    location: String,
    key: Option<String>,
    message: String,
    /// Whether the location is an option of a file of soketi, which may set a key of every app.
    is_soketi_option: bool,
    /// The layer, and the line in the file, by which errors are sorted.
    order: (u8, usize),
}

/// Maximum number of errors that are listed.
const LISTED_MAX: usize = 20;

impl ConfigError {
    /// An error in the value of `key`, which was set at `source`.
    pub(super) fn key(
        source: &ValueSource,
        key: impl fmt::Display,
        message: impl Into<String>,
    ) -> Self {
        let is_soketi_option = matches!(source, ValueSource::FileOption { .. });
        let (location, key) = (source.to_string(), Some(key.to_string()));
        Self(vec![ConfigIssue {
            location,
            key,
            message: message.into(),
            is_soketi_option,
            order: source.sort_key(),
        }])
    }

    /// An error at `location` that is not about the value of a key.
    pub(super) fn at(location: impl fmt::Display, message: impl Into<String>) -> Self {
        let (location, message) = (location.to_string(), message.into());
        Self(vec![ConfigIssue {
            location,
            key: None,
            message,
            is_soketi_option: false,
            order: (0, 0),
        }])
    }

    /// The same errors without the keys, where the locations are enough.
    pub(super) fn without_keys(self) -> Self {
        Self(self.0.into_iter().map(|issue| ConfigIssue { key: None, ..issue }).collect())
    }

    /// One line for each error, without control characters. Beyond twenty, the last line gives the
    /// number of further errors.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let more = self.0.len().saturating_sub(LISTED_MAX);
        let listed =
            self.0.iter().take(LISTED_MAX).map(|issue| Escaped(&issue.to_string()).to_string());
        listed.chain((more > 0).then(|| format!("and {more} more")))
    }

    /// All errors as JSON: location, key if there is one, and message.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let error = |ConfigIssue { location, key, message, is_soketi_option: _, order: _ }: &ConfigIssue| serde_json::json!({ "location": location, "key": key, "message": message });
        serde_json::json!({ "errors": self.0.iter().map(error).collect::<Vec<_>>() })
    }
}

impl ConfigIssue {
    /// Whether `other` is about the same value, or about the same option for another app.
    fn is_same(&self, other: &Self) -> bool {
        let pattern =
            |issue: &Self| issue.key.as_ref().map(|key| KeyPath::new(key.as_str()).schema_path());
        self.location == other.location
            && match &self.key {
                Some(_) if self.is_soketi_option && self.message == other.message => {
                    pattern(self) == pattern(other)
                }
                Some(_) => self.key == other.key,
                None => self == other,
            }
    }
}

impl fmt::Display for ConfigIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.location, self.message),
            None => write!(f, "{}: {}", self.location, self.message),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join(" | "))
    }
}

impl std::error::Error for ConfigError {}

/// Collects the errors of steps that continue after a failure.
#[derive(Debug, Default)]
pub(super) struct ErrorCollector(Vec<ConfigIssue>);

impl ErrorCollector {
    /// Keeps the errors of `result`, and returns its value if there is one. Of several errors of
    /// one value the first is kept: the others often follow from it.
    pub(super) fn collect<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        let ConfigError(errors) = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        for issue in errors {
            if !self.0.iter().any(|known| issue.is_same(known)) {
                self.0.push(issue);
            }
        }
        None
    }

    /// Whether no error was found so far.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails with the collected errors, in the order of the layers and of the lines.
    ///
    /// # Errors
    ///
    /// An error was collected.
    pub(super) fn take_result(&mut self) -> Result<(), ConfigError> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by_key(|issue| issue.order);
        Err(ConfigError(std::mem::take(&mut self.0)))
    }
}

/// Runs all `steps`, and fails if one of them failed.
///
/// # Errors
///
/// The errors of all steps.
pub(super) fn collect_errors<T>(
    steps: impl IntoIterator<Item = Result<T, ConfigError>>,
) -> Result<(), ConfigError> {
    let mut errors = ErrorCollector::default();
    for step in steps {
        errors.collect(step);
    }
    errors.take_result()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(line: usize, key: &str) -> ConfigError {
        ConfigError::key(&ValueSource::File { file: "f".to_owned(), line }, key, "is wrong")
    }

    #[test]
    fn faults_are_sorted_by_line_and_reported_once_per_key() {
        let error =
            collect_errors([Ok(()), Err(issue(3, "c")), Err(issue(1, "a")), Err(issue(3, "c"))]);
        let lines: Vec<_> = error.unwrap_err().lines().collect();
        assert_eq!(lines, ["f:1: a: is wrong", "f:3: c: is wrong"]);
        assert_eq!(collect_errors([Ok(())]), Ok(()));
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let error =
            collect_errors((0..25).map(|line| Err::<(), _>(issue(line, &line.to_string()))));
        let lines: Vec<_> = error.unwrap_err().lines().collect();
        assert_eq!((lines.len(), lines[20].as_str()), (21, "and 5 more"));
    }

    #[test]
    fn untrusted_names_can_not_break_the_line() {
        let error = issue(1, "a\nb\u{1b}[31m\u{202e}").to_string();
        assert_eq!(error, r"f:1: a\nb\u{1b}[31m\u{202e}: is wrong");
    }
}
