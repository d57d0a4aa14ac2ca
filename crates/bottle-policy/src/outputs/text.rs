//! Whether a text of an output may be posted as it stands.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag};

use super::OutputRefusal;
use crate::prose;

/// The longest comment, review or issue, in bytes; with it a call fits into the door's largest request.
pub const LONGEST_BODY: usize = 40 << 10;
/// The longest remark or suggestion, in bytes.
pub const LONGEST_REMARK: usize = 8 << 10;
/// The longest summary of a check, in bytes; a commit status of GitHub's takes 140 characters.
pub const LONGEST_SUMMARY: usize = 140;

/// One line that may be posted as it stands, where it is shown as it is written.
pub(super) fn line(what: &'static str, text: &str, most: usize) -> Result<String, OutputRefusal> {
    if text.len() > most {
        return Err(OutputRefusal::TooLong { what, most });
    }
    if text.contains(|c: char| c.is_control()) {
        return Err(OutputRefusal::NotOneLine(what));
    }
    let clean = prose::line_for_posting(text);
    if !clean.removed.is_empty() {
        return Err(OutputRefusal::Acts { what, removed: clean.removed });
    }
    if clean.text.is_empty() { Err(OutputRefusal::Empty(what)) } else { Ok(clean.text) }
}

/// Whether there is something in a line that a reader's program may take for an address.
pub(super) fn has_address(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["://", "www.", "mailto:"].iter().any(|mark| line.contains(mark))
}

/// Markdown that may be posted as it stands.
pub(super) fn words(what: &'static str, text: &str, most: usize) -> Result<String, OutputRefusal> {
    if text.len() > most {
        return Err(OutputRefusal::TooLong { what, most });
    }
    let clean = prose::for_posting(text.trim());
    if !clean.removed.is_empty() {
        return Err(OutputRefusal::Acts { what, removed: clean.removed });
    }
    if clean.text.trim().is_empty() { Err(OutputRefusal::Empty(what)) } else { Ok(clean.text) }
}

/// Lines of code that may be posted as they stand.
pub(super) fn code(text: &str) -> Result<String, OutputRefusal> {
    if text.len() > LONGEST_REMARK {
        return Err(OutputRefusal::TooLong { what: "suggestion", most: LONGEST_REMARK });
    }
    let text = text.strip_suffix('\n').unwrap_or(text);
    let clean = prose::code_for_prompt(text);
    if !clean.removed.is_empty() {
        return Err(OutputRefusal::Acts { what: "suggestion", removed: clean.removed });
    }
    Ok(clean.text)
}

/// Whether a block of code in a text would be a suggestion.
pub(super) fn suggests(text: &str) -> bool {
    Parser::new(text).any(|event| match event {
        Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
            info.trim().to_lowercase().starts_with("suggestion")
        }
        _ => false,
    })
}
