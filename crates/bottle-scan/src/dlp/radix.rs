//! What base32, base85, Ascii85 and uuencode say, and a binary patch of git's. Each says something only where what comes out
//! is text, or begins something packed.

use super::packed::Packing;
use super::runs::Digits;

/// So many digits of base32 say a secret of the shortest.
const SHORTEST32: usize = 26;
/// So many characters of base85 do.
const SHORTEST85: usize = 20;
/// A word of so many characters or more is looked at: one without a blank in so many bytes from a multiple of them on.
const DENSE: usize = 16;
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
        while at + SHORTEST32 <= run.digits.len() {
            let segment = &run.digits[at..];
            let length = segment.iter().position(|digit| value(*digit, lower).is_none()).unwrap_or(segment.len());
            if length >= SHORTEST32 {
                let said = bits32(segment[..length].iter().filter_map(|digit| value(*digit, lower)));
                if says_something(&said) {
                    out.extend(said);
                    out.push(b'\n');
                }
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

/// Whether bytes begin as text does, or as something packed.
fn says_something(bytes: &[u8]) -> bool {
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    bytes.len() >= TELLING && bytes[..TELLING].iter().all(is_text) || Packing::begins(bytes).is_some()
}

/// The alphabets of 85 characters.
const ALPHABETS: [&[u8; 85]; 3] = [
    // RFC 1924, which git has, too.
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~",
    b"!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstu",
    // ZeroMQ's.
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#",
];

const NONE: u8 = 0xff;

/// What each byte is worth in each of the alphabets.
const VALUES: [[u8; 256]; 3] = {
    let mut tables = [[NONE; 256]; 3];
    let mut table = 0;
    while table < 3 {
        let mut index = 0;
        while index < 85 {
            tables[table][ALPHABETS[table][index] as usize] = index as u8;
            index += 1;
        }
        table += 1;
    }
    tables
};

/// What words say in base85: those that begin a line, or stand behind a blank or a sign before a value. A line of them may go
/// on in the next one.
pub(super) fn base85(bytes: &[u8], out: &mut Vec<u8>) {
    let mut done = 0;
    for (block, dense) in bytes.chunks_exact(DENSE).enumerate() {
        let at = block * DENSE;
        if at < done || !is_dense(dense) {
            continue;
        }
        let is_word = |byte: &u8| byte.is_ascii_graphic();
        let start = at - bytes[done..at].iter().rev().take_while(|byte| is_word(byte)).count();
        let end = at + bytes[at..].iter().take_while(|byte| is_word(byte)).count();
        done = end;
        if end - start < SHORTEST85 {
            continue;
        }
        let mut from = start;
        while from + SHORTEST85 <= end {
            if from == start || begins_value(bytes[from - 1], bytes[from]) {
                for values in &VALUES {
                    if let Some((said, read)) = words85(values, &bytes[from..]) {
                        out.extend(said);
                        out.push(b'\n');
                        done = done.max(from + read);
                    }
                }
            }
            from += 1;
        }
    }
}

/// Whether each of the bytes stands behind the blank: of eight at once, in the way of "Bit Twiddling Hacks".
fn is_dense(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let has_blank = |eight: &[u8; 8]| {
        let eight = u64::from_le_bytes(*eight);
        eight.wrapping_sub(ONES * 0x21) & !eight & (ONES * 0x80) != 0
    };
    !bytes.as_chunks().0.iter().any(has_blank)
}

fn begins_value(before: u8, first: u8) -> bool {
    before != first && matches!(before, b'"' | b'\'' | b'`' | b'=' | b':' | b'~' | b',' | b'>' | b'(' | b'|')
}

/// What base85 says from here on, over lines, and how many bytes say it; none where that is nothing.
fn words85(values: &[u8; 256], bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    // Two groups tell: of other text nearly nothing gets so far.
    let first = bytes.first_chunk::<10>()?;
    let start = [group85(values, &first[..5])?, group85(values, &first[5..])?].concat();
    if !says_something(&start) {
        return None;
    }
    let (mut said, mut group, mut at) = (vec![], vec![], 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\n' | b'\r' if bytes.get(at + 1).is_some_and(|next| !next.is_ascii_whitespace()) || *byte == b'\r' => {}
            // Ascii85's short form of four zero bytes.
            b'z' if group.is_empty() && values[usize::from(b'z')] == NONE => said.extend([0; 4]),
            _ if values[usize::from(*byte)] == NONE => break,
            _ => group.push(*byte),
        }
        at += 1;
        if group.len() == 5 {
            let Some(four) = group85(values, &group) else { break };
            said.extend(four);
            group.clear();
        }
    }
    said.extend(rest85(values, &group));
    Some((said, at))
}

fn group85(values: &[u8; 256], group: &[u8]) -> Option<[u8; 4]> {
    let mut value = 0u64;
    for byte in group {
        let digit = values[usize::from(*byte)];
        if digit == NONE {
            return None;
        }
        value = value * 85 + u64::from(digit);
    }
    u32::try_from(value).ok().map(u32::to_be_bytes)
}

/// What a last group of fewer than five says.
fn rest85(values: &[u8; 256], group: &[u8]) -> Vec<u8> {
    if group.len() < 2 {
        return vec![];
    }
    // Filled up with the highest digit, what comes out is right in all but the bytes that are not there.
    let value = (0..5).fold(0u64, |value, at| {
        value * 85 + group.get(at).map_or(84, |byte| u64::from(values[usize::from(*byte)].min(84)))
    });
    let bytes = u32::try_from(value).map_or([0xff; 4], u32::to_be_bytes);
    bytes[..group.len() - 1].to_vec()
}

/// A full line of uuencode has so many characters behind its length, and one of a patch of git's so many behind its own.
const UU_LINE: usize = 60;
const GIT_LINE: usize = 65;

/// What uuencode says: from the line that begins a file on, and from any full line.
pub(super) fn uuencode(bytes: &[u8], out: &mut Vec<u8>) {
    let begins = memchr::memmem::find_iter(bytes, b"begin ").filter_map(|at| {
        let rest = &bytes[at + 6..];
        let is_mode = rest.get(..4).is_some_and(|mode| mode[..3].iter().all(u8::is_ascii_digit) && mode[3] == b' ');
        let line = memchr::memchr(b'\n', &rest[..rest.len().min(300)])?;
        is_mode.then_some(at + 6 + line + 1)
    });
    let full = memchr::memmem::find_iter(bytes, b"\nM").map(|at| at + 1);
    lines(bytes, begins.collect(), full, uu_line, out);
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

/// What a binary patch of git's packs: its lines of base85, from the line that says how much there is.
pub(super) fn git_patch(bytes: &[u8], out: &mut Vec<u8>) {
    let begins = [&b"literal "[..], b"delta "].into_iter().flat_map(|word| {
        memchr::memmem::find_iter(bytes, word).filter_map(move |at| {
            let rest = &bytes[at + word.len()..];
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let end = match rest.get(digits..)? {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                _ => return None,
            };
            (digits > 0).then_some(at + word.len() + digits + end)
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
        said.extend(group85(&VALUES[0], group)?);
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
            out.push(b'\n');
        }
        done = at;
    }
}
