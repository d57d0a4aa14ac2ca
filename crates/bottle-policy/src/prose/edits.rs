//! Changes of a text, collected while it is read and made at once.

use std::ops::Range;

use super::{Kind, Removed};

/// Changes of a text, each with what it counts for.
#[derive(Default)]
pub(super) struct Edits(Vec<(Range<usize>, String, Removed)>);

impl Edits {
    pub(super) fn replace(&mut self, range: Range<usize>, with: &str, kind: Kind) {
        let mut removed = Removed::default();
        removed.count(kind);
        self.add(range, with.to_owned(), removed);
    }

    /// A change that counts for several things.
    pub(super) fn add(&mut self, range: Range<usize>, with: String, removed: Removed) {
        self.0.push((range, with, removed));
    }

    pub(super) fn take_out(&mut self, range: Range<usize>, kind: Kind) {
        self.replace(range, "", kind);
    }

    /// Of changes that overlap, the one that begins first is made, of those the longest; the others wait for the next
    /// pass.
    pub(super) fn apply(mut self, text: &str, removed: &mut Removed) -> String {
        self.0.sort_by(|(a, ..), (b, ..)| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for (range, with, what) in self.0 {
            if range.start < done {
                continue;
            }
            out.push_str(&text[done..range.start]);
            out.push_str(&with);
            removed.add(&what);
            done = range.end;
        }
        out.push_str(&text[done..]);
        out
    }
}
