//! Characters that nobody sees.

use super::{Kind, Removed};

/// Whether a character is shown nowhere, or changes how others are shown: control characters except tab and line feed,
/// Unicode's default-ignorable code points (zero width, soft hyphen, bidi controls, variation selectors, tags …),
/// line and paragraph separators, interlinear annotation, noncharacters.
pub fn invisible(c: char) -> bool {
    if c.is_control() {
        return !matches!(c, '\n' | '\t');
    }
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' | '\u{fdd0}'..='\u{fdef}')
        || u32::from(c) & 0xfffe == 0xfffe
}

/// The text without them, its lines ended by `\n`, and without what sets a terminal's colours.
pub(super) fn seen(text: &str, removed: &mut Removed) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                if chars.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            '\u{2028}' | '\u{2029}' => {
                removed.count(Kind::Invisible);
                out.push('\n');
            }
            '\u{1b}' => {
                removed.count(Kind::Invisible);
                colour(&mut chars);
            }
            c if invisible(c) => removed.count(Kind::Invisible),
            c => out.push(c),
        }
    }
    out
}

/// The rest of a terminal's control sequence behind its escape character: `[31m`.
fn colour(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    if chars.next_if_eq(&'[').is_some() {
        while chars.next_if(|c| c.is_ascii_digit() || matches!(c, ';' | ':' | '?')).is_some() {}
        chars.next_if(char::is_ascii_alphabetic);
    }
}
