//! Entities that spell a character nobody sees, or, in what is posted, one that acts; also encoded more than once.

use super::points::invisible;

/// Those by name: HTML's list, as far as it spells characters of [`invisible`].
const INVISIBLE: [&str; 37] = [
    "shy",
    "ZeroWidthSpace",
    "NegativeVeryThinSpace",
    "NegativeThinSpace",
    "NegativeMediumSpace",
    "NegativeThickSpace",
    "zwnj",
    "zwj",
    "lrm",
    "rlm",
    "NoBreak",
    "ApplyFunction",
    "af",
    "InvisibleTimes",
    "it",
    "InvisibleComma",
    "ic",
    // A symbol with a variation selector.
    "caps",
    "cups",
    "gesl",
    "gvertneqq",
    "gvnE",
    "lates",
    "lesg",
    "lvertneqq",
    "lvnE",
    "smtes",
    "sqcaps",
    "sqcups",
    "varsubsetneq",
    "varsubsetneqq",
    "varsupsetneq",
    "varsupsetneqq",
    "vsubnE",
    "vsubne",
    "vsupnE",
    "vsupne",
];

/// Plain characters by name, as far as a mention, a reference or a command is made of them.
const PLAIN: [(&str, char); 13] = [
    ("nbsp", '\u{a0}'),
    ("NonBreakingSpace", '\u{a0}'),
    ("Tab", '\t'),
    ("NewLine", '\n'),
    ("commat", '@'),
    ("num", '#'),
    ("sol", '/'),
    ("colon", ':'),
    ("excl", '!'),
    ("period", '.'),
    ("lowbar", '_'),
    ("UnderBar", '_'),
    ("quest", '?'),
];

/// What an entity at the beginning of a text stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spells {
    /// A character that nobody sees.
    Nothing,
    /// A plain one.
    Plain(char),
}

/// The entity at the beginning of a text that starts with `&`: its length in bytes, and what it stands for; none where it is
/// none, or one that may stay. `&amp;#8203;` counts, however often the `&` is encoded.
pub(super) fn at(text: &str) -> Option<(usize, Spells)> {
    let mut at = 0;
    let mut rest = text.strip_prefix('&')?;
    loop {
        let before = rest.len();
        let found = one(&mut rest)?;
        at += before - rest.len();
        match found {
            // What follows an encoded `&` may make an entity with it.
            '&' => {}
            c if invisible(c) => return Some((at + 1, Spells::Nothing)),
            c if c.is_ascii_alphanumeric() || c.is_whitespace() || c == '-' => return Some((at + 1, Spells::Plain(c))),
            c if PLAIN.iter().any(|(_, plain)| *plain == c) => return Some((at + 1, Spells::Plain(c))),
            _ => return None,
        }
    }
}

/// What follows a `&`: the character that is meant, with the text moved on behind it.
fn one(text: &mut &str) -> Option<char> {
    let (c, rest) = match text.strip_prefix('#') {
        Some(number) => numeric(number)?,
        None => named(text)?,
    };
    *text = rest.strip_prefix(';').unwrap_or(rest);
    Some(c)
}

fn numeric(text: &str) -> Option<(char, &str)> {
    let (digits, radix) = match text.strip_prefix(['x', 'X']) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    let significant = digits.trim_start_matches('0');
    if digits.is_empty() || significant.len() > 8 {
        return None;
    }
    let number = if significant.is_empty() { 0 } else { u32::from_str_radix(significant, radix).ok()? };
    Some((char::from_u32(number)?, rest))
}

fn named(text: &str) -> Option<(char, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let closed = rest.starts_with(';');
    // HTML knows these two without a semicolon, also when letters follow.
    for (prefix, c) in [("amp", '&'), ("AMP", '&'), ("shy", '\u{ad}')] {
        if let Some(after) = text.strip_prefix(prefix)
            && !(closed && name != prefix)
        {
            return Some((c, after));
        }
    }
    if !closed {
        return None;
    }
    if INVISIBLE.contains(&name) {
        return Some(('\u{200b}', rest));
    }
    PLAIN.iter().find(|(plain, _)| *plain == name).map(|(_, c)| (*c, rest))
}
