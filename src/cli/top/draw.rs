//! Draws the view.

use super::{
    rates::Report,
    view::{View, bytes, milliseconds, rate},
};
use crate::{escape::Escaped, hub::ActivityOrder};
use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState},
};

/// The styles, without colours if the user wants none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    has_colour: bool,
}

impl Theme {
    pub(super) fn new(has_colour: bool) -> Self {
        Self { has_colour }
    }

    fn colour(self, colour: Color) -> Style {
        if self.has_colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn warning(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn heading(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }
}

/// The busy part of a shard from which it is shown as a warning, as in the alert `CampanileShardBusy`.
const BUSY: f64 = 0.9;
/// Width from which slow connections are shown beside the channels.
const WIDE: u16 = 100;
/// Rows of slow connections below the channels, with their border.
const SLOW_ROWS: u16 = 6;

/// Draws all of it; on small terminals the upper left part.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, theme: Theme) {
    let summary = summary(view, theme, frame.area().width);
    let height = u16::try_from(summary.len()).unwrap_or(u16::MAX);
    let parts = [Constraint::Length(height), Constraint::Min(0), Constraint::Length(1)];
    let [top, middle, bottom] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(Paragraph::new(summary), top);
    let is_wide = WIDE <= middle.width;
    let has_slow = !view.slow_connections().is_empty();
    let [channels_area, slow_area] = if is_wide {
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(48)]).spacing(2).areas(middle)
    } else {
        let rows = if has_slow { SLOW_ROWS.min(middle.height / 2) } else { 0 };
        Layout::vertical([Constraint::Min(0), Constraint::Length(rows)]).areas(middle)
    };
    channels(frame, channels_area, view, theme);
    if is_wide || has_slow {
        slow_connections(frame, slow_area, view, theme);
    }
    frame.render_widget(footer(view, theme), bottom);
}

fn summary(view: &View, theme: Theme, width: u16) -> Vec<Line<'_>> {
    let title = format!("campanile top  {}  app {}", Escaped(&view.server), Escaped(&view.app_id));
    let mut lines = vec![Line::styled(title, theme.heading())];
    let Some(report) = view.report() else {
        lines.push(Line::raw("waiting for the first interval"));
        return lines;
    };
    let fields = fields(report, theme);
    // As many fields in a line as fit.
    let (mut line, mut used) = (Line::default(), 0);
    for field in fields {
        let needed: usize = field.iter().map(Span::width).sum::<usize>() + 3;
        if 0 < used && usize::from(width) < used + needed {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        line.extend(field);
        line.push_span("   ");
        used += needed;
    }
    lines.push(line);
    lines
}

/// The numbers of the node, each with its name.
fn fields(report: &Report, theme: Theme) -> Vec<Vec<Span<'static>>> {
    let field = |name: &'static str, value: String| {
        vec![Span::styled(name, theme.colour(Color::DarkGray)), Span::raw(" "), Span::raw(value)]
    };
    let mut fields = vec![
        field("connections", format!("{:.0} of {:.0}", report.connections, report.max_connections)),
        field("subscriptions", format!("{:.0}", report.subscriptions)),
        field("channels", format!("{:.0}", report.channels)),
        field("in", format!("{}/s {}/s", rate(report.received), bytes(report.received_bytes))),
        field("out", format!("{}/s {}/s", rate(report.sent), bytes(report.sent_bytes))),
        field("publishes", format!("{}/s", rate(report.publishes))),
    ];
    if 0.0 < report.failed_publishes {
        let text = format!("failed {}/s", rate(report.failed_publishes));
        fields.push(vec![Span::styled(text, theme.warning())]);
    }
    if let Some((median, late)) = report.latency {
        let [median, late] = [median, late].map(milliseconds);
        fields.push(field("latency", format!("p50 {median} p99 {late}")));
    }
    for (index, shard) in report.shards.iter().enumerate() {
        let style = if BUSY < shard.busy { theme.warning() } else { Style::new() };
        fields.push(vec![
            Span::styled(format!("shard {index} "), theme.colour(Color::DarkGray)),
            Span::styled(format!("{:.0}%", 100.0 * shard.busy), style),
            Span::raw(format!(" {:.0} conn", shard.connections)),
        ]);
    }
    if let Some(cpu) = report.cpu {
        fields.push(field("cpu", format!("{:.0}%", 100.0 * cpu)));
    }
    if let Some(memory) = report.memory_bytes {
        fields.push(field("memory", bytes(memory)));
    }
    match report.nodes {
        Some((nodes, true)) => fields.push(field("nodes", format!("{nodes:.0}"))),
        Some((_, false)) => fields.push(vec![Span::styled("not joined", theme.warning())]),
        None => {}
    }
    fields
}

fn channels(frame: &mut Frame<'_>, area: Rect, view: &View, theme: Theme) {
    let interval_ms = view.report().map_or(1, |report| report.activity.interval_ms);
    let rows = view.channels().iter().map(|channel| {
        let numbers = [
            rate(channel.messages_per_second(interval_ms)),
            rate(channel.events_per_second(interval_ms)),
            channel.subscriptions.to_string(),
        ];
        let name = Cell::new(Escaped(&channel.name).to_string());
        Row::new([name].into_iter().chain(numbers.map(right)))
    });
    let heads = [
        ("msg/s", ActivityOrder::Messages),
        ("events/s", ActivityOrder::Events),
        ("subs", ActivityOrder::Subscriptions),
    ]
    .map(|(name, order)| {
        let mark = if view.order() == order { "▼" } else { "" };
        right(format!("{mark}{name}"))
    });
    let header = Row::new([Cell::new("channel")].into_iter().chain(heads)).style(theme.heading());
    let widths =
        [Constraint::Fill(1), Constraint::Length(9), Constraint::Length(9), Constraint::Length(8)];
    let table = Table::new(rows, widths)
        .header(header)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::new().borders(Borders::TOP).title("busiest channels on this node"));
    let mut state = TableState::new().with_selected(Some(view.selected()));
    frame.render_stateful_widget(table, area, &mut state);
}

fn slow_connections(frame: &mut Frame<'_>, area: Rect, view: &View, theme: Theme) {
    let rows = view.slow_connections().iter().map(|connection| {
        let [id, address] = [&connection.socket_id, &connection.address]
            .map(|text| Cell::new(Escaped(text).to_string()));
        #[expect(clippy::cast_precision_loss, reason = "it is shown with one decimal")]
        let waiting = right(bytes(connection.waiting_bytes as f64));
        Row::new([id, address, waiting])
    });
    let header = Row::new([Cell::new("socket"), Cell::new("address"), right("waiting")]);
    let widths = [Constraint::Length(20), Constraint::Fill(1), Constraint::Length(11)];
    let table = Table::new(rows, widths)
        .header(header.style(theme.heading()))
        .block(Block::new().borders(Borders::TOP).title("slow connections on this node"));
    frame.render_widget(table, area);
}

fn right<'a>(text: impl Into<std::borrow::Cow<'a, str>>) -> Cell<'a> {
    Cell::new(Line::raw(text).alignment(Alignment::Right))
}

fn footer(view: &View, theme: Theme) -> Line<'_> {
    match &view.error {
        Some(error) => Line::styled(Escaped(error).to_string(), theme.warning()),
        None => Line::raw("q quit   s sort   ↑↓ select"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::{rates::tests::report, view::Key};
    use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

    fn view() -> View {
        let mut view = View::new("http://127.0.0.1:8080", "app-id");
        view.update(Ok(report()));
        view
    }

    fn drawn(view: &View, width: u16, height: u16, theme: Theme) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, theme)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn text(view: &View, width: u16, height: u16) -> Vec<String> {
        let buffer = drawn(view, width, height, Theme::new(false));
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn a_usual_terminal_shows_all() {
        let rows = text(&view(), 80, 16);
        let expected = [
            "campanile top  http://127.0.0.1:8080  app app-id",
            "connections 15 of 1000   subscriptions 20   channels 7   in 3.0/s 60 B/s",
            "out 1200/s 234.4 KiB/s   publishes 40.5/s   failed 0.5/s",
            "latency p50 0.5 ms p99 1.0 ms   shard 0 50% 10 conn   shard 1 1% 5 conn",
            "cpu 50%   memory 50.0 MiB   nodes 3",
        ];
        assert_eq!(rows[..5], expected);
        assert!(rows[5].starts_with("busiest channels on this node──"), "{rows:#?}");
        let words = |row: &str| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&rows[6]), ["channel", "▼msg/s", "events/s", "subs"]);
        assert_eq!(words(&rows[7]), ["news", "500", "10.0", "50"]);
        assert_eq!(words(&rows[8]), ["presence-lobby", "150", "50.0", "3"]);
        assert!(rows[10].starts_with("slow connections on this node──"), "{rows:#?}");
        assert_eq!(words(&rows[12]), ["1.22", "192.0.2.7", "1.5", "MiB"]);
        assert_eq!(rows[15], "q quit   s sort   ↑↓ select");
    }

    #[test]
    fn a_wide_terminal_has_two_columns() {
        let rows = text(&view(), 140, 12);
        let title = rows.iter().find(|row| row.starts_with("busiest")).unwrap();
        assert!(title.contains("slow connections"), "{rows:#?}");
    }

    #[test]
    fn small_terminals_show_what_fits() {
        let rows = text(&view(), 30, 12);
        assert!(rows.iter().any(|row| row.starts_with("connections 15 of 1000")), "{rows:#?}");
        for (width, height) in [(1, 1), (2, 40), (40, 2), (8, 8), (0, 0)] {
            text(&view(), width, height);
        }
    }

    #[test]
    fn an_error_replaces_the_help_and_the_order_is_marked() {
        let mut view = view();
        view.on_key(Key::Sort);
        view.update(Err("cannot reach it\u{1b}[2J".to_owned()));
        let rows = text(&view, 80, 16);
        assert_eq!(rows[15], r"cannot reach it\u{1b}[2J");
        assert!(rows[6].contains("▼events/s"), "{rows:#?}");
        let waiting = text(&View::new("s", "a"), 80, 5);
        assert_eq!(waiting[1], "waiting for the first interval");
    }

    #[test]
    fn without_colours_nothing_is_coloured() {
        let has_colour = |theme| {
            drawn(&view(), 80, 16, theme).content().iter().any(|cell| cell.fg != Color::Reset)
        };
        assert!(has_colour(Theme::new(true)));
        assert!(!has_colour(Theme::new(false)));
    }
}
