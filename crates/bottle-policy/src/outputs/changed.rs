//! The lines of a pull request's change that a remark can be about, from `git diff`'s own words.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DiffSide, Remark};

/// Of more pieces than these none is known.
const MOST_PIECES: usize = 20_000;

/// The pieces of a change, by the path that a file has after it; of a file that is gone, by the one that it had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(with = "BTreeMap<String, Vec<Vec<u64>>>")]
pub struct ChangedLines(BTreeMap<String, Vec<ChangedPiece>>);

/// A piece of a change: the first line and the number of lines, before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedPiece(u64, u64, u64, u64);

impl ChangedPiece {
    fn has(self, side: DiffSide, line: u64) -> bool {
        let (first, count) = match side {
            DiffSide::Before => (self.0, self.1),
            DiffSide::After => (self.2, self.3),
        };
        line >= first && line - first < count
    }
}

/// Why a remark has no place in a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// The file is not part of the change, or has no lines in it.
    File,
    /// The line is not part of it.
    Line,
    /// The lines are not in one piece of it, or not in order.
    Lines,
}

impl ChangedLines {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads what `git diff` printed. A piece that is cut short, or that is not what its head says, is left out.
    pub fn parse(diff: &str) -> Self {
        let mut reader = Reader { lines: diff.split('\n').peekable(), found: Self::default(), pieces: 0 };
        reader.read();
        reader.found
    }

    /// Whether the change has this file, with lines or without.
    pub(super) fn has_file(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Tells whether the lines of a remark are in one piece of the change.
    pub fn place(&self, remark: &Remark) -> Result<(), NoPlace> {
        let pieces = self.0.get(&remark.path).filter(|pieces| !pieces.is_empty()).ok_or(NoPlace::File)?;
        let (first, last, side) = (remark.first(), remark.line, remark.side);
        let has = |line| pieces.iter().any(|piece| piece.has(side, line));
        if !has(last) {
            return Err(NoPlace::Line);
        }
        let in_one = pieces.iter().any(|piece| piece.has(side, first) && piece.has(side, last));
        if first <= last && in_one { Ok(()) } else { Err(NoPlace::Lines) }
    }
}

struct Reader<'a, I: Iterator<Item = &'a str>> {
    lines: std::iter::Peekable<I>,
    found: ChangedLines,
    pieces: usize,
}

impl<'a, I: Iterator<Item = &'a str>> Reader<'a, I> {
    fn read(&mut self) {
        let (mut before, mut path): (Option<String>, Option<String>) = (None, None);
        while let Some(line) = self.lines.next() {
            if line.starts_with("diff --git ") {
                (before, path) = (None, None);
            } else if let Some(name) = line.strip_prefix("--- ") {
                before = file_name(name, "a/");
            } else if let Some(name) = line.strip_prefix("+++ ") {
                // Of a file that is gone, only the name that it had is left.
                path = if name.starts_with("/dev/null") { before.take() } else { file_name(name, "b/") };
            } else if let Some(path) = file_without_lines(line) {
                // Counted, so that no change is too much to hold.
                self.pieces += 1;
                if self.pieces < MOST_PIECES {
                    self.found.0.entry(path).or_default();
                }
            } else if let (Some(of), Some(piece)) = (&path, head(line)) {
                if !self.body(piece) {
                    // What follows is no head of anything.
                    (before, path) = (None, None);
                } else if self.pieces < MOST_PIECES {
                    self.pieces += 1;
                    self.found.0.entry(of.clone()).or_default().push(piece);
                }
            }
        }
    }

    /// Reads the lines of a piece by the numbers of its head, so that none of them is taken for a head.
    fn body(&mut self, piece: ChangedPiece) -> bool {
        let (mut before, mut after) = (piece.1, piece.3);
        while before > 0 || after > 0 {
            let Some(line) = self.lines.peek() else { return false };
            let (of_before, of_after) = match line.as_bytes().first() {
                Some(b' ') => (1, 1),
                Some(b'-') => (1, 0),
                Some(b'+') => (0, 1),
                Some(b'\\') => (0, 0),
                _ => return false,
            };
            if of_before > before || of_after > after {
                return false;
            }
            (before, after) = (before - of_before, after - of_after);
            self.lines.next();
        }
        true
    }
}

/// The file that a line of a diff names which need not be followed by lines: one that is renamed, or whose content git calls binary.
fn file_without_lines(line: &str) -> Option<String> {
    if let Some(name) = line.strip_prefix("rename to ").or_else(|| line.strip_prefix("copy to ")) {
        return file_name(name, "");
    }
    let names = line.strip_suffix('\r').unwrap_or(line).strip_prefix("Binary files ")?.strip_suffix(" differ")?;
    let (before, after) = names.rsplit_once(" and ")?;
    if after == "/dev/null" { file_name(before, "a/") } else { file_name(after, "b/") }
}

/// Reads `@@ -1,2 +3,4 @@`; a number of lines that is not there is 1.
fn head(line: &str) -> Option<ChangedPiece> {
    let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (before, after) = ranges.split_once(" +")?;
    let range = |text: &str| -> Option<(u64, u64)> {
        let (first, count) = text.split_once(',').unwrap_or((text, "1"));
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
        Some((number(first)?, number(count)?))
    };
    let ((first, count), (first_after, count_after)) = (range(before)?, range(after)?);
    Some(ChangedPiece(first, count, first_after, count_after))
}

/// A file's path, which git quotes where it has unusual bytes, and ends with a tab where it has a blank; none for `/dev/null`.
fn file_name(text: &str, prefix: &str) -> Option<String> {
    let text = text.strip_suffix('\r').unwrap_or(text);
    let name = match text.strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?,
        None => text.strip_suffix('\t').unwrap_or(text).to_owned(),
    };
    name.strip_prefix(prefix).map(str::to_owned)
}

/// A text in git's quotes, from behind the first of them.
fn unquoted(quoted: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = quoted.bytes();
    loop {
        match rest.next()? {
            b'"' => return String::from_utf8(bytes).ok(),
            b'\\' => bytes.push(match rest.next()? {
                b'a' => 7,
                b'b' => 8,
                b't' => b'\t',
                b'n' => b'\n',
                b'v' => 11,
                b'f' => 12,
                b'r' => b'\r',
                digit @ b'0'..=b'3' => {
                    let mut value = u32::from(digit - b'0');
                    for _ in 0..2 {
                        let digit = rest.next().filter(|digit| (b'0'..=b'7').contains(digit))?;
                        value = value * 8 + u32::from(digit - b'0');
                    }
                    u8::try_from(value).ok()?
                }
                other @ (b'"' | b'\\') => other,
                _ => return None,
            }),
            byte => bytes.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_lines_is_a_part_of_the_change() {
        let diff = "diff --git a/a.rs b/b.rs\nsimilarity index 100%\nrename from a.rs\nrename to b.rs\n\
            diff --git a/p.png b/p.png\nindex 1..2 100644\nBinary files a/p.png and b/p.png differ\n\
            diff --git a/q.png b/q.png\ndeleted file mode 100644\nBinary files a/q.png and /dev/null differ\n\
            diff --git a/c.rs b/c.rs\n--- a/c.rs\n+++ b/c.rs\n@@ -1 +1,2 @@\n a\n+rename to evil.rs\n";
        let changed = ChangedLines::parse(diff);
        for (path, there) in
            [("b.rs", true), ("a.rs", false), ("p.png", true), ("q.png", true), ("c.rs", true), ("evil.rs", false)]
        {
            assert_eq!(changed.has_file(path), there, "{path}");
        }
        let remark = Remark {
            path: "b.rs".to_owned(),
            line: 1,
            first_line: None,
            side: DiffSide::After,
            body: String::new(),
            suggestion: None,
        };
        assert_eq!(changed.place(&remark), Err(NoPlace::File), "it has no lines in the change");
    }
}
