//! Tables of text: columns as wide as they need to be.

/// Where a column's cells stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table with a line of column names.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns; names are written in capitals.
    pub fn new(columns: &[(&str, Align)]) -> Table {
        let names = columns.iter().map(|(name, _)| name.to_uppercase()).collect();
        Table { columns: columns.iter().map(|&(_, align)| align).collect(), rows: vec![names] }
    }

    /// A table of names and values, without a line of column names.
    pub fn of_pairs() -> Table {
        Table { columns: vec![Align::Left, Align::Left], rows: Vec::new() }
    }

    /// Adds a row; cells beyond the columns are left out.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into());
    }

    /// Adds a name and its value.
    pub fn pair(&mut self, name: &str, value: impl ToString) {
        self.row([name.to_owned(), value.to_string()]);
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let width = |column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(&widths).zip(&self.columns) {
                match align {
                    Align::Left => line.push_str(&format!("{cell:<width$}  ")),
                    Align::Right => line.push_str(&format!("{cell:>width$}  ")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_needed() {
        let mut table = Table::new(&[("name", Align::Left), ("bytes", Align::Right)]);
        assert!(table.is_empty());
        table.row(["a".to_owned(), "1".to_owned()]);
        table.row(["größer".to_owned(), "1000000".to_owned()]);
        assert_eq!(table.to_string(), "NAME      BYTES\na             1\ngrößer  1000000\n");
    }
}
