//! Columns as Docker lays them out: at least ten wide, three spaces between, the last not padded.

use std::fmt::Write;

const MINIMUM_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Rows of cells.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    minimum: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self::with_columns_of(MINIMUM_WIDTH)
    }
}

impl Table {
    /// A table whose columns have at least this width.
    pub(crate) fn with_columns_of(minimum: usize) -> Self {
        Self {
            rows: Vec::new(),
            minimum,
        }
    }

    /// Adds a row given as text with tabs between its cells. Text with line breaks becomes
    /// several rows.
    pub(crate) fn push(&mut self, text: &str) {
        for line in text.split('\n') {
            self.rows.push(line.split('\t').map(str::to_owned).collect());
        }
    }

    /// The table, every row with its line break.
    pub(crate) fn render(&self) -> String {
        let mut widths = Vec::new();
        for row in &self.rows {
            // The last cell of a row ends the line and takes part in no column.
            for (column, cell) in row[..row.len() - 1].iter().enumerate() {
                let width = (cell.chars().count() + PADDING).max(self.minimum);
                match widths.get_mut(column) {
                    None => widths.push(width),
                    Some(widest) => *widest = width.max(*widest),
                }
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                if column + 1 < row.len() {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "{cell:<width$}", width = widths[column]);
                } else {
                    text.push_str(cell);
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_at_least_ten() {
        let mut table = Table::default();
        table.push("CONTAINER ID\tIMAGE\tNAMES");
        table.push("0123456789ab\tlocalhost/b\tx");
        table.push("\t…\t");
        assert_eq!(
            table.render(),
            "CONTAINER ID   IMAGE         NAMES\n\
             0123456789ab   localhost/b   x\n\
             \u{20}              …             \n"
        );
    }

    #[test]
    fn a_single_column_is_not_padded() {
        let mut table = Table::default();
        table.push("NAMES");
        table.push("a");
        assert_eq!(table.render(), "NAMES\na\n");
    }
}
