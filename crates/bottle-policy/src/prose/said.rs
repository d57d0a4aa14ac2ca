//! Where in a text its writer speaks to the reader, line by line: not in quotes, code, HTML, tables or footnotes.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::html;

/// The beginnings of the lines in which a text's writer speaks, as offsets in bytes, in order; a line's indentation is
/// skipped. Nothing behind [`super::LONGEST`] is looked at. A line that is shown inside something else (a quote, code, a hidden element) has none.
pub fn lines(text: &str) -> Vec<usize> {
    let text = super::cut(text);
    let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH;
    let mut starts = vec![];
    // How deep in what other people said, or in what is no speech.
    let mut aside = 0_u32;
    let mut hidden: Option<&str> = None;
    let mut fresh = false;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(Tag::BlockQuote(_) | Tag::FootnoteDefinition(_) | Tag::Table(_)) => aside += 1,
            Event::End(TagEnd::BlockQuote(_) | TagEnd::FootnoteDefinition | TagEnd::Table) => {
                aside = aside.saturating_sub(1);
            }
            Event::Start(Tag::Paragraph | Tag::Heading { .. } | Tag::Item) => (fresh, hidden) = (true, None),
            Event::SoftBreak | Event::HardBreak => fresh = true,
            Event::InlineHtml(_) => {
                fresh = false;
                let Some(tag) = html::Tag::at(&text[range]) else { continue };
                match hidden {
                    Some(name) if tag.ends(name) => hidden = None,
                    Some(_) => {}
                    None => hidden = tag.hides(),
                }
            }
            Event::Start(Tag::HtmlBlock) => {
                fresh = false;
                if aside == 0 && hidden.is_none() {
                    starts.extend(below_pictures(text, range));
                }
            }
            Event::Start(Tag::CodeBlock(_)) => fresh = false,
            Event::Text(_) => {
                if fresh && aside == 0 && hidden.is_none() && begins_its_line(text, range.start) {
                    starts.push(range.start);
                }
                fresh = false;
            }
            Event::Start(_) | Event::Code(_) => fresh = false,
            _ => {}
        }
    }
    starts
}

/// The lines behind the pictures with which a block of HTML begins: forges write a picture that was pasted as a line with one tag, and for
/// CommonMark that line and all up to the next blank one are HTML. A line with a tag ends them, and so does one that looks like code.
fn below_pictures(text: &str, block: Range<usize>) -> Vec<usize> {
    let mut starts = vec![];
    let mut at = block.start;
    let mut pictures = 0;
    for line in text[block].split_inclusive('\n') {
        let start = at + (line.len() - line.trim_start_matches(' ').len());
        at += line.len();
        if starts.is_empty() && html::is_pictures(line.trim()) {
            pictures += 1;
            continue;
        }
        let inner = line.trim_start_matches(' ');
        let code = line.len() - inner.len() > 3 || inner.starts_with(['\t', '`', '~']);
        if pictures == 0 || line.contains('<') || code {
            break;
        }
        if !line.trim().is_empty() {
            starts.push(start);
        }
    }
    starts
}

fn begins_its_line(text: &str, at: usize) -> bool {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    text[line..at].bytes().all(|b| matches!(b, b' ' | b'\t'))
}
