//! Where in a text code, HTML, links and images are, as CommonMark has it, and what is changed there.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, LinkType, OffsetIter, Options, Parser, Tag, TagEnd};

use super::address::address;
use super::edits::Edits;
use super::{Kind, Purpose, Removed, acts, entity, html};

/// Cleans once. What is left may mean something else than before, so it is cleaned until nothing changes.
pub(super) fn pass(text: &str, purpose: Purpose, removed: &mut Removed) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH;
    let events = Parser::new_ext(text, options).into_offset_iter();
    let mut walk = Walk::new(text, purpose);
    walk.definitions(&events);
    for (event, range) in events {
        walk.event(event, range);
    }
    walk.end();
    let Walk { mut edits, mut code, .. } = walk;
    code.sort_by_key(|range| range.start);
    entities(text, purpose, &code, &mut edits);
    if purpose == Purpose::Posting {
        acts::find(text, &code, &mut edits);
    }
    edits.apply(text, removed)
}

/// A link that has begun.
struct Link {
    range: Range<usize>,
    kind: LinkType,
    address: Option<String>,
    titled: bool,
    /// Where its text ends; none where it has none.
    text_end: Option<usize>,
}

/// An image that has begun.
struct Image {
    range: Range<usize>,
    address: Option<String>,
    titled: bool,
    /// The alternative text so far, without markup.
    alt: String,
}

struct Walk<'a> {
    text: &'a str,
    purpose: Purpose,
    edits: Edits,
    code: Vec<Range<usize>>,
    links: Vec<Link>,
    images: Vec<Image>,
    /// An element that is not shown, and where it began.
    hidden: Option<(&'static str, usize)>,
    /// Where the last cell of a table ends.
    cell_end: usize,
    notes: Vec<(String, Range<usize>)>,
    noted: Vec<String>,
}

impl<'a> Walk<'a> {
    fn new(text: &'a str, purpose: Purpose) -> Self {
        Self {
            text,
            purpose,
            edits: Edits::default(),
            code: vec![],
            links: vec![],
            images: vec![],
            hidden: None,
            cell_end: 0,
            notes: vec![],
            noted: vec![],
        }
    }

    /// Links by reference are written out where they are used; a definition itself is shown nowhere.
    fn definitions(&mut self, events: &OffsetIter<'_>) {
        for (_, definition) in events.reference_definitions().iter() {
            self.edits.take_out(definition.span.clone(), Kind::Definition);
        }
    }

    fn event(&mut self, event: Event<'_>, range: Range<usize>) {
        if let Event::End(TagEnd::Link) = event {
            if let Some(link) = self.links.pop() {
                self.link(&link);
            }
            return;
        }
        if let Some(link) = self.links.last_mut() {
            link.text_end = Some(link.text_end.unwrap_or_default().max(range.end));
        }
        if let Some(image) = self.images.last_mut() {
            match &event {
                Event::Text(text) | Event::Code(text) => image.alt.push_str(text),
                Event::SoftBreak | Event::HardBreak => image.alt.push(' '),
                _ => {}
            }
        }
        match event {
            Event::End(TagEnd::Image) => self.image(),
            Event::Code(_) => self.code.push(range),
            Event::Text(_) if self.purpose == Purpose::Posting => self.words(range),
            Event::InlineHtml(_) => self.inline_html(range),
            Event::FootnoteReference(label) => self.noted.push(label.to_lowercase()),
            Event::Start(tag) => self.start(tag, range),
            Event::End(TagEnd::TableRow) => self.row(range),
            Event::End(TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::TableCell | TagEnd::Item) => {
                if let Some((_, start)) = self.hidden.take() {
                    self.edits.take_out(start..range.end.max(start), Kind::Element);
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>, range: Range<usize>) {
        match tag {
            Tag::CodeBlock(kind) => {
                if let CodeBlockKind::Fenced(_) = kind {
                    self.fence(range.clone());
                }
                self.code.push(range);
            }
            Tag::HtmlBlock => self.html(range),
            Tag::TableCell => self.cell_end = range.end,
            Tag::FootnoteDefinition(label) => self.notes.push((label.to_lowercase(), range)),
            Tag::Image { dest_url, title, .. } => self.images.push(Image {
                range,
                address: address(&dest_url),
                titled: !title.is_empty(),
                alt: String::new(),
            }),
            Tag::Link { link_type, dest_url, title, .. } => self.links.push(Link {
                range,
                kind: link_type,
                address: address(&dest_url),
                titled: !title.is_empty(),
                text_end: None,
            }),
            _ => {}
        }
    }

    fn end(&mut self) {
        if let Some((_, start)) = self.hidden.take() {
            self.edits.take_out(start..self.text.len(), Kind::Element);
        }
        for (label, range) in std::mem::take(&mut self.notes) {
            if !self.noted.contains(&label) {
                self.edits.take_out(range, Kind::Definition);
            }
        }
    }

    /// What is no tag here may become one beside what it is posted with.
    fn words(&mut self, range: Range<usize>) {
        if self.code.last().is_some_and(|code| code.contains(&range.start)) {
            return;
        }
        for (at, _) in self.text[range.clone()].match_indices('<') {
            let at = range.start + at;
            if self.text[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
                self.edits.replace(at..at + 1, "&lt;", Kind::Tag);
            }
        }
    }

    fn html(&mut self, range: Range<usize>) {
        let mut removed = Removed::default();
        let clean = html::clean(&self.text[range.clone()], self.purpose, &mut removed);
        if clean != self.text[range.clone()] {
            self.edits.add(range, clean, removed);
        }
    }

    /// One tag or comment between words.
    fn inline_html(&mut self, range: Range<usize>) {
        let tag = html::Tag::at(&self.text[range.clone()]);
        match (self.hidden, tag.as_ref().and_then(html::Tag::hides)) {
            (Some((name, start)), _) => {
                if tag.is_some_and(|tag| tag.ends(name)) {
                    self.edits.take_out(start..range.end, Kind::Element);
                    self.hidden = None;
                }
            }
            (None, Some(name)) => self.hidden = Some((name, range.start)),
            (None, None) => self.html(range),
        }
    }

    /// Cells beyond the table's columns are not shown.
    fn row(&mut self, range: Range<usize>) {
        let start = self.cell_end.max(range.start);
        let rest = self.text.get(start..range.end).unwrap_or_default();
        let kept = rest.len() - rest.trim_start_matches(['|', ' ']).len();
        if !rest[kept..].trim().is_empty() {
            let end = start + rest.trim_end_matches('\n').len();
            self.edits.replace(start..end, "|", Kind::Element);
        }
    }

    /// Behind the fence only the language's name is shown, by its colours.
    fn fence(&mut self, range: Range<usize>) {
        let block = &self.text[range.clone()];
        let line = block.split('\n').next().unwrap_or_default();
        let Some(open) = line.find(['`', '~']) else { return };
        let info = line[open..].trim_start_matches(['`', '~']);
        let word: String = info.split_whitespace().next().unwrap_or_default().chars().take(30).collect();
        let word =
            if word.chars().all(|c| c.is_ascii_alphanumeric() || "+#._-".contains(c)) { word } else { String::new() };
        if info.trim() != word {
            let end = range.start + line.len();
            self.edits.replace(end - info.len()..end, &word, Kind::Attribute);
        }
    }

    /// In a prompt the alternative text stays, as text: whoever does not see the picture reads it.
    fn image(&mut self) {
        let Some(Image { range, address, titled, alt }) = self.images.pop() else { return };
        let Some(address) = address else {
            self.edits.take_out(range, Kind::Link);
            return;
        };
        let source = &self.text[range.clone()];
        let has_alt = !source.starts_with("![]");
        let kept = if self.purpose == Purpose::Prompt { plain_alt(&alt) } else { String::new() };
        let plain = format!("![{kept}]({address})");
        if source == plain || (source.starts_with(&format!("![{kept}](")) && !titled) {
            return;
        }
        let mut removed = Removed::default();
        if has_alt && kept.is_empty() {
            removed.count(Kind::AltText);
        }
        if titled {
            removed.count(Kind::Title);
        }
        self.edits.add(range, plain, removed);
    }

    fn link(&mut self, link: &Link) {
        let Link { range, kind, .. } = link;
        if *kind == LinkType::Email {
            return;
        }
        if *kind == LinkType::Autolink {
            if link.address.is_none() {
                self.edits.take_out(range.start..range.start + 1, Kind::Link);
                self.edits.take_out(range.end - 1..range.end, Kind::Link);
            }
            return;
        }
        // Without text nobody sees it.
        let Some(end) = link.text_end else {
            self.edits.take_out(range.clone(), Kind::Link);
            return;
        };
        let tail = self.text[end..range.end].find(']').map_or(range.end, |at| end + at)..range.end;
        match &link.address {
            None => {
                self.edits.take_out(range.start..range.start + 1, Kind::Link);
                self.edits.replace(tail, "", Kind::Link);
            }
            Some(address) if *kind != LinkType::Inline => {
                self.edits.replace(tail, &format!("]({address})"), Kind::Definition);
            }
            Some(address) if link.titled => self.edits.replace(tail, &format!("]({address})"), Kind::Title),
            Some(_) => {}
        }
    }
}

/// An alternative text on one line, without what could end it or begin markup.
pub(super) fn plain_alt(text: &str) -> String {
    let plain = |c: char| if c.is_whitespace() || "[]<>`|\\\"".contains(c) { ' ' } else { c };
    text.chars().map(plain).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Entities outside code.
fn entities(text: &str, purpose: Purpose, code: &[Range<usize>], edits: &mut Edits) {
    let mut code = code.iter().peekable();
    for (at, _) in text.match_indices('&') {
        while code.peek().is_some_and(|range| range.end <= at) {
            code.next();
        }
        if code.peek().is_some_and(|range| range.contains(&at)) {
            continue;
        }
        let Some((length, spells)) = entity::at(&text[at..]) else { continue };
        match acts::plain(&spells) {
            None => edits.take_out(at..at + length, Kind::Entity),
            Some(c) if purpose == Purpose::Posting => edits.replace(at..at + length, &c.to_string(), Kind::Entity),
            Some(_) => {}
        }
    }
}
