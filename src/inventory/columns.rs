//! Rows of cells as aligned text.

use std::fmt;

/// Writes `rows`, the head first, in columns as wide as they need be, two spaces apart; those from the `numbers`th on stand
/// on the right. A column that is empty in every row but the head is left out. Cells are shown as they are: what they hold
/// must be fit for a terminal.
pub fn columns(rows: &[Vec<String>], numbers: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut widths: Vec<usize> = Vec::new();
    for column in 0..rows.iter().map(Vec::len).max().unwrap_or(0) {
        let cells = || rows.iter().filter_map(|row| row.get(column));
        let is_empty = cells().skip(1).all(String::is_empty);
        let widest = cells().map(|cell| cell.chars().count()).max().unwrap_or(0);
        widths.push(if is_empty { 0 } else { widest });
    }
    for row in rows {
        let mut line = String::new();
        for (index, (cell, &width)) in row
            .iter()
            .zip(&widths)
            .enumerate()
            .filter(|(_, (_, width))| **width > 0)
        {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, behind) = if index < numbers {
                ("", &*padding)
            } else {
                (&*padding, "")
            };
            line.extend([before, cell, behind, "  "]);
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rows(Vec<Vec<String>>);

    impl fmt::Display for Rows {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            columns(&self.0, 2, f)
        }
    }

    #[test]
    fn cells_stand_under_their_heads_and_empty_columns_are_left_out() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = Rows(vec![
            row(["WHAT", "EMPTY", "COUNT"]),
            row(["ä", "", "12345678"]),
            row(["longer", "", "1"]),
        ]);
        let expected = "WHAT       COUNT\nä       12345678\nlonger         1\n";
        assert_eq!(rows.to_string(), expected);
    }
}
