//! A terminal emulator with the features that progress bars need: characters, line ends, cursor moves, erasing, colours.

/// Style of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Plain,
    /// A CSS class of the page.
    Named(&'static str),
}

/// A screen with unlimited rows.
#[derive(Debug)]
pub(super) struct Terminal {
    columns: usize,
    rows: Vec<Vec<(Colour, char)>>,
    row: usize,
    column: usize,
    colour: Colour,
}

impl Terminal {
    pub(super) fn new(columns: usize) -> Self {
        Self { columns, rows: vec![Vec::new()], row: 0, column: 0, colour: Colour::Plain }
    }

    /// Processes the output of a program. Must not be split inside an escape sequence.
    pub(super) fn write(&mut self, text: &str) {
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => self.to(self.row + 1),
                '\x1b' => self.escape(&mut rest),
                c if c.is_control() => {}
                c => self.put(c),
            }
        }
    }

    /// Rows without trailing spaces, split into parts of one colour; empty rows at the end are omitted.
    pub(super) fn lines(&self) -> Vec<Vec<(Colour, String)>> {
        let line = |row: &Vec<(Colour, char)>| {
            let len = row.iter().rposition(|&(_, c)| c != ' ').map_or(0, |at| at + 1);
            let mut parts: Vec<(Colour, String)> = Vec::new();
            for &(colour, c) in &row[..len] {
                match parts.last_mut() {
                    Some((last, part)) if *last == colour => part.push(c),
                    _ => parts.push((colour, c.to_string())),
                }
            }
            parts
        };
        let mut lines: Vec<_> = self.rows.iter().map(line).collect();
        lines.truncate(lines.iter().rposition(|line| !line.is_empty()).map_or(0, |at| at + 1));
        lines
    }

    /// The whole screen without colours.
    pub(super) fn text(&self) -> String {
        let lines = self.lines().into_iter();
        lines.map(|line| line.into_iter().map(|(_, part)| part).collect::<String>() + "\n").collect()
    }

    fn to(&mut self, row: usize) {
        self.row = row;
        if self.rows.len() <= row {
            self.rows.resize(row + 1, Vec::new());
        }
    }

    fn put(&mut self, c: char) {
        if self.column == self.columns {
            self.to(self.row + 1);
            self.column = 0;
        }
        let row = &mut self.rows[self.row];
        if row.len() <= self.column {
            row.resize(self.column + 1, (Colour::Plain, ' '));
        }
        row[self.column] = (self.colour, c);
        self.column += 1;
    }

    /// Processes `ESC [ numbers letter`; ignores unknown sequences.
    fn escape(&mut self, rest: &mut std::str::Chars<'_>) {
        if rest.next() != Some('[') {
            return;
        }
        let mut numbers = String::new();
        let letter = loop {
            match rest.next() {
                Some(c) if ('\x40'..='\x7e').contains(&c) => break c,
                Some(c) => numbers.push(c),
                None => return,
            }
        };
        let first: usize = numbers.split(';').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        match letter {
            'A' => self.row = self.row.saturating_sub(first.max(1)),
            'B' => self.to(self.row + first.max(1)),
            'C' => self.column = (self.column + first.max(1)).min(self.columns),
            'D' => self.column = self.column.saturating_sub(first.max(1)),
            'G' => self.column = first.max(1) - 1,
            'K' if first == 2 => self.rows[self.row].clear(),
            'K' => self.rows[self.row].truncate(self.column),
            'J' => {
                self.rows.truncate(self.row + 1);
                self.rows[self.row].truncate(self.column);
            }
            // Bright black in the 256-colour palette.
            'm' if numbers == "38;5;8" => self.paint("90"),
            'm' => numbers.split(';').for_each(|number| self.paint(number)),
            _ => {}
        }
    }

    fn paint(&mut self, number: &str) {
        self.colour = match number {
            "" | "0" | "39" => Colour::Plain,
            "1" => Colour::Named("bold"),
            "2" | "90" => Colour::Named("dim"),
            "31" | "91" => Colour::Named("red"),
            "32" | "92" => Colour::Named("green"),
            "33" | "93" => Colour::Named("yellow"),
            "36" | "96" => Colour::Named("cyan"),
            _ => self.colour,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{Colour, Terminal};

    #[test]
    fn redrawn_line_replaces_the_old_one() {
        let mut terminal = Terminal::new(20);
        terminal.write("first\r\nsecond, longer\r\n");
        terminal.write("\x1b[1A\x1b[2K\r2nd\x1b[1A\x1b[2K\r\x1b[36mbar\x1b[0m 1\r\n\n\x1b[1G");
        assert_eq!(terminal.text(), "bar 1\n2nd\n");
        let parts = [(Colour::Named("cyan"), "bar".to_owned()), (Colour::Plain, " 1".to_owned())];
        assert_eq!(terminal.lines()[0], parts);
    }

    #[test]
    fn long_line_continues_in_the_next_row() {
        let mut terminal = Terminal::new(3);
        terminal.write("abcde");
        assert_eq!(terminal.text(), "abc\nde\n");
    }
}
