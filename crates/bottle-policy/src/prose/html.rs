//! Raw HTML in Markdown: what a reader does not see of it goes, the rest keeps its text.

use super::address::address;
use super::markdown::plain_alt;
use super::{Kind, Link, Purpose, Removed};

/// Elements whose content is not shown, by one forge or another.
const HIDDEN: [&str; 20] = [
    "audio", "canvas", "datalist", "dialog", "head", "iframe", "math", "noembed", "noframes", "noscript", "object",
    "script", "select", "style", "svg", "template", "textarea", "title", "video", "xmp",
];

/// A tag, as a browser reads it.
pub(super) struct Tag<'a> {
    name: &'a str,
    closing: bool,
    attributes: Vec<(&'a str, Option<&'a str>)>,
    /// In bytes, both brackets counted.
    length: usize,
}

impl<'a> Tag<'a> {
    /// The tag at the beginning of a text that starts with `<`; none where it is none or has no end.
    pub(super) fn at(text: &'a str) -> Option<Self> {
        let inner = text.strip_prefix('<')?;
        let closing = inner.starts_with('/');
        let inner = inner.strip_prefix('/').unwrap_or(inner);
        if !inner.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let (name, mut rest) = split(inner, |c| c.is_whitespace() || matches!(c, '/' | '>'));
        let mut attributes = vec![];
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
            if let Some(after) = rest.strip_prefix('>') {
                return Some(Self { name, closing, attributes, length: text.len() - after.len() });
            }
            // A `=` may begin a name; nothing else ends one at once.
            let first = rest.chars().next()?.len_utf8();
            let end = rest[first..].find(|c: char| c.is_whitespace() || matches!(c, '/' | '>' | '='));
            let (key, after) = rest.split_at(end.map_or(rest.len(), |end| first + end));
            let Some(value) = after.trim_start().strip_prefix('=').map(str::trim_start) else {
                attributes.push((key, None));
                rest = after;
                continue;
            };
            let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
            let (value, after) = match quote {
                Some(quote) => value[1..].split_once(quote)?,
                None => split(value, |c| c.is_whitespace() || c == '>'),
            };
            attributes.push((key, Some(value)));
            rest = after;
        }
    }

    /// The name of an element whose content is not shown, if this begins one.
    pub(super) fn hides(&self) -> Option<&'static str> {
        HIDDEN.into_iter().find(|name| !self.closing && self.name.eq_ignore_ascii_case(name))
    }

    /// Whether this ends an element.
    pub(super) fn ends(&self, name: &str) -> bool {
        self.closing && self.name.eq_ignore_ascii_case(name)
    }

    /// The tag with no attribute but an address and a picture's alternative text.
    fn plain(&self, removed: &mut Removed) -> String {
        let mut out = format!("<{}{}", if self.closing { "/" } else { "" }, self.name);
        let is_image = self.name.eq_ignore_ascii_case("img");
        for (key, value) in &self.attributes {
            let is = |name: &str| is_image && key.eq_ignore_ascii_case(name);
            if is("alt") {
                // Without the picture it is what a reader sees.
                let alt = plain_alt(value.unwrap_or_default());
                out.push_str(&if alt.is_empty() { String::new() } else { format!(" alt=\"{alt}\"") });
                continue;
            }
            // Every picture that is pasted at GitHub has its size, which says nothing.
            let is_size = is("width") || is("height");
            if is_size && value.is_some_and(|size| size.bytes().all(|byte| byte.is_ascii_digit())) {
                continue;
            }
            let kept = ["href", "src"].into_iter().find(|kept| key.eq_ignore_ascii_case(kept));
            match (kept, value.and_then(address)) {
                (Some(kept), Some(address)) => out.push_str(&format!(" {kept}=\"{address}\"")),
                (Some(_), None) => removed.count(Kind::Link),
                (None, _) => removed.count(Kind::Attribute),
            }
        }
        out.push('>');
        out
    }
}

/// The addresses of pictures and links in a piece of HTML.
pub(super) fn links(html: &str) -> Vec<Link> {
    let mut found = vec![];
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        let Some(tag) = Tag::at(rest) else {
            rest = &rest[1..];
            continue;
        };
        let value = |name: &str| tag.attributes.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1;
        let is_image = tag.name.eq_ignore_ascii_case("img");
        let at = if is_image { "src" } else { "href" };
        if let Some(address) = value(at).filter(|_| is_image || tag.name.eq_ignore_ascii_case("a")) {
            let label = value("alt").filter(|_| is_image).unwrap_or_default().to_owned();
            found.push(Link { address: address.to_owned(), label, is_image });
        }
        rest = &rest[tag.length..];
    }
    found
}

/// Whether a line is nothing but pictures, at least one of them, each a whole `<img …>`.
pub(super) fn is_pictures(line: &str) -> bool {
    let mut rest = line;
    while let Some(tag) = Tag::at(rest) {
        if tag.closing || !tag.name.eq_ignore_ascii_case("img") {
            return false;
        }
        rest = rest[tag.length..].trim_start();
    }
    rest.is_empty() && !line.is_empty()
}

/// A piece of HTML without what is not shown; in what is posted, with its tags as text.
pub(super) fn clean(html: &str, purpose: Purpose, removed: &mut Removed) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(length) = comment(rest) {
            removed.count(Kind::Comment);
            rest = &rest[length..];
        } else if let Some(tag) = Tag::at(rest) {
            if let Some(name) = tag.hides() {
                removed.count(Kind::Element);
                rest = &rest[end_of(name, rest)..];
                continue;
            }
            if purpose == Purpose::Posting {
                removed.count(Kind::Tag);
                out.push_str("&lt;");
                rest = &rest[1..];
            } else {
                out.push_str(&tag.plain(removed));
                rest = &rest[tag.length..];
            }
        } else if rest[1..].starts_with(|c: char| c == '/' || c.is_ascii_alphabetic()) {
            // A tag without an end swallows all that follows.
            removed.count(Kind::Element);
            rest = "";
        } else {
            out.push_str(if purpose == Purpose::Posting { "&lt;" } else { "<" });
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

/// The length of a comment, an instruction, a declaration or a CDATA section at the beginning of a text.
fn comment(text: &str) -> Option<usize> {
    let to = |from: usize, end: &str| Some(text[from..].find(end).map_or(text.len(), |at| from + at + end.len()));
    if text.starts_with("<!--") {
        // `<!-->` is one, too.
        to(2, "-->")
    } else if text.starts_with("<![CDATA[") {
        to(9, "]]>")
    } else if text.starts_with("<?") {
        to(2, "?>")
    } else if text.starts_with("<!") {
        to(2, ">")
    } else {
        None
    }
}

/// Where an element ends that begins the text: behind its closing tag, else at the end.
fn end_of(name: &str, text: &str) -> usize {
    let mut from = 1;
    while let Some(at) = text[from..].find("</") {
        let at = from + at;
        let (found, _) = split(&text[at + 2..], |c| c.is_whitespace() || matches!(c, '/' | '>'));
        if found.eq_ignore_ascii_case(name) {
            return Tag::at(&text[at..]).map_or(text.len(), |tag| at + tag.length);
        }
        from = at + 2 + found.len();
    }
    text.len()
}

fn split(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}
