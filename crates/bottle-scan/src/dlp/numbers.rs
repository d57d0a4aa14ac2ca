//! Bytes written as numbers: lists of decimal, hex, octal or binary ones, as programs print bytes, dumps by `xxd`, `hexdump`
//! and `od`, and quoted-printable of every byte.

use multiversion::multiversion;

use super::runs::{MARKED, each_marked};
use super::short_cuts;

/// A list of fewer bytes says nothing: no known secret is shorter, see [`crate::known::SHORTEST`].
const SHORTEST: usize = crate::known::SHORTEST;
/// Its numbers and what stands between them: the shortest have one digit each.
const SHORTEST_LIST: usize = 2 * SHORTEST - 1;
/// So many bytes between two stretches of numbers belong to no list: the text column of a dump and the end of its line.
const GAP: usize = 40;
/// So many bytes are asked at once whether they can be in a list. One of [`SHORTEST`] numbers fills two such places.
const EIGHT: usize = 8;
/// An offset at the beginning of a dump's line has so many digits, and numbers of another length follow it.
const OFFSET: usize = 8;

/// In a byte's mark: it is in no list; it is a decimal digit, as in hex the first of each byte of ASCII is, too; it is a sign
/// or a blank.
const OTHER: u8 = 1;
const DIGIT: u8 = 2;
const SIGN: u8 = 4;

/// Where lists of numbers begin, and what the numbers say; one that can be read in several ways comes several times.
/// `marks` is a buffer.
pub(crate) fn lists(bytes: &[u8], marks: &mut Vec<u8>) -> Vec<(usize, Vec<u8>)> {
    let (mut found, mut list) = (vec![], List::default());
    if bytes.len() < SHORTEST_LIST && !short_cuts::are_off() {
        return found;
    }
    marks.resize(bytes.len().next_multiple_of(MARKED), OTHER);
    mark_all(bytes, marks);
    // Behind the end stands no blank.
    marks[bytes.len()..].fill(OTHER);
    if short_cuts::are_off() {
        bytes.iter().zip(marks.iter_mut()).for_each(|(byte, marked)| *marked = mark_slowly(*byte));
    }
    let (mut done, mut before) = (0, all(OTHER));
    for (place, two) in marks.as_chunks::<{ 2 * EIGHT }>().0.iter().enumerate() {
        // Of two places beside each other one is the first of these.
        let two = u128::from_le_bytes(*two);
        let (first, second) = (two as u64, (two >> 64) as u64);
        let beside = [std::mem::replace(&mut before, second), second];
        let at = place * 2 * EIGHT;
        if first & all(OTHER) != 0 || at < done {
            continue;
        }
        // They have nothing but what is in a list, more than one digit, and something that is none.
        let both = beside.map(|beside| first | beside);
        let is_list = |both: u64| {
            let digits = both & all(DIGIT);
            both & all(OTHER) == 0 && digits & digits.wrapping_sub(1) != 0 && both & all(SIGN) != 0
        };
        if !both.into_iter().any(is_list) {
            continue;
        }
        let listed = |mark: &u8| mark & OTHER == 0;
        let start = at - marks[done..at].iter().rev().take_while(|mark| listed(mark)).count();
        let end = marks[at..].iter().position(|mark| !listed(mark)).map_or(bytes.len(), |length| at + length);
        if start > list.to + GAP {
            std::mem::take(&mut list).end(&mut found);
        }
        list.take(bytes, start, end);
        done = end;
    }
    list.end(&mut found);
    found
}

/// Between two calls that give a character there are so many bytes at most.
const BETWEEN_CALLS: usize = 24;

/// What calls in a row say that give a character for its code: `chr(97)`, `Char(0x61)`, `97.chr`.
pub(crate) fn codes(bytes: &[u8], out: &mut Vec<u8>) {
    let mut calls: Vec<(usize, usize, u8)> = vec![];
    for name in [&b"hr("[..], b"har(", b"HR(", b"HAR("] {
        calls.extend(memchr::memmem::find_iter(bytes, name).filter_map(|at| {
            let start = at + name.len();
            let length = digits(&bytes[start..]);
            Some((at, start + length, code(bytes.get(start..start + length)?)?))
        }));
    }
    calls.extend(memchr::memmem::find_iter(bytes, b".chr").filter_map(|at| {
        let length = bytes[..at].iter().rev().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        Some((at - length, at + 4, code(&bytes[at - length..at])?))
    }));
    calls.sort_unstable();
    for chain in calls.chunk_by(|one, other| other.0.saturating_sub(one.1) <= BETWEEN_CALLS) {
        if chain.len() >= SHORTEST {
            out.extend(chain.iter().map(|(_, _, byte)| byte));
            out.push(b'\n');
        }
    }
}

/// The character that has this code, which is decimal or has a prefix of hex.
fn code(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u8::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Eight marks that are the same.
const fn all(mark: u8) -> u64 {
    u64::from_le_bytes([mark; EIGHT])
}

/// Tells of each byte what it can be in a list.
#[multiversion(targets("x86_64+avx2"))]
fn mark_all(bytes: &[u8], marks: &mut [u8]) {
    each_marked!(bytes, marks, mark);
}

/// What a byte can be in a list: a digit, also of hex, white space, as an escape too, or a sign. Compared with no table, so
/// that the compiler takes many bytes at once.
#[inline(always)]
fn mark(byte: u8) -> u8 {
    let lower = byte | 0x20;
    let digit = byte.wrapping_sub(b'0') < 10;
    // From the blank to the semicolon there are signs and digits alone. A percent sign is an escape's; an equals sign stands
    // before each byte of quoted-printable.
    let sign = (byte.wrapping_sub(b' ') < 28) & (byte != b'%') & !digit
        | (byte.wrapping_sub(b'\t') < 5)
        | (byte == b'\\')
        | (byte == b'=');
    let letter = (lower.wrapping_sub(b'a') < 6) | (lower == b'x') | (byte == b'n') | (byte == b'r') | (byte == b't');
    (u8::from(!(digit | sign | letter)) * OTHER) | (u8::from(digit) * DIGIT) | (u8::from(sign) * SIGN)
}

/// The same as [`mark`], as people would say it.
fn mark_slowly(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => DIGIT,
        b'%' => OTHER,
        b' '..=b';' | b'\t'..=b'\r' | b'\\' | b'=' => SIGN,
        b'a'..=b'f' | b'A'..=b'F' | b'x' | b'X' | b'n' | b'r' | b't' => 0,
        _ => OTHER,
    }
}

/// A list, and what its numbers say by each way to read them.
#[derive(Default)]
struct List {
    from: usize,
    to: usize,
    decimal: Vec<u8>,
    hex: Vec<u8>,
    /// Words of which the last byte comes first.
    swapped: Vec<u8>,
    octal: Vec<u8>,
    binary: Vec<u8>,
    line: Line,
}

/// Where in a line a list's last stretch ended.
#[derive(Debug, Default, Clone, Copy)]
struct Line {
    /// It is a dump's.
    is_dump: bool,
    /// Its text column has begun.
    is_text: bool,
}

impl List {
    /// Takes the numbers of a stretch, which goes on in the line of the last one.
    fn take(&mut self, bytes: &[u8], start: usize, end: usize) {
        if self.to == 0 {
            self.from = start;
        }
        self.to = end;
        let text = &bytes[start..end];
        let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        // The end of a word is no number.
        let mut at = if is_word(start.checked_sub(1).and_then(|before| bytes.get(before))) { digits(text) } else { 0 };
        let (mut first, mut line) = (true, std::mem::take(&mut self.line));
        while let Some(next) = text[at..].iter().position(u8::is_ascii_alphanumeric) {
            let token = at + next;
            let between = &text[at..token];
            let escape = between.ends_with(b"\\") && matches!(text[token], b'n' | b'r' | b't');
            if between.iter().any(|byte| matches!(byte, b'\n' | b'\r')) || escape && text[token] != b't' {
                (first, line) = (true, Line::default());
            }
            if escape {
                at = token + 1;
                continue;
            }
            line.is_text |= line.is_dump && between.ends_with(b"  ");
            let length = digits(&text[token..]);
            at = token + length;
            let first = std::mem::take(&mut first);
            if is_key(&text[at..]) {
                line.is_dump = first && length == OFFSET;
            } else if !(line.is_text || first && is_offset(length, &text[at..])) {
                self.number(&text[token..at]);
            }
        }
        let rest = &text[at..];
        line.is_text |= line.is_dump && rest.ends_with(b"  ");
        self.line = if rest.iter().any(|byte| matches!(byte, b'\n' | b'\r')) { Line::default() } else { line };
    }

    fn number(&mut self, digits: &[u8]) {
        let Ok(text) = std::str::from_utf8(digits) else { return };
        let prefixed = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        match (prefixed.unwrap_or(text), prefixed.is_some()) {
            (byte, true) if byte.len() < 3 => self.hex.extend(u8::from_str_radix(byte, 16)),
            (bits, false) if bits.starts_with("0b") && bits.len() > 6 => {
                self.binary.extend(u8::from_str_radix(&bits[2..], 2))
            }
            (word, _) if matches!(word.len(), 4 | 8 | 16) => {
                if let Ok(value) = u64::from_str_radix(word, 16) {
                    let all = value.to_be_bytes();
                    let said = &all[all.len() - word.len() / 2..];
                    self.hex.extend(said);
                    self.swapped.extend(said.iter().rev());
                }
                if word.len() == 8 {
                    self.binary.extend(u8::from_str_radix(word, 2));
                }
            }
            (number, false) if number.len() <= 3 => {
                self.decimal.extend(number.parse::<u8>());
                match number.len() {
                    2 => self.hex.extend(u8::from_str_radix(number, 16)),
                    3 => self.octal.extend(u8::from_str_radix(number, 8)),
                    _ => {}
                }
            }
            (word, false) if word.len() == 6 => {
                self.octal.extend(u16::from_str_radix(word, 8).into_iter().flat_map(u16::to_le_bytes));
            }
            _ => {}
        }
    }

    /// Gives what has enough characters in it for a secret, which may be of any language and stand among any others.
    fn end(self, found: &mut Vec<(usize, Vec<u8>)>) {
        let is_character = |byte: &&u8| !byte.is_ascii_control() || byte.is_ascii_whitespace();
        let all = [self.decimal, self.hex, self.swapped, self.octal, self.binary].into_iter();
        let some = all.filter(|said| said.iter().filter(is_character).count() >= SHORTEST);
        found.extend(some.map(|said| (self.from, said)));
    }
}

/// How many digits and letters there are.
fn digits(text: &[u8]) -> usize {
    text.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(text.len())
}

/// Whether the number that this follows says where another stands: in an object, or in a dump of `xxd`.
fn is_key(rest: &[u8]) -> bool {
    [&b": "[..], b"\":", b"':", b"\\\":"].iter().any(|end| rest.starts_with(end))
}

/// Whether the first number of a line, of so many digits, is the offset of what follows.
fn is_offset(length: usize, rest: &[u8]) -> bool {
    let next = rest.iter().position(u8::is_ascii_alphanumeric).map(|next| digits(&rest[next..]));
    length == OFFSET && next.is_some_and(|next| next != length)
}
