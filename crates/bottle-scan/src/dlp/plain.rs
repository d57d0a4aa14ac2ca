//! What a reader makes of bytes: escapes undone, NUL bytes dropped, and characters that only look like others folded
//! into those.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use super::{hints, short_cuts};

/// A secret that has something to undo in it begins at most so far before it, and ends so far behind it.
const BEFORE: usize = 600;
const BEHIND: usize = 1200;
/// So near to another, a place needs no look of its own.
pub(super) const NEAR: usize = 100;

/// The parts of the bytes in which something could be hidden, each with where it begins and ends and with one layer undone.
///
/// Percent escapes, JSON's and JavaScript's (`\u0041`, `\u{41}`, `\x41`, `\/`), C's and the shell's (`\101`), HTML's (`&#65;`, `&#x41;`), quoted-printable's
/// soft line breaks and hex, UTF-16 and UTF-32 of plain text; full-width letters and the like by Unicode's NFKD, letters
/// of other scripts that look the same, and characters that can't be seen.
pub(super) fn plain(bytes: &[u8], hints: &[u8]) -> Vec<(usize, usize, Vec<u8>)> {
    let undo = |(from, to): (usize, usize)| {
        let part = &bytes[from..to];
        let mut out = undone(part);
        if !out.is_ascii()
            && let Some(folded) = folded(&out)
        {
            out = folded;
        }
        (out != part).then_some((from, to, out))
    };
    parts_around(places(bytes, hints), bytes.len()).into_iter().filter_map(undo).collect()
}

/// The parts around these places; those that touch are one.
fn parts_around(mut places: Vec<usize>, length: usize) -> Vec<(usize, usize)> {
    let mut parts: Vec<(usize, usize)> = vec![];
    places.sort_unstable();
    for at in places {
        let (from, to) = (at.saturating_sub(BEFORE), (at + BEHIND).min(length));
        match parts.last_mut() {
            Some((_, end)) if *end >= from => *end = to,
            _ => parts.push((from, to)),
        }
    }
    parts
}

/// Where something is that could be undone; of places near to each other, the first is enough.
fn places(bytes: &[u8], hints: &[u8]) -> Vec<usize> {
    let mut found: Vec<usize> = vec![];
    // A line that goes on is cut in the middle of a word; where something is set, there is a blank.
    let cut = |at: usize| {
        at.checked_sub(1).is_some_and(|before| bytes[before].is_ascii_alphanumeric() || b"_-".contains(&bytes[before]))
    };
    let (mut next_escape, mut next_nul) = (0, 0);
    for (piece, hints) in hints.iter().enumerate() {
        let from = piece * hints::PIECE;
        if hints & (hints::ESCAPE | hints::NUL) == 0 {
            continue;
        }
        for at in from..bytes.len().min(from + hints::PIECE) {
            match bytes[at..] {
                [b'%' | b'\\' | b'&', ..]
                    if at >= next_escape && escape(&bytes[at..]).is_some_and(|(_, _, hiding)| hiding) =>
                {
                    found.push(at);
                    next_escape = at + NEAR;
                }
                [b'=', b'\n', ..] | [b'=', b'\r', b'\n', ..] if cut(at) => found.push(at),
                [b'=', ..] if at >= next_escape && are_quoted(&bytes[at..]) => {
                    found.push(at);
                    next_escape = at + NEAR;
                }
                [0, ref after @ ..] => {
                    let alone = at == 0 || bytes[at - 1] != 0 || after.first().is_some_and(|byte| *byte != 0);
                    if alone && at >= next_nul && stands_in_text(bytes, at) {
                        found.push(at);
                        next_nul = at + NEAR;
                    }
                }
                _ => {}
            }
        }
    }
    if hints.iter().any(|hints| hints & hints::WIDE != 0) {
        strange(bytes, &mut found);
    }
    found
}

/// A shorter stretch of UTF-8 between bytes that are none is chance.
pub(super) const STRETCH: usize = 16;

/// Whether a NUL byte has text on both sides, which may be wide itself.
fn stands_in_text(bytes: &[u8], at: usize) -> bool {
    let text = |byte: &&u8| **byte == 0 || byte.is_ascii_graphic();
    let before = &bytes[at.saturating_sub(4)..at];
    let behind = &bytes[at + 1..bytes.len().min(at + 5)];
    let some = |part: &[u8]| part.iter().any(|byte| *byte != 0);
    (before.iter().filter(text).count() >= 3 || at < 4)
        && (behind.iter().filter(text).count() >= 3 || behind.len() < 4)
        && (some(before) || some(behind))
}

/// Where characters are that are read as others.
pub(super) fn strange(bytes: &[u8], found: &mut Vec<usize>) {
    let (mut base, mut next) = (0, 0);
    while let Some(first) = bytes[base..].first_chunk::<STRETCH>() {
        if let Some(behind) = last_break(first).filter(|_| !short_cuts::are_off()) {
            base += behind;
            continue;
        }
        // Faster than `utf8_chunks` by far where most is ASCII.
        let (text, invalid) = match std::str::from_utf8(&bytes[base..]) {
            Ok(text) => (text, 0),
            Err(error) => {
                let valid = &bytes[base..base + error.valid_up_to()];
                let rest = bytes.len() - base - valid.len();
                (std::str::from_utf8(valid).unwrap_or_default(), error.error_len().unwrap_or(rest))
            }
        };
        // In noise no stretch of UTF-8 is long.
        if text.len() >= STRETCH {
            let raw = text.as_bytes();
            let mut at = 0;
            while let Some(wide) = first_wide(raw, at) {
                let Some(char) = text[wide..].chars().next() else { break };
                let width = char.len_utf8();
                if base + wide >= next && is_strange(char, raw, wide, width) {
                    found.push(base + wide);
                    next = base + wide + NEAR;
                }
                at = wide + width;
            }
        }
        base += text.len() + invalid;
    }
}

/// The last of these bytes that can't follow the one before it in UTF-8: a stretch that is long enough begins there or later.
fn last_break(bytes: &[u8; STRETCH]) -> Option<usize> {
    let continues = |byte: u8| byte & 0xc0 == 0x80;
    (1..STRETCH).rev().find(|at| {
        let (before, byte) = (bytes[at - 1], bytes[*at]);
        if before < 0x80 { continues(byte) } else { before >= 0xc0 && !continues(byte) }
    })
}

/// The first byte from here on that is not ASCII.
fn first_wide(bytes: &[u8], mut at: usize) -> Option<usize> {
    while bytes.get(at..at + STRETCH).is_some_and(<[u8]>::is_ascii) {
        at += STRETCH;
    }
    bytes.get(at..)?.iter().position(|byte| *byte >= 0x80).map(|step| at + step)
}

/// Whether a character is read as one of ASCII, or not seen at all.
pub(super) fn is_strange(char: char, text: &[u8], at: usize, width: usize) -> bool {
    let beside = |index: Option<usize>| index.and_then(|index| text.get(index)).is_some_and(u8::is_ascii_alphanumeric);
    match char {
        // Letters with an accent, letters in a circle, full-width and mathematical ones.
        '\u{a0}'..='\u{24f}'
        | '\u{1d00}'..='\u{1eff}'
        | '\u{2070}'..='\u{209f}'
        | '\u{2100}'..='\u{218f}'
        | '\u{2460}'..='\u{24ff}'
        | '\u{fb00}'..='\u{fb06}'
        | '\u{fe50}'..='\u{fe6f}'
        | '\u{ff01}'..='\u{ff5e}'
        | '\u{1d400}'..='\u{1d7ff}'
        | '\u{1f100}'..='\u{1f1ff}' => {
            // A word of another language has at most a few of them, and a token none.
            char > '\u{24f}' || beside(at.checked_sub(1)) || beside(Some(at + width))
        }
        char if unseen(char) || is_combining_mark(char) => {
            beside(at.checked_sub(1)) || beside(Some(at + width)) || unseen(char)
        }
        // Another script is no disguise by itself: only where it is mixed with ours.
        char => (beside(at.checked_sub(1)) || beside(Some(at + width))) && alike(char) != char,
    }
}

/// The character that is meant, how many bytes stand for it, and whether it could have been written as it is.
fn escape(bytes: &[u8]) -> Option<(u32, usize, bool)> {
    let number = |digits: &[u8], radix: u32| {
        let text = std::str::from_utf8(digits).ok().filter(|text| !text.is_empty() && !text.starts_with('+'))?;
        u32::from_str_radix(text, radix).ok()
    };
    let until = |from: usize, end: u8| {
        let rest = bytes.get(from..bytes.len().min(from + 8))?;
        rest.iter().position(|byte| *byte == end).map(|length| (from, from + length))
    };
    match bytes {
        // What JavaScript's `escape` gives.
        [b'%', b'u', ..] => Some((number(bytes.get(2..6)?, 16)?, 6, true)),
        [b'\\', b'U', ..] => Some((number(bytes.get(2..10)?, 16)?, 10, true)),
        [b'%', high, low, ..] => Some((number(&[*high, *low], 16)?, 3, true)),
        [b'\\', b'u', b'{', ..] => {
            let (from, to) = until(3, b'}')?;
            Some((number(&bytes[from..to], 16)?, to + 1, true))
        }
        [b'\\', b'u', ..] => Some((number(bytes.get(2..6)?, 16)?, 6, true)),
        [b'\\', b'x', ..] => Some((number(bytes.get(2..4)?, 16)?, 4, true)),
        [b'\\', b'/', ..] => Some((u32::from(b'/'), 2, true)),
        [b'\\', b'0'..=b'3', b'0'..=b'7', b'0'..=b'7', ..] => Some((number(&bytes[1..4], 8)?, 4, true)),
        [b'\\', b'n', ..] => Some((u32::from(b'\n'), 2, false)),
        [b'\\', b't' | b'r', ..] => Some((u32::from(b' '), 2, false)),
        [b'\\', other @ (b'"' | b'\\'), ..] => Some((u32::from(*other), 2, false)),
        [b'&', b'#', b'x' | b'X', ..] => {
            let (from, to) = until(3, b';')?;
            Some((number(&bytes[from..to], 16)?, to + 1, true))
        }
        [b'&', b'#', ..] => {
            let (from, to) = until(2, b';')?;
            Some((number(&bytes[from..to], 10)?, to + 1, true))
        }
        _ => None,
    }
}

/// A byte of quoted-printable that is always written so, or a line that goes on.
fn quoted(bytes: &[u8]) -> Option<(Option<u8>, usize)> {
    match bytes {
        [b'=', b'\r', b'\n', ..] => Some((None, 3)),
        [b'=', b'\n', ..] => Some((None, 2)),
        // `=` itself has to be written so, where anything is.
        [b'=', b'3', b'D', ..] => Some((Some(b'='), 3)),
        _ => None,
    }
}

/// Within so many bytes a second byte of quoted-printable has to follow, where no line goes on: one alone is chance.
const SECOND: usize = 16;

/// Whether a character of quoted-printable begins here that needs not be written so, and another one soon.
fn are_quoted(bytes: &[u8]) -> bool {
    let quoted = |bytes: &[u8]| {
        let upper = |byte: &u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(byte);
        matches!(bytes, [b'=', b'2'..=b'7', low, ..] if upper(low))
    };
    quoted(bytes) && bytes[3..].windows(3).take(SECOND).any(quoted)
}

fn undone(bytes: &[u8]) -> Vec<u8> {
    let printable = memchr::memmem::find(bytes, b"=\n").is_some()
        || memchr::memmem::find(bytes, b"=\r\n").is_some()
        || memchr::memchr_iter(b'=', bytes).any(|at| are_quoted(&bytes[at..]));
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let ordinary =
            rest.iter().position(|byte| matches!(byte, 0 | b'%' | b'\\' | b'&' | b'=')).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..ordinary]);
        rest = &rest[ordinary..];
        let [first, after @ ..] = rest else { break };
        let whole = rest;
        rest = after;
        match first {
            0 => {}
            b'%' | b'\\' | b'&' => {
                match escape(whole) {
                    Some((code, length, _)) => {
                        // Two digits of hex and three of octal are a byte, the others are characters.
                        let is_byte = matches!(whole, [b'%', digit, ..] if *digit != b'u')
                            || matches!(whole, [b'\\', b'x' | b'0'..=b'3', ..]);
                        match char::from_u32(code) {
                            _ if is_byte => out.push(u8::try_from(code).unwrap_or_default()),
                            Some(char) => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
                            None => {}
                        }
                        rest = &after[length - 1..];
                    }
                    None => out.push(*first),
                }
            }
            b'=' if printable => {
                let hex = after.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
                let hex = hex.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
                if let Some((byte, length)) =
                    quoted(&[b'=', after.first().copied().unwrap_or(0), after.get(1).copied().unwrap_or(0)])
                {
                    out.extend(byte);
                    rest = &after[length - 1..];
                } else if let Some(byte) = hex {
                    out.push(byte);
                    rest = &after[2..];
                } else {
                    out.push(b'=');
                }
            }
            other => out.push(*other),
        }
    }
    out
}

/// The text with each character as the plain one that it is read as; nothing where it is no text.
fn folded(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut invalid = 0;
    if bytes.utf8_chunks().any(|chunk| {
        invalid += chunk.invalid().len();
        invalid * MOSTLY > bytes.len()
    }) {
        return None;
    }
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut text = chunk.valid();
        while !text.is_empty() {
            let plain = text.bytes().position(|byte| byte >= 0x80).unwrap_or(text.len());
            out.push_str(&text[..plain]);
            text = &text[plain..];
            let wide = text.bytes().position(|byte| byte < 0x80).unwrap_or(text.len());
            let seen = text[..wide].chars().filter(|char| !unseen(*char));
            out.extend(seen.nfkd().filter(|char| !is_combining_mark(*char) && !unseen(*char)).map(alike));
            text = &text[wide..];
        }
        // What is left out would join what stands on either side of it. A control character is in no other form itself.
        out.extend((!chunk.invalid().is_empty()).then_some('\u{1c}'));
    }
    Some(out.into_bytes())
}

/// Bytes of which more than one in so many is not UTF-8 are no text.
const MOSTLY: usize = 8;

/// Characters that take no place, or are not shown.
fn unseen(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

/// Letters of other scripts, and signs, that look like those of ASCII: from Unicode's list of confusables (UTS 39), the
/// ones that common fonts draw the same.
const ALIKE: [(&str, &str); 5] = [
    ("аεсԁеһіјӏоорԛѕмтνѵԝхууɡɩɑοαικρτυχωʏʀɴʟƅɢꜱ", "aecdehijloopqsmtvvwxyygiaoaikptuxwyrnlbgs"),
    ("АВЕΒΕСԌНІЈКМОРԚЅТԜХҮΖΗΙΚΜΝΟΡΤΥΧΑ", "ABEBECGHIJKMOPQSTWXYZHIKMNOPTYXA"),
    ("‐‑‒–—―−⁃﹣·․‧∙⋅", "---------....."),
    ("ˍ﹍﹎﹏∕⁄╱＿", "____///_"),
    ("О〇߀০୦", "O0000"),
];

fn alike(char: char) -> char {
    if char.is_ascii() {
        return char;
    }
    ALIKE.iter().find_map(|(from, to)| to.chars().nth(from.chars().position(|other| other == char)?)).unwrap_or(char)
}
