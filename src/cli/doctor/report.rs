//! The report: one line for each link, and a block for each finding.

use super::{
    finding::{Change, Finding, Link, Severity, Way},
    mask::Mask,
};
use crate::escape::Escaped;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Columns for the name of a link.
const NAME: usize = 13;

/// How a link turned out.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing is wrong. What was seen, in a few words.
    Well(String),
    /// Something is wrong.
    Found(Vec<Finding>),
    /// The link was not checked, because of this.
    Skipped(String),
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) mask: Mask,
    rows: Vec<Row>,
    findings: Vec<Finding>,
}

#[derive(Debug)]
struct Row {
    link: Link,
    state: RowState,
    text: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RowState {
    Well,
    Found(Severity),
    Skipped,
}

impl RowState {
    fn name(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Found(severity) => severity.name(),
            Self::Skipped => "skipped",
        }
    }
}

/// How to print a report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Columns of the terminal.
    pub(super) width: usize,
    pub(super) has_colors: bool,
}

impl Outcome {
    /// The outcome with other findings.
    pub(super) fn map(self, change: impl Fn(Finding) -> Finding) -> Self {
        match self {
            Self::Found(findings) => Self::Found(findings.into_iter().map(change).collect()),
            other @ (Self::Well(_) | Self::Skipped(_)) => other,
        }
    }

    /// The findings, or that all is well.
    pub(super) fn of(findings: Vec<Finding>, seen: impl Into<String>) -> Self {
        if findings.is_empty() { Self::Well(seen.into()) } else { Self::Found(findings) }
    }
}

impl From<Finding> for Outcome {
    fn from(finding: Finding) -> Self {
        Self::Found(vec![finding])
    }
}

impl Report {
    /// Records how a link turned out.
    pub(super) fn add(&mut self, link: Link, outcome: Outcome) {
        let (state, text) = match outcome {
            Outcome::Well(text) => (RowState::Well, text),
            Outcome::Skipped(why) => (RowState::Skipped, why),
            Outcome::Found(findings) => {
                let worst = findings.iter().map(|finding| finding.cause.severity).max();
                let ids: Vec<_> = findings.iter().map(|finding| finding.cause.id).collect();
                let text = ids.join(", ");
                self.findings.extend(findings);
                (worst.map_or(RowState::Well, RowState::Found), text)
            }
        };
        self.rows.push(Row { link, state, text });
    }

    /// The finding because of which `way` cannot be checked.
    pub(super) fn stopped(&self, way: Way) -> Option<&'static str> {
        let stops = |finding: &&Finding| finding.cause.stops.is_some_and(|first| first <= way);
        self.findings.iter().find(stops).map(|finding| finding.cause.id)
    }

    /// Whether a cause with this name was found.
    pub(super) fn has(&self, id: &str) -> bool {
        self.findings.iter().any(|finding| finding.cause.id == id)
    }

    /// Whether a link was checked, and nothing is wrong with it.
    pub(super) fn is_well(&self, link: Link) -> bool {
        self.rows.iter().any(|row| row.link == link && row.state == RowState::Well)
    }

    /// Whether a link was not checked.
    pub(super) fn is_skipped(&self, link: Link) -> bool {
        self.rows.iter().any(|row| row.link == link && row.state == RowState::Skipped)
    }

    /// The worst finding.
    pub(super) fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.cause.severity).max()
    }

    /// The report for programs.
    pub(super) fn to_json(&self) -> Value {
        let mask = |text: &str| self.mask.apply(text);
        let rows = self.rows.iter().map(|row| {
            json!({"link": row.link.name(), "state": row.state.name(), "text": mask(&row.text)})
        });
        let findings = self.findings.iter().map(|finding| finding.to_json(mask));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "result": self.worst().map_or("ok", Severity::name),
            "links": rows.collect::<Vec<_>>(),
            "findings": findings.collect::<Vec<_>>(),
        })
    }

    /// The report for people. `heading` says what was looked at.
    pub(super) fn to_text(&self, heading: &str, style: Style) -> String {
        let mut text = format!("{}\n\n", self.shown(heading.trim_end()));
        for (state, names, words) in self.joined_rows() {
            let label = style.colored(state, &format!("{:<8}", state.name()));
            let names = if names.is_empty() { names } else { format!("{names:<NAME$}  ") };
            let indent = " ".repeat(10 + names.len());
            let width = style.width.saturating_sub(indent.len());
            let words = wrap(&self.shown(&words), width, &indent);
            // A write to a String does not fail.
            let _ = writeln!(text, "{label}  {names}{words}");
        }
        let mut findings: Vec<_> = self.findings.iter().collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.cause.severity));
        for finding in findings {
            self.write_finding(finding, style, &mut text);
        }
        let count = |severity| {
            self.findings.iter().filter(|finding| finding.cause.severity == severity).count()
        };
        let summary = match (count(Severity::Broken), count(Severity::Doubtful)) {
            (0, 0) => "Nothing is wrong with what was checked.".to_owned(),
            (broken, doubtful) => format!("{broken} broken, {doubtful} doubtful."),
        };
        let _ = write!(text, "\n{summary}");
        text
    }

    /// The rows as they are shown: those that were skipped for one reason are one.
    fn joined_rows(&self) -> Vec<(RowState, String, String)> {
        let mut joined: Vec<(RowState, Vec<&str>, &str)> = Vec::new();
        for Row { link, state, text } in &self.rows {
            let same = joined.iter_mut().find(|(of, _, why)| {
                *state == RowState::Skipped && of == state && *why == text.as_str()
            });
            match same {
                Some((_, names, _)) => names.push(link.name()),
                None => joined.push((*state, vec![link.name()], text)),
            }
        }
        let shown = |(state, names, text): (RowState, Vec<&str>, &str)| match names.as_slice() {
            [name] => (state, (*name).to_owned(), text.to_owned()),
            // The names of several links come before the text, and not in their column.
            [first, second, others @ ..] if 2 < others.len() => {
                let text = format!("{first}, {second} and {} others: {text}", others.len());
                (state, String::new(), text)
            }
            names => (state, String::new(), format!("{}: {text}", names.join(", "))),
        };
        joined.into_iter().map(shown).collect()
    }

    fn write_finding(&self, finding: &Finding, style: Style, text: &mut String) {
        let cause = finding.cause;
        let severity = style.colored(RowState::Found(cause.severity), cause.severity.name());
        let title = wrap(&format!("{}: {}", cause.id, cause.title), style.width - 10, "  ");
        let _ = writeln!(text, "\n{severity}: {title}");
        let mut line = |label: &str, words: &str| {
            let indent = " ".repeat(10);
            let width = style.width.saturating_sub(indent.len());
            let _ = writeln!(text, "  {label:<8}{}", wrap(words, width, &indent));
        };
        line("seen", &self.shown(&finding.seen));
        line("why", cause.why);
        for change in finding.steps() {
            match change {
                Change::Line { place, text } => {
                    line("change", &format!("{}:  {}", self.shown(&place), self.shown(&text)));
                }
                Change::Command(command) => line("run", &self.shown(&command)),
                Change::Advice(advice) => line("do", &self.shown(&advice)),
            }
        }
        if let Some(snippet) = &finding.snippet {
            let _ = writeln!(text, "  {}", snippet.of);
            for line in snippet.text.lines() {
                let _ = writeln!(text, "    {}", self.shown(line));
            }
        }
    }

    /// Text without secrets, of which a terminal interprets nothing.
    fn shown(&self, text: &str) -> String {
        Escaped(&self.mask.apply(text)).to_string()
    }
}

impl Style {
    fn colored(self, state: RowState, text: &str) -> String {
        let color = match state {
            RowState::Well => 32,
            RowState::Found(Severity::Broken) => 31,
            RowState::Found(Severity::Doubtful) => 33,
            RowState::Skipped => 2,
        };
        if self.has_colors { format!("\u{1b}[{color}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Breaks text into lines of at most `width` characters, as far as its words are short enough. All
/// but the first begin with `indent`. White space within text that fits is kept.
fn wrap(text: &str, width: usize, indent: &str) -> String {
    let (mut wrapped, mut column) = (String::new(), 0);
    for word in text.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if 0 < column && width < column + length {
            wrapped.truncate(wrapped.trim_end().len());
            wrapped.push('\n');
            wrapped.push_str(indent);
            column = 0;
        }
        wrapped.push_str(word);
        column += word.chars().count();
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::{
        super::causes::{local, way},
        *,
    };

    const STYLE: Style = Style { width: 60, has_colors: false };

    fn skipped(why: &str) -> Outcome {
        Outcome::Skipped(why.to_owned())
    }

    #[test]
    fn a_report_groups_what_was_skipped_and_begins_with_the_worst() {
        let mut report = Report::default();
        report.mask.add("hunter2");
        report.add(Link::Configuration, Outcome::Well("read from .env".to_owned()));
        report.add(Link::Redis, skipped("no Redis"));
        let doubtful = way::CERTIFICATE_EXPIRES_SOON.found("late");
        report.add(Link::Direct, doubtful.into());
        let broken = local::SERVER_NOT_RUNNING.found("with hunter2 \u{1b}[2J");
        report.add(Link::Server, broken.line(".env:3", "A=1").command("campanile start").into());
        for link in [Link::Host, Link::Dns, Link::Tcp, Link::Tls, Link::Proxy] {
            report.add(link, skipped("not tried"));
        }
        let text = report.to_text("doctor  ", STYLE);
        let (rows, findings) = text.split_once("\n\nbroken: ").unwrap();
        let rows: Vec<_> = rows.lines().collect();
        assert_eq!(rows[0], "doctor");
        assert_eq!(rows[2], "ok        configuration  read from .env");
        assert_eq!(rows[3], "skipped   redis          no Redis");
        assert_eq!(rows.last(), Some(&"skipped   host, dns and 3 others: not tried"));
        assert!(findings.starts_with("server_not_running: "), "{text}");
        for line in
            ["  seen    with *** \\u{1b}[2J", "  change  .env:3:  A=1", "  run     campanile start"]
        {
            assert!(findings.contains(&format!("{line}\n")), "{line} {text}");
        }
        assert!(text.ends_with("\n1 broken, 1 doubtful."), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert_eq!(report.worst(), Some(Severity::Broken));
        assert_eq!(report.to_json()["findings"][1]["seen"], "with *** \u{1b}[2J");
    }

    #[test]
    fn a_cause_stops_its_way_and_the_later_ones() {
        let mut report = Report::default();
        report.add(Link::Server, local::HOST_IS_BIND_ADDRESS.found("").into());
        let ways = [Way::Files, Way::Direct, Way::Public];
        assert_eq!(ways.map(|way| report.stopped(way).is_some()), [false, false, true]);
        report.add(Link::Server, local::SERVER_NOT_RUNNING.found("").into());
        assert_eq!(ways.map(|way| report.stopped(way).is_some()), [false, true, true]);
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrap("a bc def", 4, "  "), "a bc\n  def");
        assert_eq!(wrap("abcdefgh ij", 4, ""), "abcdefgh\nij");
        assert_eq!(wrap("A=1  B", 10, ""), "A=1  B");
        assert_eq!(wrap("", 4, ""), "");
    }
}
