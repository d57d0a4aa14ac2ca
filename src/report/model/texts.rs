//! The texts of a run: masked, made visible, cut. For the page, long ones are packed in parts, of which it unpacks those that are looked at;
//! a terminal has their beginnings.

use std::cell::Cell;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::visible::{beginning, visible};

/// Bytes of a text that the page has; the record has the rest.
pub(in crate::report) const MAX_TEXT_BYTES: usize = 1 << 20;
/// Bytes of packed texts in the page, in base64: a browser opens a page of this size in a second.
pub(in crate::report) const MAX_PACKED_BYTES: usize = 32 << 20;
/// Bytes of the texts, and beginnings of texts, that the index has: it is unpacked whole.
const MAX_INDEX_BYTES: usize = 12 << 20;
/// Bytes of texts that a terminal's view has together, and of one diff.
const MAX_TERMINAL_BYTES: usize = 64 << 20;
const DIFF_BYTES: usize = 256 << 10;
/// Bytes of text that are unpacked at once.
const PART_BYTES: usize = 1 << 20;

/// A text of the page's data.
#[derive(Debug, Serialize)]
pub(in crate::report) struct Text {
    /// Its beginning, or the whole of it.
    pub(in crate::report) head: String,
    /// Its bytes in the record.
    pub(in crate::report) bytes: usize,
    /// The part and the place in it of the text that `head` begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<[usize; 2]>,
    /// Bytes of it that the page has not.
    #[serde(skip_serializing_if = "is_zero")]
    pub(in crate::report) lost: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// All texts of a page.
pub(in crate::report) struct Texts<'a> {
    mask: &'a dyn Fn(&str) -> String,
    /// Gzip in base64, each a JSON list of texts; none: it had no more room.
    parts: Vec<Option<String>>,
    open: Vec<String>,
    open_bytes: usize,
    room: usize,
    index_room: Cell<usize>,
    /// Bytes of a diff that are not packed away.
    diff_bytes: usize,
    /// Texts that the page has not, or not to their end.
    pub(in crate::report) cut: usize,
}

impl<'a> Texts<'a> {
    /// No texts yet. `mask` puts `***` for each secret.
    pub(in crate::report) fn new(mask: &'a dyn Fn(&str) -> String, room: usize) -> Self {
        Self {
            mask,
            parts: vec![],
            open: vec![],
            open_bytes: 0,
            room,
            index_room: Cell::new(MAX_INDEX_BYTES),
            diff_bytes: 0,
            cut: 0,
        }
    }

    /// No texts yet, and none will be packed. `mask` puts `***` for each secret.
    pub(in crate::report) fn of_terminal(mask: &'a dyn Fn(&str) -> String) -> Self {
        Self { index_room: Cell::new(MAX_TERMINAL_BYTES), diff_bytes: DIFF_BYTES, ..Self::new(mask, 0) }
    }

    /// A short text: masked, visible, and cut after `most` bytes.
    pub(in crate::report) fn short(&self, text: &str, most: usize) -> String {
        // Masked first: a secret that is cut in two is found no more.
        let masked = (self.mask)(text);
        let most = most.min(self.index_room.get());
        let shown = visible(beginning(&masked, most));
        self.take(shown.len());
        if masked.len() > most { format!("{shown}…") } else { shown.into_owned() }
    }

    /// A diff.
    pub(in crate::report) fn diff(&mut self, text: &str) -> Text {
        self.long(text, self.diff_bytes)
    }

    /// A text that may be long. The data itself has its first `head` bytes; the rest goes into a part.
    pub(in crate::report) fn long(&mut self, text: &str, head: usize) -> Text {
        let masked = (self.mask)(text);
        let bytes = masked.len();
        let kept = beginning(&masked, MAX_TEXT_BYTES);
        let mut lost = bytes - kept.len();
        let shown = visible(kept);
        let head = head.min(self.index_room.get());
        if shown.len() <= head {
            self.take(shown.len());
            self.cut += usize::from(lost > 0);
            return Text { head: shown.into_owned(), bytes, at: None, lost };
        }
        let head = beginning(&shown, head).to_owned();
        self.take(head.len());
        let at = if self.room == 0 { None } else { Some([self.parts.len(), self.open.len()]) };
        match at {
            Some(_) => self.push(shown.into_owned()),
            None => lost = bytes.saturating_sub(head.len()).max(1),
        }
        self.cut += usize::from(lost > 0);
        Text { head, bytes, at, lost }
    }

    fn take(&self, bytes: usize) {
        self.index_room.set(self.index_room.get().saturating_sub(bytes));
    }

    fn push(&mut self, text: String) {
        self.open_bytes += text.len();
        self.open.push(text);
        if self.open_bytes >= PART_BYTES {
            self.close();
        }
    }

    fn close(&mut self) {
        let part = pack(&self.open);
        if part.len() > self.room {
            self.cut += self.open.len();
            self.room = 0;
            self.parts.push(None);
        } else {
            self.room -= part.len();
            self.parts.push(Some(part));
        }
        self.open.clear();
        self.open_bytes = 0;
    }

    /// The packed parts, by their numbers.
    pub(in crate::report) fn into_parts(mut self) -> (Vec<Option<String>>, usize) {
        if !self.open.is_empty() {
            self.close();
        }
        (self.parts, self.cut)
    }
}

/// JSON, in gzip, in base64: of an alphabet in which no markup can be written.
pub(in crate::report) fn pack(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).unwrap_or_default();
    let mut gzip = GzEncoder::new(vec![], Compression::default());
    // Into memory: there is nothing that can fail, and a part that does not unpack is said to be broken on the page.
    let _ = gzip.write_all(&json);
    STANDARD.encode(gzip.finish().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_before_a_text_is_cut() {
        let secret = ["hush-", "hush-", "hush"].concat();
        let mask = |text: &str| text.replace(&secret, "***");
        let mut texts = Texts::new(&mask, MAX_PACKED_BYTES);
        let long = format!("{}{secret}{}", "a".repeat(MAX_TEXT_BYTES - 3), "b".repeat(10));
        let text = texts.long(&long, 10);
        assert_eq!((text.head.as_str(), text.at, text.lost), ("aaaaaaaaaa", Some([0, 0]), 10));
        assert!(!texts.parts.is_empty());
        assert_eq!(texts.short(&format!("ab{secret}"), 4), "ab**…");
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let mask = str::to_owned;
        let mut texts = Texts::new(&mask, 100);
        // What does not repeat itself is not made smaller.
        let noise: String = (0..PART_BYTES as u32)
            .map(|at| char::from(b'!' + (at.wrapping_mul(2_654_435_761) >> 16) as u8 % 80))
            .collect();
        assert_eq!(texts.long(&noise, 10).at, Some([0, 0]));
        let later = texts.long(&noise, 10);
        assert_eq!((later.at, later.lost), (None, PART_BYTES - 10));
        assert_eq!(texts.long("short", 10).at, None);
        let (parts, cut) = texts.into_parts();
        assert_eq!((parts, cut), (vec![None], 2));
    }
}
