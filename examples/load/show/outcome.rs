//! The result of a scenario, and its presentation as a table or as JSON.

use serde_json::{Map, Value, json};
use std::fmt::Write;

/// A measured figure.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// The name, with the unit last: the key in JSON and the heading of the column.
    pub(crate) name: &'static str,
    /// The value.
    pub(crate) value: f64,
}

/// A measurement.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The name of the scenario.
    pub(crate) scenario: &'static str,
    /// The description of the load.
    pub(crate) load: String,
    /// The measured figures.
    pub(crate) figures: Vec<Figure>,
    /// The faults that occurred.
    pub(crate) faults: Vec<String>,
}

impl Outcome {
    /// An outcome without figures.
    pub(crate) fn new(scenario: &'static str, load: String) -> Self {
        Self { scenario, load, figures: Vec::new(), faults: Vec::new() }
    }

    /// Adds a figure.
    pub(crate) fn set(&mut self, name: &'static str, value: f64) {
        self.figures.push(Figure { name, value });
    }

    /// Adds a figure if it is known.
    pub(crate) fn set_known(&mut self, name: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// The figure of this name, if it was measured.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// Records a fault.
    pub(crate) fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    fn json(&self) -> Value {
        let figures: Map<String, Value> =
            self.figures.iter().map(|one| (one.name.to_owned(), json!(one.value))).collect();
        json!({
            "scenario": self.scenario,
            "load": self.load,
            "figures": figures,
            "faults": self.faults,
        })
    }
}

/// All outcomes as JSON.
pub(crate) fn json(outcomes: &[Outcome]) -> Value {
    Value::Array(outcomes.iter().map(Outcome::json).collect())
}

/// All outcomes as tables, one for each series of outcomes with the same figures.
pub(crate) fn tables(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let names = |one: &Outcome| -> Vec<&'static str> {
        one.figures.iter().map(|figure| figure.name).collect()
    };
    let same = |a: &Outcome, b: &Outcome| a.scenario == b.scenario && names(a) == names(b);
    for group in outcomes.chunk_by(same) {
        let Some(first) = group.first() else { continue };
        let mut rows = vec![vec![first.scenario.to_owned()]];
        rows[0].extend(group.iter().map(|one| one.load.clone()));
        for name in names(first) {
            let mut row = vec![name.replace('_', " ")];
            row.extend(group.iter().map(|one| number(one.value(name).unwrap_or_default())));
            rows.push(row);
        }
        // One measurement is shown in rows, several are shown in columns.
        if 1 < group.len() {
            rows = transpose(&rows);
        }
        text.push_str(&table(&rows));
        for one in group {
            for fault in &one.faults {
                // Writing to a String does not fail.
                let _ = writeln!(text, "! {}: {fault}", one.load);
            }
        }
        text.push('\n');
    }
    text
}

fn transpose(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let width = rows.first().map_or(0, Vec::len);
    (0..width).map(|at| rows.iter().map(|row| row[at].clone()).collect()).collect()
}

/// Rows as a Markdown table with aligned columns. The first row is the head.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        rows.iter()
            .filter_map(|row| row.get(at))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(|at| width(at).max(3)).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text.push('|');
        for (at, width) in widths.iter().enumerate() {
            let cell = row.get(at).map_or("", String::as_str);
            // Writing to a String does not fail.
            let _ = if at == 0 {
                write!(text, " {cell:<width$} |")
            } else {
                write!(text, " {cell:>width$} |")
            };
        }
        text.push('\n');
        if number == 0 {
            text.push('|');
            for (at, width) in widths.iter().enumerate() {
                text.push_str(&"-".repeat(width + 1));
                text.push_str(if at == 0 { "-|" } else { ":|" });
            }
            text.push('\n');
        }
    }
    text
}

/// A figure with its significant digits.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if 1e6 <= size {
        format!("{:.2} M", value / 1e6)
    } else if 1_000.0 <= size || value.fract() == 0.0 {
        grouped(value)
    } else if 100.0 <= size {
        format!("{value:.0}")
    } else if 10.0 <= size {
        format!("{value:.1}")
    } else if 0.1 <= size {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_what_means_something() {
        let rows = [
            (0.0, "0"),
            (7.0, "7"),
            (0.012_3, "0.012"),
            (2.471, "2.47"),
            (24.71, "24.7"),
            (247.1, "247"),
            (12_345.6, "12,346"),
            (3_800_000.0, "3.80 M"),
        ];
        for (value, text) in rows {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn outcomes_of_one_kind_share_a_table() {
        let mut one = Outcome::new("fanout", "a".to_owned());
        one.set("p99_ms", 1.5);
        let mut other = one.clone();
        other.load = "b".to_owned();
        other.fault("lost one");
        let text = tables(&[one, other]);
        assert_eq!(text.matches("p99 ms").count(), 1, "{text}");
        assert!(text.contains("! b: lost one"), "{text}");
    }
}
