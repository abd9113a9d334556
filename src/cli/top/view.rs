//! The state of the live view: the latest report, its order, and what is scrolled away. It knows no
//! terminal.

use super::rates::{Channel, Report, SlowConnection};
use crate::hub::ActivityOrder;
use std::cmp::Reverse;

/// What is shown.
#[derive(Debug)]
pub(super) struct View {
    /// The server and the app, for the title.
    pub(super) server: String,
    pub(super) app_id: String,
    report: Option<Report>,
    /// Why the latest report is old, if it is.
    pub(super) error: Option<String>,
    order: ActivityOrder,
    /// The selected channel.
    selected: usize,
}

/// A key, as far as the view is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Key {
    Quit,
    Sort,
    Up,
    Down,
    PageUp,
    PageDown,
}

/// How far a page scrolls.
const PAGE: usize = 10;

impl View {
    pub(super) fn new(server: &str, app_id: &str) -> Self {
        Self {
            server: server.to_owned(),
            app_id: app_id.to_owned(),
            report: None,
            error: None,
            order: ActivityOrder::default(),
            selected: 0,
        }
    }

    /// The result of an interval. After a failure, the last report stays.
    pub(super) fn update(&mut self, result: Result<Report, String>) {
        match result {
            Ok(report) => {
                self.report = Some(report);
                self.error = None;
                self.sort();
            }
            Err(error) => self.error = Some(error),
        }
    }

    /// Handles a key. True if the view ends.
    pub(super) fn on_key(&mut self, key: Key) -> bool {
        match key {
            Key::Quit => return true,
            Key::Sort => {
                self.order = match self.order {
                    ActivityOrder::Messages => ActivityOrder::Events,
                    ActivityOrder::Events => ActivityOrder::Subscriptions,
                    ActivityOrder::Subscriptions => ActivityOrder::Messages,
                };
                self.selected = 0;
                self.sort();
            }
            Key::Up => self.select(self.selected.saturating_sub(1)),
            Key::Down => self.select(self.selected + 1),
            Key::PageUp => self.select(self.selected.saturating_sub(PAGE)),
            Key::PageDown => self.select(self.selected + PAGE),
        }
        false
    }

    fn select(&mut self, row: usize) {
        self.selected = row.min(self.channels().len().saturating_sub(1));
    }

    fn sort(&mut self) {
        let order = self.order;
        if let Some(report) = &mut self.report {
            report
                .activity
                .channels
                .sort_by_key(|channel| Reverse(order.rank(channel.events, channel.subscriptions)));
        }
        self.select(self.selected);
    }

    pub(super) fn order(&self) -> ActivityOrder {
        self.order
    }

    pub(super) fn selected(&self) -> usize {
        self.selected
    }

    pub(super) fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// The channels in the current order.
    pub(super) fn channels(&self) -> &[Channel] {
        self.report.as_ref().map_or(&[], |report| &report.activity.channels)
    }

    /// The slow connections, the slowest first.
    pub(super) fn slow_connections(&self) -> &[SlowConnection] {
        self.report.as_ref().map_or(&[], |report| &report.activity.slow_connections)
    }
}

/// A number of bytes with a unit.
pub(super) fn bytes(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes, 0);
    while 1_024.0 <= value && unit + 1 < units.len() {
        value /= 1_024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// A rate: one decimal below a hundred, none above.
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 99.95 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

/// Seconds as milliseconds.
pub(super) fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", 1_000.0 * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::rates::tests::report;

    fn names(view: &View) -> Vec<&str> {
        view.channels().iter().map(|channel| channel.name.as_str()).collect()
    }

    #[test]
    fn keys_sort_and_select() {
        let mut view = View::new("http://127.0.0.1:1", "1");
        assert!(!view.on_key(Key::Down) && view.selected() == 0, "without a report");
        view.update(Ok(report()));
        assert_eq!(names(&view), ["news", "presence-lobby"]);
        view.on_key(Key::Down);
        view.on_key(Key::PageDown);
        assert_eq!(view.selected(), 1, "not beyond the last");
        view.on_key(Key::Sort);
        assert_eq!((view.order(), view.selected()), (ActivityOrder::Events, 0));
        assert_eq!(names(&view), ["presence-lobby", "news"]);
        view.update(Ok(report()));
        assert_eq!(names(&view), ["presence-lobby", "news"], "the order stays");
        view.on_key(Key::Sort);
        assert_eq!((view.order(), names(&view)[0]), (ActivityOrder::Subscriptions, "news"));
        view.on_key(Key::Sort);
        assert_eq!(view.order(), ActivityOrder::Messages);
        view.on_key(Key::PageUp);
        assert_eq!(view.selected(), 0);
        assert!(view.on_key(Key::Quit));
    }

    #[test]
    fn a_failure_keeps_the_last_report() {
        let mut view = View::new("http://127.0.0.1:1", "1");
        view.update(Ok(report()));
        view.update(Err("refused".to_owned()));
        assert_eq!((view.channels().len(), view.error.as_deref()), (2, Some("refused")));
        view.update(Ok(report()));
        assert_eq!(view.error, None);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [bytes(0.0), bytes(1_023.0), bytes(1_024.0), bytes(1_572_864.0)],
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]
        );
        assert_eq!(
            [rate(0.04), rate(99.94), rate(99.96), rate(12_345.6)],
            ["0.0", "99.9", "100", "12346"]
        );
        assert_eq!(milliseconds(0.0123), "12.3 ms");
    }
}
