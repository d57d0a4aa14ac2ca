//! What a reader makes of bytes: escapes undone, NUL bytes dropped, and characters that only look like others folded
//! into those.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// The bytes with one layer of escapes undone, if there is one that could hide something.
///
/// Percent escapes, JSON's and JavaScript's (`\u0041`, `\u{41}`, `\x41`, `\/`), HTML's (`&#65;`, `&#x41;`), soft line
/// breaks and hex of quoted-printable (`=41`), UTF-16 and UTF-32 of plain text; full-width letters and the like by
/// Unicode's NFKC, letters of other scripts that look the same, and characters that can't be seen.
pub(super) fn plain(bytes: &[u8]) -> Option<Vec<u8>> {
    let wide = !bytes.is_ascii();
    if !wide && !hides(bytes) && !bytes.contains(&0) {
        return None;
    }
    let mut out = undone(bytes);
    if wide && let Some(folded) = folded(&out) {
        out = folded;
    }
    (out != bytes).then_some(out)
}

/// Whether there is an escape that no text needs, or that can't be read past.
fn hides(bytes: &[u8]) -> bool {
    let mut from = 0;
    while let Some(found) = memchr::memchr3(b'%', b'\\', b'&', &bytes[from..]) {
        let at = from + found;
        if escape(&bytes[at..]).is_some_and(|(_, _, hiding)| hiding) {
            return true;
        }
        from = at + 1;
    }
    memchr::memchr_iter(b'=', bytes).any(|at| quoted(&bytes[at..]).is_some())
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
        [b'%', high, low, ..] => Some((number(&[*high, *low], 16)?, 3, true)),
        [b'\\', b'u', b'{', ..] => {
            let (from, to) = until(3, b'}')?;
            Some((number(&bytes[from..to], 16)?, to + 1, true))
        }
        [b'\\', b'u', ..] => Some((number(bytes.get(2..6)?, 16)?, 6, true)),
        [b'\\', b'x', ..] => Some((number(bytes.get(2..4)?, 16)?, 4, true)),
        [b'\\', b'/', ..] => Some((u32::from(b'/'), 2, true)),
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

fn undone(bytes: &[u8]) -> Vec<u8> {
    let printable = memchr::memmem::find(bytes, b"=\n").is_some() || memchr::memmem::find(bytes, b"=\r\n").is_some();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            0 => {}
            b'%' | b'\\' | b'&' => {
                match escape(&[*first].iter().chain(after.iter().take(12)).copied().collect::<Vec<_>>()) {
                    Some((code, length, _)) => {
                        // A percent escape is a byte, the others are characters.
                        match char::from_u32(code) {
                            _ if *first == b'%' => out.push(u8::try_from(code).unwrap_or_default()),
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

/// The text with each character as the plain one that it is read as.
fn folded(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = String::with_capacity(bytes.len());
    let mut wide = false;
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid();
        if text.is_ascii() {
            out.push_str(text);
        } else {
            wide = true;
            let marks = |char: &char| !is_combining_mark(*char) && !unseen(*char);
            out.extend(text.chars().filter(|char| !unseen(*char)).nfkd().filter(marks).map(alike));
        }
        if !chunk.invalid().is_empty() {
            out.push('\u{fffd}');
        }
    }
    wide.then(|| out.into_bytes())
}

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
