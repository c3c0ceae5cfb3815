//! Curves of latency over percentile, both logarithmic, in characters.

/// A curve.
pub struct Series {
    /// Its name in the legend.
    pub name: &'static str,
    /// Nanoseconds, for each of [`Plot::quantiles`].
    pub values: Vec<u64>,
}

/// Width of one plot, in characters.
const COLUMNS: usize = 40;
/// Height of one plot, in lines.
const ROWS: usize = 14;
/// Width of the labels of the vertical axis.
const LABELS: usize = 7;
/// Marks of the curves, in their order.
const MARKS_UNICODE: [char; 3] = ['█', '▒', '░'];
const MARKS_ASCII: [char; 3] = ['#', '+', '.'];
/// From the median (1 of 2 is slower) to p99.9 (1 of 1,000 is).
const SLOWER_FIRST: f64 = 2.0;
const SLOWER_LAST: f64 = 1000.0;

/// How to draw.
pub struct Plot {
    /// With characters beyond ASCII.
    pub unicode: bool,
}

impl Plot {
    /// The quantile of each column.
    pub fn quantiles() -> impl Iterator<Item = f64> {
        let step = (SLOWER_LAST / SLOWER_FIRST).ln() / (COLUMNS - 1) as f64;
        (0..COLUMNS).map(move |column| 1.0 - 1.0 / (SLOWER_FIRST * (step * column as f64).exp()))
    }

    /// Draws plots with titles beside each other, on one scale.
    pub fn draw(&self, plots: &[(&str, Vec<Series>)]) -> String {
        let values =
            || plots.iter().flat_map(|(_, series)| series).flat_map(|series| &series.values).copied();
        let scale = Scale::covering(values().min().unwrap_or(1), values().max().unwrap_or(1));
        let grids: Vec<_> = plots.iter().map(|(_, series)| self.grid(series, &scale)).collect();
        let mut out = " ".repeat(LABELS + 2);
        for (title, _) in plots {
            out.push_str(&format!("{title:<width$}", width = COLUMNS + 3));
        }
        let mut lines = vec![out.trim_end().to_owned()];
        let (bar, corner, dash) = if self.unicode { ('│', '└', '─') } else { ('|', '+', '-') };
        for row in 0..ROWS {
            let mut line = format!("{:>LABELS$} ", scale.label(row));
            for grid in &grids {
                line.push(bar);
                line.extend(&grid[row]);
                line.push_str("  ");
            }
            lines.push(line.trim_end().to_owned());
        }
        let axis = format!("{corner}{}  ", dash.to_string().repeat(COLUMNS));
        lines.push(format!("{}{}", " ".repeat(LABELS + 1), axis.repeat(grids.len())).trim_end().to_owned());
        lines
            .push(format!("{}{}", " ".repeat(LABELS + 1), ticks().repeat(grids.len())).trim_end().to_owned());
        if let Some((_, series)) = plots.first() {
            lines.push(format!("{}{}", " ".repeat(LABELS + 2), self.legend(series)));
        }
        lines.join("\n") + "\n"
    }

    fn marks(&self) -> [char; 3] {
        if self.unicode { MARKS_UNICODE } else { MARKS_ASCII }
    }

    fn legend(&self, series: &[Series]) -> String {
        let named = series.iter().zip(self.marks()).map(|(series, mark)| format!("{mark} {}", series.name));
        named.collect::<Vec<_>>().join("   ")
    }

    fn grid(&self, series: &[Series], scale: &Scale) -> Vec<Vec<char>> {
        let mut grid = vec![vec![' '; COLUMNS]; ROWS];
        // The first one is drawn last: it is not to be hidden.
        for (series, mark) in series.iter().zip(self.marks()).rev() {
            let mut before = None;
            for (column, &value) in series.values.iter().enumerate().take(COLUMNS) {
                let row = scale.row(value);
                // A step is drawn as a line.
                let from = before.map_or(row, |before: usize| if before > row { before - 1 } else { before });
                for line in grid.iter_mut().take(from.max(row) + 1).skip(from.min(row)) {
                    line[column] = mark;
                }
                before = Some(row);
            }
        }
        grid
    }
}

/// The names of some percentiles below their columns; as wide as a plot with its axis and gap.
fn ticks() -> String {
    let mut line = vec![' '; COLUMNS + 3];
    for (name, slower) in [("p50", 2.0), ("p90", 10.0), ("p99", 100.0), ("p99.9", 1000.0)] {
        let place: f64 = f64::ln(slower / SLOWER_FIRST) / f64::ln(SLOWER_LAST / SLOWER_FIRST);
        let column = 1 + (place * (COLUMNS - 1) as f64).round() as usize;
        let start = column.saturating_sub(name.len() / 2).clamp(1, COLUMNS + 3 - name.len());
        line.splice(start..start + name.len(), name.chars());
    }
    line.into_iter().collect()
}

/// The vertical axis: whole powers of ten.
struct Scale {
    low_log: f64,
    high_log: f64,
}

impl Scale {
    fn covering(min_ns: u64, max_ns: u64) -> Scale {
        let log = |ns: u64| (ns.max(1) as f64).log10();
        let low_log = log(min_ns).floor();
        Scale { low_log, high_log: log(max_ns).ceil().max(low_log + 1.0) }
    }

    /// Row 0 is the top.
    fn row(&self, ns: u64) -> usize {
        let height = ((ns.max(1) as f64).log10() - self.low_log) / (self.high_log - self.low_log);
        ROWS - 1 - (height.clamp(0.0, 1.0) * (ROWS - 1) as f64).round() as usize
    }

    /// What stands beside a row: a power of ten, if the row is one's.
    fn label(&self, row: usize) -> String {
        let powers = self.low_log as i32..=self.high_log as i32;
        let power = powers.into_iter().find(|&power| self.row(10f64.powi(power) as u64) == row);
        power.map_or(String::new(), |power| {
            crate::text::duration(std::time::Duration::from_nanos(10f64.powi(power) as u64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(unicode: bool) -> String {
        let flat = |ns| vec![ns; COLUMNS];
        let step: Vec<u64> =
            (0..COLUMNS).map(|column| if column < 20 { 200_000 } else { 50_000_000 }).collect();
        let plots = [
            ("one", vec![Series { name: "a", values: flat(300_000) }]),
            ("two", vec![Series { name: "a", values: flat(300_000) }, Series { name: "b", values: step }]),
        ];
        Plot { unicode }.draw(&plots)
    }

    #[test]
    fn curves_stand_where_they_belong() {
        let text = drawn(false);
        assert!(text.is_ascii());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), ROWS + 4, "{text}");
        assert!(
            lines[1].trim_start().starts_with("100 ms |") && lines[ROWS].trim_start().starts_with("100 us |")
        );
        assert!(lines[ROWS + 2].contains("p50") && lines[ROWS + 2].contains("p99.9"));
        assert!(lines.iter().any(|line| line.contains(&"#".repeat(COLUMNS))), "{text}");
        assert!(lines.iter().any(|line| line.contains(&"+".repeat(COLUMNS / 2))), "{text}");
        assert!(drawn(true).contains(&"█".repeat(COLUMNS)));
    }

    #[test]
    fn columns_go_from_the_median_to_p999() {
        let quantiles: Vec<f64> = Plot::quantiles().collect();
        assert_eq!(quantiles.len(), COLUMNS);
        assert!((quantiles[0] - 0.5).abs() < 1e-9 && (quantiles[COLUMNS - 1] - 0.999).abs() < 1e-9);
    }
}
