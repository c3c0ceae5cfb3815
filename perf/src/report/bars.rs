//! Drawings: bars over one axis, each of one or several pieces, as SVG.

use std::fmt::Write;

use super::chart::{Axis, Scale, WIDTH, color, escape, short};

const LEFT: f64 = 210.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 11.0;
const STEP: f64 = 13.0;
const GAP: f64 = 9.0;
const LEGEND_COLUMNS: usize = 5;
const LEGEND_STEP: f64 = 18.0;

/// One bar.
pub struct Bar {
    /// Beside it; may be empty.
    pub name: String,
    /// Place in the legend of its first piece.
    pub first: usize,
    /// Where each of its pieces ends, ascending: the first begins where the axis does.
    pub ends: Vec<f64>,
}

/// A drawing.
pub struct Bars<'a> {
    /// What is along the axis.
    pub axis: (&'a str, Scale),
    /// What each colour stands for.
    pub legend: Vec<String>,
    /// Bars that belong together.
    pub groups: Vec<Vec<Bar>>,
}

impl Bars<'_> {
    /// The drawing, or nothing if there is nothing to draw.
    pub fn svg(&self) -> String {
        let fits = |value: &f64| value.is_finite() && *value > 0.0;
        let bars = || self.groups.iter().flatten();
        let ends = || bars().flat_map(|bar| bar.ends.iter().copied()).filter(fits);
        if ends().next().is_none() {
            return String::new();
        }
        let axis = Axis::over(self.axis.1, ends());
        let at = |value: f64| LEFT + axis.place(value).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
        let top = 6.0 + LEGEND_STEP * self.legend.len().div_ceil(LEGEND_COLUMNS) as f64;
        let bottom = top + bars().count() as f64 * STEP + self.groups.len() as f64 * GAP;
        let height = bottom + 40.0;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>{}</title>\n",
            escape(self.axis.0)
        );
        self.legend(&mut out);
        // Writing to a string does not fail.
        for (value, text) in axis.ticks() {
            let (x, low) = (at(value), bottom + 16.0);
            let _ = writeln!(out, "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/>");
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{low}\" text-anchor=\"middle\">{text}</text>");
        }
        let (middle, low) = ((LEFT + WIDTH - RIGHT) / 2.0, bottom + 34.0);
        let name = escape(self.axis.0);
        let _ = writeln!(out, "<text x=\"{middle}\" y=\"{low}\" text-anchor=\"middle\">{name}</text>");
        let mut y = top + GAP / 2.0;
        for group in &self.groups {
            for bar in group {
                self.bar(&mut out, bar, y, at);
                y += STEP;
            }
            y += GAP;
        }
        out.push_str("</svg>\n");
        out
    }

    fn bar(&self, out: &mut String, bar: &Bar, y: f64, at: impl Fn(f64) -> f64) {
        let (base, beside) = (y + BAR - 1.0, LEFT - 6.0);
        let name = escape(&bar.name);
        let _ = writeln!(out, "<text x=\"{beside}\" y=\"{base:.1}\" text-anchor=\"end\">{name}</text>");
        let (mut from, mut before) = (LEFT, 0.0);
        for (place, &end) in bar.ends.iter().enumerate().filter(|(_, end)| end.is_finite()) {
            let (to, place) = (at(end), bar.first + place);
            let width = (to - from).max(0.0);
            let what = self.legend.get(place).map_or(String::new(), |name| escape(name));
            let of = if bar.ends.len() > 1 && self.axis.1 == Scale::Linear { end - before } else { end };
            let _ = writeln!(
                out,
                "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" {}><title>{what} {}</title></rect>",
                fill(place),
                short(of)
            );
            (from, before) = (from.max(to), end);
        }
        if before > 0.0 {
            let (x, text) = (from + 4.0, short(before));
            let _ = writeln!(out, "<text class=\"small\" x=\"{x:.1}\" y=\"{base:.1}\">{text}</text>");
        }
    }

    fn legend(&self, out: &mut String) {
        for (place, name) in self.legend.iter().enumerate() {
            let x = 10.0 + (place % LEGEND_COLUMNS) as f64 * (WIDTH - 20.0) / LEGEND_COLUMNS as f64;
            let y = 4.0 + (place / LEGEND_COLUMNS) as f64 * LEGEND_STEP;
            let (text, base) = (x + 18.0, y + 10.0);
            let _ =
                writeln!(out, "<rect x=\"{x:.1}\" y=\"{y}\" width=\"12\" height=\"12\" {}/>", fill(place));
            let _ = writeln!(out, "<text x=\"{text:.1}\" y=\"{base}\">{}</text>", escape(name));
        }
    }
}

/// There are fewer colours than pieces: those that come again are paler.
fn fill(place: usize) -> String {
    let opacity = if place < super::chart::COLORS.len() { "1" } else { "0.45" };
    format!("fill=\"{}\" fill-opacity=\"{opacity}\"", color(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(scale: Scale, ends: &[&[f64]]) -> String {
        let bar = |ends: &&[f64]| Bar { name: "<a>".to_owned(), first: 0, ends: ends.to_vec() };
        let groups = vec![ends.iter().map(bar).collect()];
        Bars { axis: ("us", scale), legend: vec!["one".to_owned(), "two".to_owned()], groups }.svg()
    }

    #[test]
    fn pieces_end_where_they_should() {
        let svg = bars(Scale::Log, &[&[10.0, 100.0, 1000.0]]);
        let widths: Vec<f64> = svg
            .lines()
            .filter(|line| line.starts_with("<rect") && line.contains("<title>"))
            .filter_map(|line| line.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        // The axis begins at the least power of ten: the first piece has no width, the others have the same.
        assert_eq!(widths, [0.0, 250.0, 250.0]);
        assert!(svg.contains("&lt;a&gt;"), "{svg}");
        let svg = bars(Scale::Linear, &[&[10.0, 30.0]]);
        assert!(svg.contains("two 20</title>") && svg.contains(">30</text>"), "{svg}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(bars(Scale::Log, &[&[f64::NAN], &[]]), "");
    }
}
