//! What base32 and uuencode say, and a binary patch of git's, which is base85. Each says something only where what comes out
//! is text, or begins something packed.

use super::hints;
use super::packed::Packing;
use super::runs::{BETWEEN, Digits};

/// So many digits of base32 say a secret of the shortest.
const SHORTEST32: usize = 26;
/// So many bytes of what comes out have to look like something.
const TELLING: usize = 8;

/// What a run's digits say in base32 (RFC 4648), in either case.
pub(super) fn base32(run: &Digits, out: &mut Vec<u8>) {
    // Of base64's digits those of one case, and the digits from 2 to 7.
    let value = |digit: u8, lower: bool| match digit {
        0..26 if !lower => Some(digit),
        26..52 if lower => Some(digit - 26),
        54..60 => Some(digit - 28),
        _ => None,
    };
    for lower in [false, true] {
        let mut at = 0;
        while let Some(shortest) = run.digits.get(at..at + SHORTEST32) {
            // From the back: behind the last that is none, the next stretch may begin.
            if let Some(none) = shortest.iter().rposition(|digit| value(*digit, lower).is_none()) {
                at += none + 1;
                continue;
            }
            let segment = &run.digits[at..];
            let length = segment.iter().position(|digit| value(*digit, lower).is_none()).unwrap_or(segment.len());
            let said = bits32(segment[..length].iter().filter_map(|digit| value(*digit, lower)));
            if says_something(&said) {
                out.extend(said);
                out.extend(BETWEEN);
            }
            at += length + 1;
        }
    }
}

fn bits32(digits: impl Iterator<Item = u8>) -> Vec<u8> {
    let (mut bits, mut value, mut out) = (0, 0u32, vec![]);
    for digit in digits {
        value = value << 5 | u32::from(digit);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(value >> bits & 0xff).unwrap_or_default());
            value &= (1 << bits) - 1;
        }
    }
    out
}

fn is_text(byte: &u8) -> bool {
    byte.is_ascii_graphic() || byte.is_ascii_whitespace()
}

/// Whether bytes begin as text does, or as something packed.
fn says_something(bytes: &[u8]) -> bool {
    bytes.len() >= TELLING && bytes[..TELLING].iter().all(is_text) || Packing::begins(bytes).is_some()
}

/// RFC 1924's 85 digits, which git has, too.
const DIGITS85: &[u8; 85] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

const NONE: u8 = 0xff;

/// What each byte is worth among them.
const VALUES85: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut index = 0;
    while index < 85 {
        table[DIGITS85[index] as usize] = index as u8;
        index += 1;
    }
    table
};

fn group85(group: &[u8]) -> Option<[u8; 4]> {
    let mut value = 0u64;
    for byte in group {
        let digit = VALUES85[usize::from(*byte)];
        if digit == NONE {
            return None;
        }
        value = value * 85 + u64::from(digit);
    }
    u32::try_from(value).ok().map(u32::to_be_bytes)
}

/// A full line of uuencode has so many characters behind its length, and one of a patch of git's so many behind its own.
const UU_LINE: usize = 60;
const GIT_LINE: usize = 65;

/// What uuencode says: from the line that begins a file on, and from any full line. `places` is of [`line_places`].
pub(super) fn uuencode(bytes: &[u8], places: &[usize], out: &mut Vec<u8>) {
    let begins = behind(bytes, places, b"begin ").filter_map(|at| {
        let rest = &bytes[at..];
        let is_mode = rest.get(..4).is_some_and(|mode| mode[..3].iter().all(u8::is_ascii_digit) && mode[3] == b' ');
        let line = memchr::memchr(b'\n', &rest[..rest.len().min(300)])?;
        is_mode.then_some(at + line + 1)
    });
    let full = places.iter().filter(|at| bytes[**at] == b'\n').map(|at| at + 1);
    lines(bytes, begins.collect(), full, uu_line, out);
}

/// Where the digit stands that follows this word.
fn behind<'a>(bytes: &'a [u8], places: &'a [usize], word: &'static [u8]) -> impl Iterator<Item = usize> + 'a {
    places.iter().map(|at| at + 2).filter(move |end| bytes[..*end].ends_with(word))
}

/// Where uuencode or a patch could begin, by three bytes.
pub(super) fn line_places(bytes: &[u8], hints: &[u8], places: &mut Vec<usize>) {
    places.clear();
    for stretch in hints::stretches(bytes.len(), hints, hints::LINES) {
        let end = bytes.len().min(stretch.end + 2);
        for (at, three) in bytes[stretch.start..end].windows(3).enumerate() {
            if hints::are_lines(three[0], three[1], three[2]) {
                places.push(stretch.start + at);
            }
        }
    }
}

/// The bytes that a line of uuencode says.
fn uu_line(line: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = line.split_first()?;
    let length = usize::from(length.checked_sub(b' ')? & 63);
    let digits = length.div_ceil(3) * 4;
    // Blanks at a line's end get lost; more than is needed does no harm.
    if length == 0 || rest.len() > digits + 2 || rest.iter().any(|byte| !(b' '..=b'`').contains(byte)) {
        return None;
    }
    let mut said = vec![];
    for at in (0..digits).step_by(4) {
        let digit = |place: usize| u32::from(rest.get(at + place).map_or(0, |byte| (byte - b' ') & 63));
        let value = digit(0) << 18 | digit(1) << 12 | digit(2) << 6 | digit(3);
        said.extend_from_slice(&value.to_be_bytes()[1..]);
    }
    said.truncate(length);
    Some(said)
}

/// What a binary patch of git's packs: its lines of base85, from the line that says how much there is. `places` is of [`line_places`].
pub(super) fn git_patch(bytes: &[u8], places: &[usize], out: &mut Vec<u8>) {
    let begins = [&b"literal "[..], b"delta "].into_iter().flat_map(|word| {
        behind(bytes, places, word).filter_map(move |at| {
            let rest = &bytes[at..];
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let end = match rest.get(digits..)? {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                _ => return None,
            };
            (digits > 0).then_some(at + digits + end)
        })
    });
    lines(bytes, begins.collect(), std::iter::empty(), git_line, out);
}

/// The bytes that a line of a binary patch says.
fn git_line(line: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = line.split_first()?;
    let length = match length {
        b'A'..=b'Z' => usize::from(length - b'A') + 1,
        b'a'..=b'z' => usize::from(length - b'a') + 27,
        _ => return None,
    };
    if rest.len() != length.div_ceil(4) * 5 || rest.len() > GIT_LINE {
        return None;
    }
    let mut said = vec![];
    for group in rest.chunks(5) {
        said.extend(group85(group)?);
    }
    said.truncate(length);
    Some(said)
}

/// Decodes the lines from each of these beginnings on, as long as they are such lines, and from each full line that is in none
/// of those.
fn lines(
    bytes: &[u8],
    mut begins: Vec<usize>,
    full: impl Iterator<Item = usize>,
    decode: fn(&[u8]) -> Option<Vec<u8>>,
    out: &mut Vec<u8>,
) {
    begins.extend(full.filter(|at| bytes.get(at + 1 + UU_LINE).is_none_or(|byte| matches!(byte, b'\n' | b'\r'))));
    begins.sort_unstable();
    let mut done = 0;
    for begin in begins {
        let mut at = begin;
        if at < done {
            continue;
        }
        let made = out.len();
        while at < bytes.len() {
            let length = memchr::memchr(b'\n', &bytes[at..]).unwrap_or(bytes.len() - at);
            let line = bytes[at..at + length].strip_suffix(b"\r").unwrap_or(&bytes[at..at + length]);
            let Some(said) = decode(line) else { break };
            out.extend(said);
            at += length + 1;
        }
        if out.len() > made {
            out.extend(BETWEEN);
        }
        done = at;
    }
}
