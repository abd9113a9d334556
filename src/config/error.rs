//! Configuration errors, each with its place.

use super::{key::Key, value_source::ValueSource};
use std::fmt;

/// Errors in a configuration: for each one its place, the key, and the rule that it breaks. There
/// is at least one.
///
/// `Display` writes them on one line, for a log; [`lines`](Self::lines) writes one line for each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError(Vec<Fault>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Fault {
    place: String,
    key: Option<String>,
    rule: String,
    /// Whether the place is an option of a file of soketi, which may set a key of every app.
    is_of_option: bool,
    /// The layer, and the line in the file, by which errors are sorted.
    order: (u8, usize),
}

/// Maximum number of errors that are listed.
const LISTED_MAX: usize = 20;

impl ConfigError {
    /// The error that `key` at `origin` breaks `rule`.
    pub(super) fn key(
        origin: &ValueSource,
        key: impl fmt::Display,
        rule: impl Into<String>,
    ) -> Self {
        let is_of_option = matches!(origin, ValueSource::FileOption { .. });
        let (place, key) = (origin.to_string(), Some(key.to_string()));
        Self(vec![Fault { place, key, rule: rule.into(), is_of_option, order: origin.order() }])
    }

    /// The error that something at `place`, other than a key's value, breaks `rule`.
    pub(super) fn at(place: impl fmt::Display, rule: impl Into<String>) -> Self {
        let (place, rule) = (place.to_string(), rule.into());
        Self(vec![Fault { place, key: None, rule, is_of_option: false, order: (0, 0) }])
    }

    /// The same errors without the keys, where the places are enough.
    pub(super) fn without_keys(self) -> Self {
        Self(self.0.into_iter().map(|fault| Fault { key: None, ..fault }).collect())
    }

    /// One line for each error, without control characters. Beyond twenty, the last line gives the
    /// number of further errors.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let more = self.0.len().saturating_sub(LISTED_MAX);
        let listed = self.0.iter().take(LISTED_MAX).map(|fault| printable(&fault.to_string()));
        listed.chain((more > 0).then(|| format!("and {more} more")))
    }

    /// All errors, each with its place, its key if there is one, and the rule that it breaks.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let error = |Fault { place, key, rule, is_of_option: _, order: _ }: &Fault| serde_json::json!({ "place": place, "key": key, "rule": rule });
        serde_json::json!({ "errors": self.0.iter().map(error).collect::<Vec<_>>() })
    }
}

/// `text` with control characters escaped, since it contains untrusted names.
fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escape).collect()
}

impl Fault {
    /// Whether `other` is about the same value, or about the same option for another app.
    fn is_same(&self, other: &Self) -> bool {
        let pattern = |fault: &Self| fault.key.as_ref().map(|key| Key::new(key.as_str()).pattern());
        self.place == other.place
            && match &self.key {
                Some(_) if self.is_of_option && self.rule == other.rule => {
                    pattern(self) == pattern(other)
                }
                Some(_) => self.key == other.key,
                None => self == other,
            }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.place, self.rule),
            None => write!(f, "{}: {}", self.place, self.rule),
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
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// Keeps the errors of `result`, and returns its value if there is one. Of several errors of
    /// one value the first is kept: the others often follow from it.
    pub(super) fn take<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        let ConfigError(faults) = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        for fault in faults {
            if !self.0.iter().any(|known| fault.is_same(known)) {
                self.0.push(fault);
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
    pub(super) fn result(&mut self) -> Result<(), ConfigError> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by_key(|fault| fault.order);
        Err(ConfigError(std::mem::take(&mut self.0)))
    }
}

/// Runs all `steps`, and fails if one of them failed.
///
/// # Errors
///
/// The errors of all steps.
pub(super) fn all<T>(
    steps: impl IntoIterator<Item = Result<T, ConfigError>>,
) -> Result<(), ConfigError> {
    let mut faults = Faults::default();
    for step in steps {
        faults.take(step);
    }
    faults.result()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: usize, key: &str) -> ConfigError {
        ConfigError::key(&ValueSource::File { file: "f".to_owned(), line }, key, "is wrong")
    }

    #[test]
    fn faults_are_sorted_by_line_and_reported_once_per_key() {
        let error = all([Ok(()), Err(fault(3, "c")), Err(fault(1, "a")), Err(fault(3, "c"))]);
        let lines: Vec<_> = error.unwrap_err().lines().collect();
        assert_eq!(lines, ["f:1: a: is wrong", "f:3: c: is wrong"]);
        assert_eq!(all([Ok(())]), Ok(()));
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let error = all((0..25).map(|line| Err::<(), _>(fault(line, &line.to_string()))));
        let lines: Vec<_> = error.unwrap_err().lines().collect();
        assert_eq!((lines.len(), lines[20].as_str()), (21, "and 5 more"));
    }

    #[test]
    fn untrusted_names_can_not_break_the_line() {
        let error = fault(1, "a\nb\u{1b}[31m").to_string();
        assert_eq!(error, r"f:1: a\nb\u{1b}[31m: is wrong");
    }
}
