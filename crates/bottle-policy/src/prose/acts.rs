//! What would act on the forge if we posted it: mentions, closing keywords, commands.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::edits::Edits;
use super::{Kind, entity};

/// A word that closes, reopens or merges an issue, directly before a reference to one.
static CLOSES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?ix) (?: ^ | [^a-z0-9] )
        (?<word> close[sd]? | fix(?:e[sd])? | resolve[sd]? | reopen(?:s|ed)? | duplicate\s+of )
        (?: [\s:*_~"'(\[<>\\]+
            (?: [\#!]\d | gh-\d | \w[\w.-]*/[\w.-]+[\#!]\d | https?://[^\s)\]>]+/(?:issues|pulls?|merge_requests)/\d )
          | [\#!]\d )"#,
    )
    .ok()
});

/// Says what to change; `code` are the ranges of code, in order.
pub(super) fn find(text: &str, code: &[Range<usize>], edits: &mut Edits) {
    let in_code = |at: usize| {
        let after = code.partition_point(|range| range.start <= at);
        code[..after].last().is_some_and(|range| range.contains(&at))
    };
    mentions(text, in_code, edits);
    for found in CLOSES.iter().flat_map(|regex| regex.captures_iter(text)) {
        if let Some(word) = found.name("word").filter(|word| !in_code(word.start())) {
            // What was put in must not become part of the reference.
            let with = if text[word.end()..].starts_with('_') { " issue " } else { " issue" };
            edits.replace(word.end()..word.end(), with, Kind::Keyword);
        }
    }
    commands(text, in_code, edits);
}

fn mentions(text: &str, in_code: impl Fn(usize) -> bool, edits: &mut Edits) {
    for (at, _) in text.match_indices('@') {
        let before = text[..at].chars().next_back();
        let after = text[at + 1..].chars().next();
        if after.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
            && !before.is_some_and(|c| c.is_ascii_alphanumeric())
            && !in_code(at)
        {
            // An address keeps its meaning with the sign encoded; elsewhere the wide form reads the same.
            let with = if in_an_address(&text[..at]) { "%40" } else { "\u{ff20}" };
            edits.replace(at..at + 1, with, Kind::Mention);
        }
    }
}

/// Whether the word that ends here has been an address so far; one longer than forges take is none.
fn in_an_address(before: &str) -> bool {
    let mut start = before.len().saturating_sub(2000);
    while !before.is_char_boundary(start) {
        start += 1;
    }
    before[start..].rsplit(char::is_whitespace).next().is_some_and(|word| word.contains("://"))
}

/// Bots read the source: a line of it that begins with a slash is a command to them, in code as well.
fn commands(text: &str, in_code: impl Fn(usize) -> bool, edits: &mut Edits) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let at = start;
        start += line.len();
        let marks = line.trim_start_matches(|c: char| {
            c.is_whitespace() || c.is_ascii_digit() || matches!(c, '>' | '-' | '+' | '*' | '.' | ')')
        });
        let slash = at + line.len() - marks.len();
        if !marks.starts_with('/') || !marks[1..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        if !in_code(slash) {
            edits.replace(slash..slash, "\\", Kind::Command);
        } else if slash == at && !is_path(&marks[1..]) {
            edits.replace(slash..slash, " ", Kind::Command);
        }
    }
}

/// Whether a text goes on as a path does behind its first slash.
fn is_path(text: &str) -> bool {
    text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).starts_with('/')
}

/// Entities that spell plain characters, so that no mention hides in them.
pub(super) fn plain(spells: &entity::Spells) -> Option<char> {
    match spells {
        entity::Spells::Plain(c) => Some(*c),
        entity::Spells::Nothing => None,
    }
}
