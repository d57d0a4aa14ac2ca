//! The addresses that a reader of a text can follow.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::html;

/// An address in a text, as it is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Absolute or relative; whatever it leads to.
    pub address: String,
    /// The link's or the image's text; empty for an address that stands alone.
    pub label: String,
    /// Whether it is an image.
    pub is_image: bool,
}

/// Gives the addresses of links and images, of `<img>` and `<a>`, and those that stand alone, in their order. Code has none.
pub fn links(text: &str) -> Vec<Link> {
    let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH;
    let (mut found, mut open, mut words, mut in_code) = (vec![], vec![], String::new(), false);
    for event in Parser::new_ext(text, options) {
        if let Event::Text(text) | Event::Code(text) = &event {
            open.iter_mut().for_each(|link: &mut Link| link.label.push_str(text));
        }
        match event {
            // CommonMark's parser cuts a word at each character that could be markup.
            Event::Text(text) if !in_code => {
                words.push_str(&text);
                continue;
            }
            Event::Start(Tag::CodeBlock(_)) => in_code = true,
            Event::End(TagEnd::CodeBlock) => in_code = false,
            Event::Start(Tag::Link { dest_url, .. }) => {
                open.push(Link { address: dest_url.into_string(), label: String::new(), is_image: false });
            }
            Event::Start(Tag::Image { dest_url, .. }) => {
                open.push(Link { address: dest_url.into_string(), label: String::new(), is_image: true });
            }
            Event::End(TagEnd::Link | TagEnd::Image) => found.extend(open.pop()),
            Event::Html(html) | Event::InlineHtml(html) => found.extend(html::links(&html)),
            _ => {}
        }
        alone(&std::mem::take(&mut words), &mut found);
    }
    alone(&words, &mut found);
    found
}

/// The addresses among words.
fn alone(words: &str, found: &mut Vec<Link>) {
    let mut rest = words;
    while let Some(at) = rest.find("http") {
        rest = &rest[at..];
        let end = rest.find(|c: char| c.is_whitespace() || "<>\"'()[]{}|\\^`".contains(c)).unwrap_or(rest.len());
        let (address, after) = rest.split_at(end);
        if ["https://", "http://"].iter().any(|scheme| address.starts_with(scheme)) {
            let address = address.trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '_', '~']);
            found.push(Link { address: address.to_owned(), label: String::new(), is_image: false });
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_can_follow_is_found_and_code_is_not() {
        for (text, expected) in [
            ("![a *b*](https://e.org/i.png)", "https://e.org/i.png a b image"),
            ("[a `b`](/attachments/x) c", "/attachments/x a b"),
            ("[![a](https://e.org/i)](https://e.org/p)", "https://e.org/i a image, https://e.org/p a"),
            (
                "see https://e.org/files/1/my_log_file.txt, or http://e.org.",
                "https://e.org/files/1/my_log_file.txt, http://e.org",
            ),
            ("<https://e.org/x>", "https://e.org/x https://e.org/x, https://e.org/x"),
            ("<img width=\"8\" alt=\"a b\" src=\"https://e.org/i\" />", "https://e.org/i a b image"),
            ("x <img src='https://e.org/i'> <a href=https://e.org/p>y</a>", "https://e.org/i image, https://e.org/p"),
            ("`https://e.org/x` and `![a](https://e.org/i)`", ""),
            ("```\nhttps://e.org/x\n![a](https://e.org/i)\n```", ""),
            ("    https://e.org/x\n", ""),
            ("httpx://e.org https:/e.org http", ""),
        ] {
            let told = |link: Link| {
                let image = if link.is_image { "image" } else { "" };
                let words = [link.address.as_str(), link.label.as_str(), image];
                words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
            };
            let found: Vec<String> = links(text).into_iter().map(told).collect();
            assert_eq!(found.join(", "), expected, "{text}");
        }
    }
}
