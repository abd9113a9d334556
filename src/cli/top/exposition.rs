//! Reads the metrics page of a server.

use std::collections::BTreeMap;

/// The samples of a page, in its order.
#[derive(Debug, Default)]
pub(super) struct Page(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Page {
    /// Parses the text format of Prometheus. Lines in another form are skipped.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// Whether the page is that of a Campanile.
    pub(super) fn is_of_campanile(&self) -> bool {
        self.value("campanile_build_info").is_some()
    }

    /// The first sample of a metric.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.of(name).next().map(|sample| sample.value)
    }

    /// The sum of all samples of a metric; 0 without any.
    pub(super) fn sum(&self, name: &str) -> f64 {
        // Not `sum`, which is -0.0 for nothing.
        self.of(name).fold(0.0, |sum, sample| sum + sample.value)
    }

    /// The sum of the samples of a metric by the values of a label.
    pub(super) fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.of(name) {
            let value = sample.labels.get(label).cloned().unwrap_or_default();
            *sums.entry(value).or_default() += sample.value;
        }
        sums
    }

    /// The value of a label of a metric's first sample.
    pub(super) fn label(&self, name: &str, label: &str) -> Option<&str> {
        self.of(name).next()?.labels.get(label).map(String::as_str)
    }

    /// The cumulative buckets of a histogram, each with its upper bound, in ascending order.
    pub(super) fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let name = format!("{name}_bucket");
        let bucket = |sample: &Sample| Some((sample.labels.get("le")?.parse().ok()?, sample.value));
        self.of(&name).filter_map(bucket).collect()
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }
}

/// Parses `name{label="value",…} value`.
fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The value before the closing quote without escapes, and what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, found)) = chars.next() {
        match found {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            found => value.push(found),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let page = Page::parse(
            "# HELP a A.\n# TYPE a gauge\n\
             a{app=\"1\",reason=\"x, \\\"y\\\"} \\n\"} 2\na{app=\"2\"} 3.5\n\
             campanile_build_info{version=\"0.1.0\"} 1\n\
             h_bucket{le=\"0.1\"} 4\nh_bucket{le=\"+Inf\"} 5\nnonsense\nb{ 1\n\nc 7 1700000000\n",
        );
        assert_eq!((page.sum("a"), page.value("a")), (5.5, Some(2.0)));
        assert_eq!(page.label("a", "reason"), Some("x, \"y\"} \n"));
        assert_eq!(page.by_label("a", "app"), [("1".into(), 2.0), ("2".into(), 3.5)].into());
        assert_eq!(page.buckets("h"), [(0.1, 4.0), (f64::INFINITY, 5.0)]);
        assert_eq!((page.value("c"), page.value("b")), (Some(7.0), None));
        assert!(page.is_of_campanile());
    }
}
