//! Others' words, made harmless where we post them: no mention, no command, no closing of issues, no hidden text.
//!
//! One function in one place, for everything that is posted.

/// The text with nothing in it that a forge or another bot acts on; it reads the same.
pub(crate) fn neutral(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for (at, line) in text.lines().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        neutral_line(line, &mut out);
    }
    out
}

/// The same on one line that can't break out of where it stands.
pub(super) fn neutral_one_line(text: &str) -> String {
    let line =
        text.split(char::is_control).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    neutral(&line)
}

/// Breaks what would be acted on, and shows nothing.
const BREAK: char = '\u{200b}';
/// With these before it, GitHub and Gitea close the issue that is named next.
const KEYWORDS: [&str; 12] = [
    "close",
    "closes",
    "closed",
    "closing",
    "fix",
    "fixes",
    "fixed",
    "fixing",
    "resolve",
    "resolves",
    "resolved",
    "resolving",
];

fn neutral_line(line: &str, out: &mut String) {
    let line: String = line.chars().filter(|c| !is_hidden(*c)).collect();
    // A line that begins so is a command to more bots than one.
    if line.trim_start().starts_with('/') {
        out.push(BREAK);
    }
    let mut word = String::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_ascii_alphabetic() {
            word.push(c);
            if chars.peek().is_some_and(char::is_ascii_alphabetic) {
                continue;
            }
            push_word(&word, out);
            word.clear();
            continue;
        }
        match c {
            // No markup, and with it no comment that could pass for one of our marks.
            '<' => out.push_str("&lt;"),
            '@' | '#' | '!' => {
                out.push(c);
                if chars.peek().is_some_and(|next| next.is_alphanumeric()) {
                    out.push(BREAK);
                }
            }
            c => out.push(c),
        }
    }
}

fn push_word(word: &str, out: &mut String) {
    let lower = word.to_ascii_lowercase();
    match word.chars().next() {
        Some(first) if KEYWORDS.contains(&lower.as_str()) || lower == "gh" => {
            out.push(first);
            out.push(BREAK);
            out.push_str(&word[first.len_utf8()..]);
        }
        _ => out.push_str(word),
    }
}

/// Characters that show nothing or turn the text around.
fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_is_acted_on() {
        for (text, wanted) in [
            ("ask @octocat", "ask @\u{200b}octocat"),
            ("me@", "me@"),
            ("Fixes #12", "F\u{200b}ixes #\u{200b}12"),
            ("closes: octo-org/app#12", "c\u{200b}loses: octo-org/app#\u{200b}12"),
            ("resolved GH-12 and !7", "r\u{200b}esolved G\u{200b}H-12 and !\u{200b}7"),
            ("/claude fix this", "\u{200b}/claude f\u{200b}ix this"),
            ("a\n  /approve", "a\n\u{200b}  /approve"),
            ("<!-- claude-bottle -->", "&lt;!-- claude-bottle -->"),
            ("a\u{202e}b\u{200b}\u{e0041}c", "abc"),
            ("a prefix, disclosed", "a prefix, disclosed"),
        ] {
            assert_eq!(neutral(text), wanted, "{text:?}");
        }
        assert_eq!(neutral_one_line("a\r\n# b\u{7}"), "a # b");
    }
}
