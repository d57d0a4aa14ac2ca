//! A long run of base64 or hex on its way: told from other bytes and decoded; `stream` looks for what is packed in what it says.
//!
//! Its lines are joined, and a digit may be written as an escape: `%2B` in a form, `\/` and `\u002B` in JSON.

use multiversion::multiversion;

use super::alphabet;
use super::packed::Packing;
use super::runs::{MARKED, each_marked, may_be_digit};
use super::short_cuts;

/// A line that goes on in the next one.
const LONG_LINE: usize = 60;
/// A run is looked into from so many digits on.
const LONG: usize = 64;
/// One in which something packed begins, from so many on.
pub(super) const SHORT: usize = 2 * STEP;
/// A run that is long enough is met by one of the steps of this length, and has no break before the next.
pub(super) const STEP: usize = 16;
/// So many bytes of what digits of hex would say in base64 are kept: as many as no base64 begins with by chance.
const HELD: usize = 48;
/// So many bytes at most, written as escapes.
pub(super) const REACH: usize = 6 * LONG;

/// A run that has begun.
#[derive(Default)]
pub(super) struct DigitRun {
    bits: u32,
    value: u32,
    /// A digit was none of hex; before that, a run says nothing in base64.
    no_hex: bool,
    high: Option<u8>,
    /// Meanwhile, what the last digits say in base64.
    held: Vec<u8>,
    /// Digits of this line.
    line: usize,
    /// So many of the next bytes have been read already.
    pub(super) skip: usize,
}

/// What digits have said.
#[derive(Default)]
pub(super) struct DecodedDigits {
    pub(super) base64: Vec<u8>,
    pub(super) hex: Vec<u8>,
    /// A digit was the first that is none of hex.
    pub(super) hex_ended: bool,
}

impl DigitRun {
    /// Decodes the run's next bytes: how many belong to it (those that begin before `to`, and an escape's that begins there),
    /// and what they say.
    pub(super) fn push(&mut self, bytes: &[u8], to: usize) -> (usize, DecodedDigits) {
        let mut said = DecodedDigits { base64: Vec::with_capacity(to / 4 * 3 + 3), ..DecodedDigits::default() };
        let mut at = std::mem::take(&mut self.skip);
        while at < to {
            let fours = self.fours(&bytes[at..to], &mut said.base64);
            at += fours;
            let rest = &bytes[at..];
            if fours > 0 {
                continue;
            }
            if let Some(digit) = alphabet::digit(rest[0]) {
                self.digit(rest[0], digit, &mut said);
                at += 1;
            } else if matches!(rest, [b'\r' | b'\n', ..]) && (self.line >= LONG_LINE || self.line == 0) {
                self.line = 0;
                at += 1;
            } else if matches!(rest, [b'\\', b'n' | b'r', ..]) && self.line >= LONG_LINE {
                self.line = 0;
                at += 2;
            } else if let Some((byte, digit, length)) = escaped(rest) {
                self.digit(byte, digit, &mut said);
                at += length;
            } else {
                break;
            }
        }
        (at, said)
    }

    /// Decodes digits four by four, where neither hex nor what is left of a byte needs a look at each: how many there were.
    fn fours(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        if !self.no_hex || self.bits != 0 || short_cuts::are_off() {
            return 0;
        }
        let mut length = 0;
        for four in bytes.as_chunks::<4>().0 {
            let [a, b, c, d] = four.map(|byte| u32::from(alphabet::DIGITS[usize::from(byte)]));
            if (a | b | c | d) >= u32::from(alphabet::BREAK) {
                break;
            }
            out.extend_from_slice(&(a << 18 | b << 12 | c << 6 | d).to_be_bytes()[1..]);
            length += 4;
        }
        self.line += length;
        length
    }

    fn digit(&mut self, byte: u8, digit: u8, said: &mut DecodedDigits) {
        self.line += 1;
        if !self.no_hex {
            match char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()) {
                Some(low) => match self.high.take() {
                    Some(high) => said.hex.push(high << 4 | low),
                    None => self.high = Some(low),
                },
                None => {
                    (self.no_hex, said.hex_ended) = (true, true);
                    said.base64.append(&mut self.held);
                }
            }
            if self.bits == 0 && self.held.len() >= HELD {
                self.held.clear();
            }
        }
        self.value = self.value << 6 | u32::from(digit);
        self.bits += 6;
        if self.bits >= 8 {
            self.bits -= 8;
            let byte = u8::try_from(self.value >> self.bits & 0xff).unwrap_or_default();
            self.value &= (1 << self.bits) - 1;
            if self.no_hex { said.base64.push(byte) } else { self.held.push(byte) }
        }
    }
}

/// Tells of each byte whether it is in no run, neither as a digit nor in an escape.
pub(super) fn mark(bytes: &[u8], marks: &mut Vec<u8>) {
    marks.resize(bytes.len().next_multiple_of(MARKED), 1);
    mark_all(bytes, marks);
    marks.truncate(bytes.len());
    if short_cuts::are_off() {
        let is_in_run = |byte: u8| alphabet::is_digit(byte) || matches!(byte, b'%' | b'\\');
        *marks = bytes.iter().map(|byte| u8::from(!is_in_run(*byte))).collect();
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn mark_all(bytes: &[u8], marks: &mut [u8]) {
    each_marked!(bytes, marks, is_no_run);
}

/// Compared with no table, as [`may_be_digit`] is.
#[inline(always)]
fn is_no_run(byte: u8) -> u8 {
    u8::from(!(may_be_digit(byte) | (byte == b'%') | (byte == b'\\')))
}

/// Whether all of the bytes with these marks may be in a run, [`STEP`] at most.
pub(super) fn are_run(marks: &[u8]) -> bool {
    marks.first_chunk::<STEP>().map_or_else(|| marks.iter().all(|mark| *mark == 0), |step| *step == [0; STEP])
}

/// Where a run begins that may be around here, not before `least`.
pub(super) fn start(bytes: &[u8], at: usize, least: usize) -> usize {
    let before = bytes[least.min(at)..at].iter().rev().take(REACH);
    at - before.take_while(|byte| alphabet::is_digit(**byte) || matches!(byte, b'%' | b'\\')).count()
}

/// Why a run is looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunBeginning {
    /// It is long, or something packed begins in it.
    Sure,
    /// It begins as text does that is in base64 or in hex.
    Guess,
}

/// How many bytes there are of up to [`LONG`] digits, and whether these begin a run that is to be looked into.
pub(super) fn begins(bytes: &[u8]) -> (usize, Option<RunBeginning>) {
    let (mut at, mut digits) = (0, [0; LONG]);
    for count in 0..LONG {
        let next = match bytes.get(at) {
            Some(byte) if alphabet::is_digit(*byte) => Some((*byte, 1)),
            Some(_) => escaped(&bytes[at..]).map(|(byte, _, length)| (byte, length)),
            None => None,
        };
        match next {
            Some((byte, length)) => {
                digits[count] = byte;
                at += length;
            }
            None => return (at, if count >= SHORT { says_more(&digits[..SHORT]) } else { None }),
        }
    }
    (at, Some(RunBeginning::Sure))
}

/// Whether something packed begins where these digits do, or text, which may be in another form itself.
fn says_more(digits: &[u8]) -> Option<RunBeginning> {
    // Nothing that can be packed begins with other digits, in base64 or in hex, and neither does text; most words do.
    if !matches!(digits[0], b'A'..=b'Z' | b'a'..=b'f' | b'/' | b'_' | b'0'..=b'9') {
        return None;
    }
    let mut run = DigitRun::default();
    let mut said = DecodedDigits::default();
    for digit in digits {
        run.digit(*digit, alphabet::digit(*digit).unwrap_or_default(), &mut said);
    }
    let base64 = if said.base64.is_empty() { &run.held } else { &said.base64 };
    let is_text = |said: &[u8]| said.len() >= SHORT / 2 && said.iter().all(u8::is_ascii_graphic);
    if Packing::begins(base64).or_else(|| Packing::begins(&said.hex)).is_some() {
        return Some(RunBeginning::Sure);
    }
    (is_text(base64) || is_text(&said.hex)).then_some(RunBeginning::Guess)
}

/// A digit that is written as an escape, what it is worth, and how long the escape is.
fn escaped(bytes: &[u8]) -> Option<(u8, u8, usize)> {
    let (byte, length) = escape(bytes)?;
    Some((byte, alphabet::digit(byte)?, length))
}

/// The byte that an escape stands for, and how long the escape is.
fn escape(bytes: &[u8]) -> Option<(u8, usize)> {
    let hex = |digits: &[u8]| {
        let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
        u8::from_str_radix(text, 16).ok()
    };
    match bytes {
        [b'%', high, low, ..] => Some((hex(&[*high, *low])?, 3)),
        [b'\\', b'u', b'0', b'0', high, low, ..] => Some((hex(&[*high, *low])?, 6)),
        [b'\\', b'/', ..] => Some((b'/', 2)),
        _ => None,
    }
}

/// How long the escape is that begins here, if one does.
pub(super) fn escape_length(bytes: &[u8]) -> usize {
    match bytes {
        [b'\\', _, ..] => escape(bytes).map_or(2, |(_, length)| length),
        _ => escape(bytes).map_or(0, |(_, length)| length),
    }
}
