//! A figure with its bound, and the table of all of them.

use crate::show::outcome::{number, table};
use serde_json::{Value, json};

/// A bound of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// The maximum.
    Most(f64),
    /// The minimum.
    Least(f64),
}

/// A figure, its bound, and the measured value.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// The name of the figure.
    pub(crate) figure: String,
    /// The bound.
    pub(crate) bound: Bound,
    /// A target that is stricter than the bound.
    pub(crate) aim: Option<f64>,
    /// The unit.
    pub(crate) unit: &'static str,
    /// The measured value, if there is one.
    pub(crate) measured: Option<f64>,
    /// A note.
    pub(crate) note: String,
    /// Whether this machine is able to show the figure.
    pub(crate) applies: bool,
}

impl Judged {
    /// A figure with its measured value, if there is one.
    pub(crate) fn new(
        figure: impl Into<String>,
        bound: Bound,
        unit: &'static str,
        measured: Option<f64>,
    ) -> Self {
        let note = String::new();
        Self { figure: figure.into(), bound, aim: None, unit, measured, note, applies: true }
    }

    /// Adds a target.
    pub(crate) fn aim(self, aim: f64) -> Self {
        Self { aim: Some(aim), ..self }
    }

    /// Adds a note.
    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Sets whether this machine is able to show the figure.
    pub(crate) fn applies(self, applies: bool) -> Self {
        Self { applies, ..self }
    }

    /// Whether the bound is met; `None` if that is unknown.
    pub(crate) fn met(&self) -> Option<bool> {
        let measured = self.measured.filter(|_| self.applies)?;
        Some(self.bound.holds(measured))
    }

    fn verdict(&self) -> &'static str {
        match self.met() {
            Some(false) => "NO",
            Some(true) if self.aim.is_some_and(|aim| self.bound.like(aim).holds_of(self)) => {
                "yes, and the aim"
            }
            Some(true) => "yes",
            None => "not here",
        }
    }

    fn row(&self) -> Vec<String> {
        let with_unit = |value: f64| format!("{} {}", number(value), self.unit).trim().to_owned();
        let bound = match self.bound {
            Bound::Most(most) => format!("≤ {}", with_unit(most)),
            Bound::Least(least) => format!("≥ {}", with_unit(least)),
        };
        vec![
            self.figure.clone(),
            bound,
            self.aim.map_or_else(String::new, with_unit),
            self.measured.map_or_else(|| "unknown".to_owned(), with_unit),
            self.verdict().to_owned(),
            self.note.clone(),
        ]
    }

    fn json(&self) -> Value {
        let (kind, bound) = match self.bound {
            Bound::Most(most) => ("most", most),
            Bound::Least(least) => ("least", least),
        };
        json!({
            "figure": self.figure,
            "unit": self.unit,
            "bound": { kind: bound },
            "aim": self.aim,
            "measured": self.measured,
            "met": self.met(),
            "note": self.note,
        })
    }
}

impl Bound {
    fn holds(self, measured: f64) -> bool {
        match self {
            Self::Most(most) => measured <= most,
            Self::Least(least) => least <= measured,
        }
    }

    /// The bound of the same kind with another value.
    fn like(self, value: f64) -> Self {
        match self {
            Self::Most(_) => Self::Most(value),
            Self::Least(_) => Self::Least(value),
        }
    }

    fn holds_of(self, judged: &Judged) -> bool {
        judged.measured.is_some_and(|measured| self.holds(measured))
    }
}

/// All figures as a table.
pub(crate) fn judged_table(all: &[Judged]) -> String {
    let head = ["figure", "bound", "aim", "measured", "met", "note"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    rows.extend(all.iter().map(Judged::row));
    table(&rows)
}

/// All figures as JSON.
pub(crate) fn judged_json(all: &[Judged]) -> Value {
    Value::Array(all.iter().map(Judged::json).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_by_its_bound() {
        let judged = |measured| Judged::new("x", Bound::Most(20.0), "µs", measured).aim(15.0);
        assert_eq!(judged(Some(20.0)).verdict(), "yes");
        assert_eq!(judged(Some(15.0)).verdict(), "yes, and the aim");
        assert_eq!(judged(Some(20.1)).verdict(), "NO");
        assert_eq!(judged(None).verdict(), "not here");
        assert_eq!(judged(Some(1.0)).applies(false).met(), None);
        let least = Judged::new("x", Bound::Least(4.0), "", Some(3.9));
        assert_eq!(least.met(), Some(false));
    }
}
