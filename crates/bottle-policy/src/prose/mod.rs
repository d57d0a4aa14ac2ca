//! What people write, made fit to be shown: to the model ([`for_prompt`]) and to people, by us ([`for_posting`]).
//!
//! A reader sees what Markdown renders; a model or a forge reads the source. What the one sees and the other does not is
//! taken out here: comments, attributes, title texts, unused definitions, characters without a width. A picture's alternative text is a
//! text for the model, which has no picture; in what is posted it goes.
//! What is posted also loses what would act: mentions, closing keywords, commands.
//!
//! Map: `points` (characters that nobody sees), `entity` (`&#8203;` and what else spells one), `address` (of a link),
//! `html`, `links` (what a reader can follow), `markdown` (what is where, by CommonMark), `acts` (mentions, keywords, commands), `edits` (changes of a text),
//! `said` (whose words a line is), `removed` (the counts).
//!
//! Always: what comes out goes in again unchanged (up to [`LONGEST`]); no character of [`invisible`] comes out; code keeps
//! its text; a text that changes with every cleaning is left out whole. Addresses are not judged beyond their scheme.

mod acts;
mod address;
mod edits;
mod entity;
mod html;
mod links;
mod markdown;
mod points;
mod removed;
mod said;
#[cfg(test)]
mod tests;

pub use links::{Link, links};
pub use points::invisible;
pub use removed::{Kind, Removed};
pub use said::lines;

/// The longest text that is looked at, in bytes; the rest is cut off. GitHub's longest comment is a quarter of it.
pub const LONGEST: usize = 256 << 10;
/// The longest title, in characters; forges allow a quarter of it.
pub const LONGEST_LINE: usize = 1000;
/// How often a text is cleaned until it stays as it is.
const ROUNDS: u32 = 24;

/// A text after cleaning, and what it lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clean {
    /// The text; lines end with `\n`.
    pub text: String,
    /// What was taken out or changed.
    pub removed: Removed,
}

/// What is done with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Prompt,
    Posting,
}

/// Markdown that people wrote, for the model.
pub fn for_prompt(text: &str) -> Clean {
    clean(text, Purpose::Prompt)
}

/// Markdown from anyone, for a comment, a review or a pull request in our name.
pub fn for_posting(text: &str) -> Clean {
    clean(text, Purpose::Posting)
}

/// A title that people wrote, for the model: one line of at most [`LONGEST_LINE`] characters. Forges show titles as they
/// are written, so markup stays.
pub fn line_for_prompt(text: &str) -> Clean {
    let mut removed = Removed::default();
    let mut line = one_line(cut(text), &mut removed);
    if shorten(&mut line, LONGEST_LINE) {
        removed.count(Kind::Rest);
    }
    Clean { text: line, removed }
}

/// Code, a diff or a log, for the model: as it is, without what nobody sees.
pub fn code_for_prompt(text: &str) -> Clean {
    let mut removed = Removed::default();
    let cut = cut(text);
    if cut.len() < text.len() {
        removed.count(Kind::Rest);
    }
    let text = points::seen(cut, &mut removed);
    Clean { text, removed }
}

/// A text in our name that nobody reads as Markdown, such as a commit's message: nothing in it acts.
pub fn plain_for_posting(text: &str) -> Clean {
    without_acts(code_for_prompt(text))
}

/// A title in our name: one line in which nothing acts.
pub fn line_for_posting(text: &str) -> Clean {
    let mut clean = without_acts(line_for_prompt(text));
    shorten(&mut clean.text, LONGEST_LINE);
    clean
}

/// A whole file of text, for the model: as it is, without what nobody sees.
pub fn file_for_prompt(text: &str) -> Clean {
    let mut removed = Removed::default();
    let text = points::seen(text, &mut removed);
    Clean { text, removed }
}

fn without_acts(clean: Clean) -> Clean {
    until_it_stays(clean, |text, removed| {
        let mut edits = edits::Edits::default();
        acts::find(text, &[], &mut edits);
        edits.apply(text, removed)
    })
}

/// Cleans again and again: what is left may mean something else than before.
fn until_it_stays(mut clean: Clean, pass: impl Fn(&str, &mut Removed) -> String) -> Clean {
    for _ in 0..ROUNDS {
        let next = pass(&clean.text, &mut clean.removed);
        if next == clean.text {
            return clean;
        }
        clean.text = next;
    }
    clean.removed.count(Kind::Text);
    Clean { text: String::new(), ..clean }
}

/// A name that people chose (a login, a branch, a label, a path): one line of at most `longest` characters.
pub fn name(text: &str, longest: usize) -> String {
    let mut line = one_line(text, &mut Removed::default());
    shorten(&mut line, longest);
    line
}

/// Cuts a line to this many characters, the last of them a mark that says so; whether it was longer.
fn shorten(line: &mut String, longest: usize) -> bool {
    let mut ends = line.char_indices().map(|(at, _)| at).skip(longest.saturating_sub(1));
    let (Some(end), Some(_)) = (ends.next(), ends.next()) else { return false };
    line.truncate(end);
    line.push('…');
    true
}

fn one_line(text: &str, removed: &mut Removed) -> String {
    points::seen(text, removed).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn clean(text: &str, purpose: Purpose) -> Clean {
    until_it_stays(code_for_prompt(text), |text, removed| {
        let next = markdown::pass(text, purpose, removed);
        points::seen(&next, removed)
    })
}

/// The beginning of a text, at most [`LONGEST`] bytes.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
