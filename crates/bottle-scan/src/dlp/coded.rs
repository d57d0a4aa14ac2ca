//! What base64 and hex hide, also one inside the other, found without decoding all that could be either.
//!
//! The bytes in which a token begins give, in base64 at each of its three offsets and in hex, digits that are the same
//! whatever stands around them. Those digits are looked for in the text's own digits, with white space and broken lines
//! left out; only where they stand something is decoded.

use super::alphabet::{ALPHABET, BREAK, DIGITS, LINE};
use super::runs::Digits;
#[cfg(test)]
use super::short_cuts;

/// Of a needle, so many bytes count at most.
const LONGEST_NEEDLE: usize = 12;
/// Digits that a needle needs: fewer would be found everywhere.
const SHORTEST: usize = 4;

/// One way to write bytes as digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    /// Base64; how many bits of the needle's first byte are in a digit that other bytes have a share in.
    Base64 { lost: u8 },
    /// Hex, in either case.
    Hex { upper: bool },
}

const CODES: [Code; 5] = [
    Code::Base64 { lost: 0 },
    Code::Base64 { lost: 4 },
    Code::Base64 { lost: 2 },
    Code::Hex { upper: false },
    Code::Hex { upper: true },
];

/// A beginning as it looks in some code.
#[derive(Debug)]
struct Needle {
    digits: Vec<u8>,
    /// The first byte of what is written, from the inside outwards: its lost bits are put back from here.
    codes: Vec<(Code, u8)>,
    owner: usize,
}

/// All beginnings in all codes.
#[derive(Debug)]
pub(crate) struct Coded {
    needles: Vec<Needle>,
    bits: Box<[u64; 1 << 12]>,
    /// Of four digits that begin with one of those threes, by hash.
    fours: Box<[u64; 1 << 11]>,
    /// By three digits: at which of a needle's digits they are, and which needle.
    entries: Vec<(u32, u8, u32)>,
    /// By their first two digits, in order: for tests without short cuts.
    #[cfg(test)]
    by_two: Vec<Vec<usize>>,
}

impl Coded {
    /// Makes the tables for these beginnings and whose they are.
    pub(crate) fn new<'a>(beginnings: impl Iterator<Item = (&'a [u8], usize)>) -> Self {
        let mut needles = vec![];
        for (bytes, owner) in beginnings {
            let bytes = &bytes[..bytes.len().min(LONGEST_NEEDLE)];
            for inner in CODES {
                let Some(text) = write(inner, bytes) else { continue };
                let mut add = |text: &[u8], codes: Vec<(Code, u8)>| {
                    let digits: Vec<u8> = text.iter().map(|byte| DIGITS[usize::from(*byte)]).collect();
                    if digits.len() >= SHORTEST {
                        needles.push(Needle { digits, codes, owner });
                    }
                };
                add(&text, vec![(inner, bytes[0])]);
                for outer in CODES {
                    if let Some(twice) = write(outer, &text) {
                        add(&twice, vec![(inner, bytes[0]), (outer, text[0])]);
                    }
                }
            }
        }
        let mut entries: Vec<(u32, u8, u32)> = vec![];
        let mut fours = Box::new([0u64; 1 << 11]);
        for (index, needle) in needles.iter().enumerate() {
            for skip in [1u8, 0] {
                let at = usize::from(skip);
                let three = [needle.digits[at], needle.digits[at + 1], needle.digits[at + 2]];
                let short = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                entries.push((short(number(three)), skip, short(index)));
                // The last place of a short needle may be followed by anything.
                for last in needle.digits.get(at + 3).map_or(0..64, |digit| *digit..digit + 1) {
                    let hash = four(number(three), usize::from(last));
                    fours[hash >> 6] |= 1 << (hash & 63);
                }
            }
        }
        entries.sort_unstable_by_key(|(three, skip, index)| (*three, std::cmp::Reverse(*skip), *index));
        entries.shrink_to_fit();
        let mut bits = Box::new([0u64; 1 << 12]);
        for (three, _, _) in &entries {
            bits[usize::try_from(three >> 6).unwrap_or_default()] |= 1 << (three & 63);
        }
        Self {
            #[cfg(test)]
            by_two: by_two(&needles),
            needles,
            bits,
            fours,
            entries,
        }
    }

    /// Gives what the digits say where a beginning stands in them, whose it is, and at which digit; at most `longest`
    /// bytes of it.
    pub(crate) fn scan<T>(
        &self,
        text: &Digits,
        longest: usize,
        mut each: impl FnMut(&[u8], usize, usize) -> Option<T>,
    ) -> Option<T> {
        self.scan_with(text, longest, |text, _, index, at| each(text, index, at))
    }

    /// The same, and before the index what the digits before the beginning say, as far as [`BEFORE`] bytes.
    pub(crate) fn scan_with<T>(
        &self,
        text: &Digits,
        longest: usize,
        mut each: impl FnMut(&[u8], &[u8], usize, usize) -> Option<T>,
    ) -> Option<T> {
        let (digits, mut at) = (&text.digits, 0);
        #[cfg(test)]
        if short_cuts::are_off() {
            return self.scan_slowly(text, longest, &mut each);
        }
        while let Some(four) = digits.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
            let all = packed(u32::from_be_bytes(*four));
            if self.may_begin(all >> 6, all & 63)
                && let Some(found) = self.look(text, at, longest, &mut each)
            {
                return Some(found);
            }
            at += 2;
        }
        // With no fourth digit there is nothing to go on.
        if let [a, b, c] = digits[at.min(digits.len())..]
            && self.may_begin(number([a, b, c]), 0)
        {
            return self.look(text, at, longest, &mut each);
        }
        None
    }

    /// Compares each needle that begins with the digit at each place.
    #[cfg(test)]
    fn scan_slowly<T>(
        &self,
        text: &Digits,
        longest: usize,
        each: &mut impl FnMut(&[u8], &[u8], usize, usize) -> Option<T>,
    ) -> Option<T> {
        (0..text.digits.len().saturating_sub(1)).find_map(|start| {
            let two = usize::from(text.digits[start]) << 6 | usize::from(text.digits[start + 1]);
            let needles = self.by_two[two].iter().map(|index| &self.needles[*index]);
            needles.into_iter().find_map(|needle| said_at(text, start, needle, longest, each))
        })
    }

    /// Whether a needle may begin with three digits, or be before them by one, and go on with this fourth.
    fn may_begin(&self, three: usize, last: usize) -> bool {
        if self.bits[three >> 6] >> (three & 63) & 1 == 0 {
            return false;
        }
        let hash = four(three, last);
        self.fours[hash >> 6] >> (hash & 63) & 1 == 1
    }

    #[cold]
    fn look<T>(
        &self,
        text: &Digits,
        at: usize,
        longest: usize,
        each: &mut impl FnMut(&[u8], &[u8], usize, usize) -> Option<T>,
    ) -> Option<T> {
        let digits = &text.digits;
        let three = u32::try_from(number([digits[at], digits[at + 1], digits[at + 2]])).ok()?;
        let first = self.entries.partition_point(|(other, ..)| *other < three);
        for (_, skip, index) in self.entries[first..].iter().take_while(|(other, ..)| *other == three) {
            let needle = &self.needles[usize::try_from(*index).ok()?];
            if let Some(start) = at.checked_sub(usize::from(*skip))
                && let Some(found) = said_at(text, start, needle, longest, each)
            {
                return Some(found);
            }
        }
        None
    }
}

/// Which needles begin with each two digits.
#[cfg(test)]
fn by_two(needles: &[Needle]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]; 64 * 64];
    for (index, needle) in needles.iter().enumerate() {
        all[usize::from(needle.digits[0]) << 6 | usize::from(needle.digits[1])].push(index);
    }
    all
}

/// Gives what the digits say from here on, if this needle stands there.
fn said_at<T>(
    text: &Digits,
    start: usize,
    needle: &Needle,
    longest: usize,
    each: &mut impl FnMut(&[u8], &[u8], usize, usize) -> Option<T>,
) -> Option<T> {
    let digits = &text.digits;
    if !digits[start..].starts_with(&needle.digits) {
        return None;
    }
    let run = &digits[start..digits.len().min(start + longest * 4 + 64)];
    // What is written may go on in the next line or end with this one; either reading counts.
    let line = text.lines.partition_point(|line| *line < start + needle.digits.len());
    let line = text.lines.get(line).map_or(run.len(), |line| (line - start).min(run.len()));
    let before = said_before(needle.codes.last().map(|(code, _)| *code), digits, start);
    for run in [run, &run[..line]] {
        let mut text: Vec<u8> = run.iter().map(|digit| ALPHABET[usize::from(digit & 63)]).collect();
        for (code, first) in needle.codes.iter().rev() {
            text = read(*code, *first, &text);
        }
        if let Some(found) = each(&text, &before, needle.owner, start) {
            return Some(found);
        }
        if line == run.len() {
            break;
        }
    }
    None
}

/// So many bytes before a beginning tell whether it stands in noise.
pub(super) const BEFORE: usize = 64;

/// The bytes that the digits before this one say, if there are enough of them.
fn said_before(code: Option<Code>, digits: &[u8], start: usize) -> Vec<u8> {
    match code {
        Some(Code::Base64 { lost }) => {
            let bits = start * 6;
            let Some(from) = bits.checked_sub(usize::from(lost) + BEFORE * 8) else { return vec![] };
            let byte = |at: usize| {
                let bit = from + at * 8;
                let three = (0..3).fold(0u32, |all, next| {
                    all << 6 | u32::from(digits.get(bit / 6 + next).map_or(0, |digit| digit & 63))
                });
                u8::try_from(three >> (10 - bit % 6) & 0xff).unwrap_or_default()
            };
            (0..BEFORE).map(byte).collect()
        }
        Some(Code::Hex { .. }) => {
            let Some(from) = start.checked_sub(BEFORE * 2) else { return vec![] };
            let text: Vec<u8> = digits[from..start].iter().map(|digit| ALPHABET[usize::from(digit & 63)]).collect();
            hex::decode(text).unwrap_or_default()
        }
        None => vec![],
    }
}

/// Of three digits and the one behind them.
fn four(three: usize, last: usize) -> usize {
    (three << 6 | last).wrapping_mul(0x9e37_79b1) >> 15 & 0x1_ffff
}

/// Four digits, each in a byte, as one number of 24 bits, the first at its top.
fn packed(digits: u32) -> usize {
    let twos = (digits & 0x3f00_3f00) >> 2 | digits & 0x003f_003f;
    (twos >> 4 & 0x00ff_f000 | twos & 0xfff) as usize
}

fn number(three: [u8; 3]) -> usize {
    usize::from(three[0] & 63) << 12 | usize::from(three[1] & 63) << 6 | usize::from(three[2] & 63)
}

/// The digits that bytes give in a code wherever they stand; none if that is no text.
fn write(code: Code, bytes: &[u8]) -> Option<Vec<u8>> {
    let text = match code {
        Code::Hex { upper: false } => hex::encode(bytes).into_bytes(),
        Code::Hex { upper: true } => hex::encode_upper(bytes).into_bytes(),
        Code::Base64 { lost } => {
            let (mut out, mut bits, mut value) = (vec![], 0u32, 0u32);
            for (index, byte) in bytes.iter().enumerate() {
                let (width, byte) = if index == 0 {
                    (8 - u32::from(lost), u32::from(*byte) & (0xff >> lost))
                } else {
                    (8, u32::from(*byte))
                };
                value = value << width | byte;
                bits += width;
                while bits >= 6 {
                    bits -= 6;
                    out.push(ALPHABET[usize::try_from(value >> bits & 63).ok()?]);
                    value &= (1 << bits) - 1;
                }
            }
            out
        }
    };
    (text.len() >= SHORTEST).then_some(text)
}

/// The bytes behind digits that begin where [`write`] began, up to what is no digit.
fn read(code: Code, first: u8, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    match code {
        Code::Hex { .. } => {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let mut high = None;
            for byte in text.iter().filter(|byte| DIGITS[usize::from(**byte)] != LINE) {
                match (digit(*byte), high) {
                    (None, _) => break,
                    (Some(value), None) => high = Some(value),
                    (Some(value), Some(above)) => {
                        out.push(above << 4 | value);
                        high = None;
                    }
                }
            }
        }
        Code::Base64 { lost } => {
            let (mut bits, mut value) = (u32::from(lost), (u32::from(first)) >> (8 - u32::from(lost)));
            for byte in text {
                match DIGITS[usize::from(*byte)] {
                    LINE => continue,
                    BREAK => break,
                    digit => value = value << 6 | u32::from(digit),
                }
                bits += 6;
                if bits >= 8 {
                    bits -= 8;
                    out.push(u8::try_from(value >> bits & 0xff).unwrap_or_default());
                    value &= (1 << bits) - 1;
                }
            }
        }
    }
    out
}
