//! Others' texts, with nothing in them that a reader can't see.

use std::borrow::Cow;

use bottle_policy::prose::invisible;

/// The text with each character that is shown nowhere, or that changes how others are shown, spelled as `\u{202e}`. Line ends are `\n`.
pub(in crate::report) fn visible(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b'\n' | b'\t' | b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            // It makes a sign such as ⚠ a coloured one; behind a letter, or in a row, it can only hide something.
            '\u{fe0f}' if matches!(before, '\u{2000}'..='\u{2bff}' | '\u{1f000}'..='\u{1ffff}') => shown.push(c),
            c if invisible(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
        before = c;
    }
    Cow::Owned(shown)
}

/// The first `most` bytes of a text, or fewer where a character would be cut.
pub(in crate::report) fn beginning(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A line of JSON with each half of a surrogate pair that stands alone spelled out: `\ud800` is no character, so no reader of
/// JSON takes it into a text.
pub(in crate::report) fn without_lone_surrogates(line: &str) -> String {
    let mut mended = String::with_capacity(line.len() + 8);
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        mended.push_str(&rest[..at]);
        rest = &rest[at..];
        let whole = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                mended.push('\\');
                6
            }
            (Some(_), _) => 6,
            // Any other escape: the backslash and the character behind it.
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&rest[..whole]);
        rest = &rest[whole..];
    }
    mended.push_str(rest);
    mended
}

/// The UTF-16 unit of the escape that begins here.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_spelled_out() {
        for (text, shown) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("a\r\nb\rc", "a\nb\\u{d}c"),
            ("\u{1b}[31mred\u{0}", "\\u{1b}[31mred\\u{0}"),
            ("a\u{202e}b\u{2066}c\u{200b}", "a\\u{202e}b\\u{2066}c\\u{200b}"),
            ("⚠\u{fe0f}!", "⚠\u{fe0f}!"),
            ("⚠\u{fe0f}\u{fe0f}a\u{fe0f}", "⚠\u{fe0f}\\u{fe0f}a\\u{fe0f}"),
            ("ß é 漢 🙂", "ß é 漢 🙂"),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_lone_half_of_a_pair_is_spelled_out() {
        for (json, text) in [
            (r#""\ud83d\ude42 \\ud800 \"\n""#, "🙂 \\ud800 \"\n"),
            (r#""\ud800""#, "\\ud800"),
            (r#""\udc00\ud800x\ud800\u0041""#, "\\udc00\\ud800x\\ud800A"),
        ] {
            let parsed: String = serde_json::from_str(&without_lone_surrogates(json)).expect(json);
            assert_eq!(parsed, text);
        }
        assert_eq!(without_lone_surrogates("\\"), "\\");
        assert_eq!(without_lone_surrogates("\\ß\\u12"), "\\ß\\u12");
    }
}
