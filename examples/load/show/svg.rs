//! Line plots as SVG: both axes are logarithmic, and lines are labelled at their ends.

use crate::{number::whole, show::outcome::number};
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 84.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 52.0;
/// The colours of the lines, which are distinguishable with red-green colour blindness.
const COLORS: [&str; 4] = ["#0072b2", "#e69f00", "#cc3311", "#009e73"];

/// A plot of several lines with common axes.
#[derive(Debug)]
pub(crate) struct Plot {
    /// The title.
    pub(crate) title: String,
    /// The label of the horizontal axis.
    pub(crate) across: String,
    /// The label of the vertical axis.
    pub(crate) upwards: String,
    /// The lines.
    pub(crate) lines: Vec<Line>,
}

/// One line of a plot.
#[derive(Debug)]
pub(crate) struct Line {
    /// The label at its end.
    pub(crate) name: String,
    /// The points; only positive ones are shown.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A logarithmic axis, from one coordinate to another.
#[derive(Clone, Copy, Debug)]
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis that contains all `values`, from the power of ten below to a little above.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| 0.0 < *value) {
            (low, high) = (low.min(value), high.max(value));
        }
        if high == 0.0 {
            (low, high) = (1.0, 10.0);
        }
        let low = low.log10().floor();
        let high = (high.log10() * 1.000_1).max(low + 1.0) + 0.05;
        Self { low, high, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    /// One, two and five times each power of ten on the axis.
    fn ticks(&self) -> Vec<f64> {
        let few = self.high - self.low < 3.1;
        let steps: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        let mut power = self.low;
        while power <= self.high {
            ticks.extend(steps.iter().map(|step| step * 10.0_f64.powf(power)));
            power += 1.0;
        }
        ticks.retain(|tick| tick.log10() <= self.high + 1e-9);
        ticks
    }
}

impl Plot {
    /// The complete file.
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let across = Axis::over(points().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let upwards = Axis::over(points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#333\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
        );
        let title = escape(&self.title);
        let _ = writeln!(
            text,
            "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"600\">{title}</text>"
        );
        grid(&mut text, &across, &upwards);
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        let below = HEIGHT - 12.0;
        let _ = writeln!(
            text,
            "<text x=\"{middle:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
            escape(&self.across)
        );
        let _ = writeln!(
            text,
            "<text x=\"8\" y=\"{:.1}\">{}</text>",
            TOP - 10.0,
            escape(&self.upwards)
        );
        let mut taken: Vec<f64> = Vec::new();
        // Sorted from the highest end to the lowest, in the order of the labels.
        let mut lines: Vec<(&Line, &str)> =
            self.lines.iter().zip(COLORS.iter().copied().cycle()).collect();
        lines.sort_by(|one, other| other.0.end().total_cmp(&one.0.end()));
        for (line, color) in lines {
            line.push(&mut text, color, &across, &upwards, &mut taken);
        }
        text.push_str("</svg>\n");
        text
    }
}

impl Line {
    /// The height of the end.
    fn end(&self) -> f64 {
        self.points.last().map_or(0.0, |point| point.1)
    }

    fn push(
        &self,
        text: &mut String,
        color: &str,
        across: &Axis,
        upwards: &Axis,
        taken: &mut Vec<f64>,
    ) {
        let shown = self.points.iter().filter(|(x, y)| 0.0 < *x && 0.0 < *y);
        let places: Vec<(f64, f64)> =
            shown.map(|(x, y)| (across.place(*x), upwards.place(*y))).collect();
        let Some((last_x, last_y)) = places.last().copied() else { return };
        let list: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            list.join(" ")
        );
        for (x, y) in &places {
            let _ =
                writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>");
        }
        // Labels of lines that end at the same height would overlap.
        let mut name_y = last_y + 4.0;
        while taken.iter().any(|other| (other - name_y).abs() < 13.0) && name_y < HEIGHT {
            name_y += 2.0;
        }
        taken.push(name_y);
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{name_y:.1}\" fill=\"{color}\">{}</text>",
            last_x + 8.0,
            escape(&self.name)
        );
    }
}

/// The grid lines and their labels.
fn grid(text: &mut String, across: &Axis, upwards: &Axis) {
    let bottom = HEIGHT - BOTTOM;
    for tick in across.ticks() {
        let x = across.place(tick);
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            short(tick)
        );
    }
    let right = WIDTH - RIGHT;
    for tick in upwards.ticks() {
        let y = upwards.place(tick);
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            short(tick)
        );
    }
}

/// A round number in a short form.
fn short(value: f64) -> String {
    if 1e6 <= value {
        format!("{} M", whole(value / 1e6))
    } else if 1e3 <= value {
        format!("{} k", whole(value / 1e3))
    } else if 1.0 <= value {
        format!("{}", whole(value))
    } else {
        number(value).trim_end_matches('0').to_owned()
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_is_further_right_and_higher() {
        let across = Axis::over([10.0, 1_000.0].into_iter(), 0.0, 100.0);
        assert!(across.place(10.0) < across.place(1_000.0));
        assert!(0.0 <= across.place(10.0) && across.place(1_000.0) <= 100.0);
        let upwards = Axis::over([0.5, 2.0].into_iter(), 100.0, 0.0);
        assert!(upwards.place(2.0) < upwards.place(0.5));
    }

    #[test]
    fn what_cannot_be_shown_is_left_out() {
        let line = Line { name: "a<b".to_owned(), points: vec![(0.0, 1.0), (10.0, 2.0)] };
        let empty = Line { name: "none".to_owned(), points: Vec::new() };
        let text = String::new();
        let plot = Plot {
            title: text.clone(),
            across: text.clone(),
            upwards: text,
            lines: vec![line, empty],
        };
        let svg = plot.svg();
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("a&lt;b") && !svg.contains("NaN"), "{svg}");
    }
}
