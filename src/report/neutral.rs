//! Others' words, made harmless where we post them: no mention, no command, no closing of issues, no hidden text.
//!
//! One place for everything that is posted; what it does is `bottle_plan::prose`.

use bottle_plan::prose;

/// A text on one line that can't break out of where it stands, with nothing in it that a forge or another bot acts on.
/// Markup in it stays as it is written: a title is no Markdown.
pub(crate) fn neutral(text: &str) -> String {
    prose::line_for_posting(text).text
}

/// The same for Markdown of several lines, which stays Markdown.
pub(crate) fn neutral_text(text: &str) -> String {
    prose::for_posting(text).text
}

#[cfg(test)]
mod tests {
    use super::neutral;

    #[test]
    fn nothing_in_it_is_acted_on() {
        for (text, wrong) in [
            ("ask @octocat", "@o"),
            ("Fixes #12", "Fixes #"),
            ("/claude fix this", "\n/"),
            ("a\n/approve", "\n"),
            ("a\u{202e}b\u{200b}\u{e0041}c", "\u{202e}"),
        ] {
            assert!(!neutral(text).contains(wrong), "{text:?}: {}", neutral(text));
        }
        assert!(!neutral("/claude fix").starts_with('/'));
    }
}
