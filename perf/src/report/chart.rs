//! Drawings: lines over two axes, as SVG.

use std::fmt::Write;

/// Of every drawing.
pub const WIDTH: f64 = 780.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 48.0;
/// Colours that colour-blind people tell apart (Okabe and Ito, 2008).
pub const COLORS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c00", "#555555"];

/// The colour of a line or piece by its number.
pub fn color(number: usize) -> &'static str {
    COLORS[number % COLORS.len()]
}

/// How values lie along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By their logarithm.
    Log,
    /// Nines of a quantile: 0, 1, 2 are 0 %, 90 %, 99 %.
    Nines,
}

/// One line.
pub struct Line {
    /// What it is.
    pub name: String,
    /// Its points: of a `Nines` axis, `x` is how many nines.
    pub points: Vec<(f64, f64)>,
    /// Beside its points; empty: they have none.
    pub labels: Vec<String>,
}

impl Line {
    /// Without labels.
    pub fn new(name: String, points: Vec<(f64, f64)>) -> Line {
        Line { name, points, labels: Vec::new() }
    }
}

/// What is drawn of a line's points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// A line through them.
    Lines,
    /// The points too.
    MarkedLines,
    /// The points alone.
    Points,
}

/// A drawing.
pub struct Chart<'a> {
    /// What is along `x`.
    pub x: (&'a str, Scale),
    /// And along `y`.
    pub y: (&'a str, Scale),
    /// What is drawn.
    pub lines: Vec<Line>,
    /// And how.
    pub style: Style,
}

/// Text that stands for itself in HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number with few digits and a suffix.
pub fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        size if scaled == scaled.trunc() || size >= 100.0 => 0,
        0.01.. => 2,
        _ => 6,
    };
    let text = format!("{scaled:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    format!("{text}{suffix}")
}

/// Where a point is drawn, and its label.
type Place<'a> = (f64, f64, &'a str);

/// An axis of a drawing.
pub struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
}

impl Axis {
    /// One that has room for all of these values.
    pub fn over(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Axis {
        let most = values.clone().fold(f64::MIN, f64::max);
        let least = values.fold(f64::MAX, f64::min);
        let (from, to) = match scale {
            Scale::Linear => (0.0, most * 1.05),
            Scale::Log => (10f64.powf(least.log10().floor()), 10f64.powf(most.log10().ceil())),
            Scale::Nines => (0.0, most.ceil().max(2.0)),
        };
        let to = if to > from { to } else { from + 1.0 };
        Axis { scale, from, to }
    }

    /// Where a value is, from 0 to 1.
    pub fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Log => (value.log10() - self.from.log10()) / (self.to.log10() - self.from.log10()),
            _ => (value - self.from) / (self.to - self.from),
        }
    }

    /// Values that are named, with their names.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Nines => (0..=self.to as i32).map(|nines| (f64::from(nines), percent(nines))).collect(),
            Scale::Log => {
                let powers = self.from.log10().round() as i32..=self.to.log10().round() as i32;
                powers.map(|power| (10f64.powi(power), short(10f64.powi(power)))).collect()
            }
            Scale::Linear => {
                let rough = (self.to / 5.0).max(f64::MIN_POSITIVE);
                let unit = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * unit).into_iter().find(|step| *step >= rough);
                let step = step.unwrap_or(rough);
                let count = (self.to / step) as i32;
                (0..=count).map(|n| (f64::from(n) * step, short(f64::from(n) * step))).collect()
            }
        }
    }
}

fn percent(nines: i32) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more as usize - 2)),
    }
}

impl Chart<'_> {
    /// The drawing, or nothing if there is nothing to draw.
    pub fn svg(&self) -> String {
        let drawable = |&(x, y): &(f64, f64)| {
            let fits = |value: f64, scale| value.is_finite() && (scale != Scale::Log || value > 0.0);
            fits(x, self.x.1) && fits(y, self.y.1)
        };
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|point| drawable(point));
        if points().next().is_none() {
            return String::new();
        }
        let x = Axis::over(self.x.1, points().map(|point| point.0));
        let y = Axis::over(self.y.1, points().map(|point| point.1));
        let at_x = |value| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
        let at_y = |value| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n"
        );
        let label = format!("{} by {}", self.y.0, self.x.0);
        // Writing to a string does not fail.
        let _ = writeln!(out, "<title>{}</title>", escape(&label));
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (value, text) in x.ticks() {
            let at = at_x(value);
            let _ = writeln!(out, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>");
            let below = bottom + 16.0;
            let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{text}</text>");
        }
        for (value, text) in y.ticks() {
            let at = at_y(value);
            let _ = writeln!(out, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>");
            let (beside, lower) = (LEFT - 6.0, at + 4.0);
            let _ = writeln!(out, "<text x=\"{beside}\" y=\"{lower:.1}\" text-anchor=\"end\">{text}</text>");
        }
        let (middle, low) = ((LEFT + right) / 2.0, HEIGHT - 10.0);
        let _ = writeln!(
            out,
            "<text x=\"{middle}\" y=\"{low}\" text-anchor=\"middle\">{}</text>",
            escape(self.x.0)
        );
        let high = (TOP + bottom) / 2.0;
        let _ = writeln!(
            out,
            "<text transform=\"translate(14 {high}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(self.y.0)
        );
        let mut labelled = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            let labels = line.labels.iter().map(String::as_str).chain(std::iter::repeat(""));
            let places: Vec<Place<'_>> = line
                .points
                .iter()
                .zip(labels)
                .filter(|(point, _)| drawable(point))
                .map(|(&(x, y), label)| (at_x(x), at_y(y), label))
                .collect();
            self.line(&mut out, number, &line.name, &places);
            labelled.extend(places);
        }
        labels(&mut out, &labelled);
        out.push_str("</svg>\n");
        out
    }

    fn line(&self, out: &mut String, number: usize, name: &str, places: &[Place<'_>]) {
        let color = color(number);
        let dash = ["", "6 3", "2 3"][number / COLORS.len() % 3];
        let path: Vec<String> = places.iter().map(|(x, y, _)| format!("{x:.1} {y:.1}")).collect();
        let style = format!("stroke=\"{color}\" stroke-dasharray=\"{dash}\"");
        if !path.is_empty() && self.style != Style::Points {
            let _ = writeln!(out, "<path class=\"line\" {style} d=\"M{}\"/>", path.join("L"));
        }
        for (x, y, label) in places.iter().filter(|_| self.style != Style::Lines) {
            let title = match label.is_empty() {
                true => String::new(),
                false => format!("<title>{}, {}</title>", escape(name), escape(label)),
            };
            let _ = writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\">{title}</circle>"
            );
        }
        let (x, y) = (WIDTH - RIGHT + 12.0, TOP + 12.0 + 17.0 * number as f64);
        let (end, text) = (x + 18.0, x + 24.0);
        let _ = match self.style {
            Style::Points => {
                writeln!(out, "<circle cx=\"{}\" cy=\"{y}\" r=\"3\" fill=\"{color}\"/>", x + 9.0)
            }
            _ => writeln!(out, "<path class=\"line\" {style} d=\"M{x} {y}H{end}\"/>"),
        };
        let lower = y + 4.0;
        let _ = writeln!(out, "<text x=\"{text}\" y=\"{lower}\">{}</text>", escape(name));
    }
}

/// Names beside points, right or left of them. One that would lie on another is left to its point's title,
/// which a pointer shows.
fn labels(out: &mut String, places: &[Place<'_>]) {
    const HIGH: f64 = 10.0;
    const LETTER: f64 = 5.4;
    // From left to right, top and bottom edges of what is taken: the points themselves at first.
    let mut taken: Vec<[f64; 4]> =
        places.iter().map(|(x, y, _)| [x - 3.0, x + 3.0, y - 3.0, y + 3.0]).collect();
    for &(x, y, label) in places.iter().filter(|(_, _, label)| !label.is_empty()) {
        let wide = LETTER * label.chars().count() as f64;
        for (from, anchor, at) in [(x + 5.0, "start", x + 5.0), (x - 5.0 - wide, "end", x - 5.0)] {
            let edges = [from, from + wide, y - HIGH / 2.0, y + HIGH / 2.0];
            let apart = |other: &[f64; 4]| {
                edges[1] <= other[0] || other[1] <= edges[0] || edges[3] <= other[2] || other[3] <= edges[2]
            };
            if from >= LEFT && taken.iter().all(apart) {
                taken.push(edges);
                let (base, label) = (y + 3.5, escape(label));
                let _ = writeln!(
                    out,
                    "<text class=\"small\" x=\"{at:.1}\" y=\"{base:.1}\" text-anchor=\"{anchor}\">{label}</text>"
                );
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_where_they_belong() {
        let axis = Axis::over(Scale::Log, [20.0, 5000.0].into_iter());
        assert_eq!((axis.from, axis.to), (10.0, 10_000.0));
        assert!((axis.place(100.0) - 1.0 / 3.0).abs() < 1e-9);
        let names: Vec<String> = axis.ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(names, ["10", "100", "1000", "10k"]);
        let axis = Axis::over(Scale::Linear, [0.0, 100.0].into_iter());
        assert_eq!(axis.ticks().len(), 3);
        assert_eq!([percent(1), percent(3)], ["90 %", "99.9 %"]);
        assert_eq!([1234.5, 1.5e6, 0.25, 0.001].map(short), ["1234", "1.5M", "0.25", "0.001"]);
    }

    #[test]
    fn labels_do_not_lie_on_one_another() {
        let mut out = String::new();
        // The second is in the way of the first's right side, and has no room on its own right.
        let places =
            [(200.0, 50.0, "left"), (210.0, 50.0, "<b>"), (230.0, 50.0, "right"), (222.0, 52.0, "none")];
        labels(&mut out, &places);
        let anchors: Vec<&str> = out.lines().filter_map(|line| line.split("text-anchor=").nth(1)).collect();
        assert_eq!(anchors, ["\"end\">left</text>", "\"start\">right</text>"]);
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let lines = vec![Line::new("a".to_owned(), vec![(1.0, 0.0), (f64::NAN, 1.0)])];
        let chart = Chart { x: ("x", Scale::Linear), y: ("y", Scale::Log), lines, style: Style::MarkedLines };
        assert_eq!(chart.svg(), "");
    }
}
