//! The one way of a text to the terminal.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar as _;

use crate::report::Style;
use crate::report::model::visible::{beginning, visible};

/// Bytes of one part of a line, whatever its columns are: a text of marks that take no column has no end.
const MAX_PART_BYTES: usize = 8 << 10;
/// Columns of a fact's term.
const TERM: usize = 11;

/// Lines for a terminal or a pipe.
#[derive(Debug)]
pub(crate) struct Page {
    style: Style,
    /// Columns of the terminal; none: a pipe, where no line is cut.
    columns: Option<usize>,
    text: String,
}

impl Page {
    pub(crate) fn new(style: Style, columns: Option<usize>) -> Self {
        Self { style, columns, text: String::new() }
    }

    /// The columns that a line has room for behind so many.
    pub(super) fn room(&self, taken: usize) -> usize {
        self.columns.map_or(usize::MAX, |columns| columns.saturating_sub(taken))
    }

    /// A line of parts, each with the code of its colour. Everything that is printed goes through here: what can't be seen is spelled out,
    /// and what does not fit is cut.
    pub(crate) fn line(&mut self, parts: &[(&str, &str)]) {
        let mut room = self.room(0);
        for (colour, text) in parts {
            let shown = one_line(text);
            let (shown, is_cut) = fitting(&shown, room);
            room -= columns_of(&shown).min(room);
            match colour.is_empty() || shown.is_empty() {
                true => self.text.push_str(&shown),
                false => self.text.push_str(&self.style.paint(colour, &shown)),
            }
            if is_cut {
                break;
            }
        }
        while self.text.ends_with(' ') {
            self.text.pop();
        }
        self.text.push('\n');
    }

    /// A heading, with an empty line before it unless it is the first.
    pub(super) fn heading(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(&[("1", text)]);
    }

    /// A term and what it is; nothing where that is empty.
    pub(super) fn fact(&mut self, term: &str, value: &str) {
        if !value.is_empty() {
            self.line(&[("", "  "), ("2", &padded(term, TERM)), ("", value)]);
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// The lines of the page, each as it is printed.
    #[cfg(test)]
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }
}

/// The text on one line, with nothing in it that a terminal acts on.
pub(in crate::report) fn one_line(text: &str) -> Cow<'_, str> {
    let text = beginning(text, MAX_PART_BYTES);
    let shown = visible(text);
    if shown.contains(['\n', '\t']) { Cow::Owned(shown.replace(['\n', '\t'], " ")) } else { shown }
}

/// Columns of a text on a terminal.
pub(super) fn columns_of(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// As much of a text as these columns have room for, with `…` in place of what has none; whether it was cut.
pub(super) fn fitting(text: &str, room: usize) -> (Cow<'_, str>, bool) {
    if columns_of(text) <= room {
        return (Cow::Borrowed(text), false);
    }
    let mut columns = 0;
    let fits = text.char_indices().find(|(_, c)| {
        columns += c.width().unwrap_or(0);
        columns + 1 > room
    });
    let end = fits.map_or(text.len(), |(at, _)| at);
    let mark = if room == 0 { "" } else { "…" };
    (Cow::Owned(format!("{}{mark}", &text[..end])), true)
}

/// The text in a column of this width; one that has no room is cut.
pub(super) fn padded(text: &str, width: usize) -> String {
    let shown = one_line(text);
    let (shown, _) = fitting(&shown, width);
    let spaces = width.saturating_sub(columns_of(&shown));
    format!("{shown}{}", " ".repeat(spaces))
}
