//! What runs of digits say in base64 and in hex, wherever in them it begins.

use super::begin::next_start;
use super::runs::text_runs;
use crate::dlp::Packing;
use crate::dlp::runs::{BETWEEN, Digits};

/// From so many digits on, a run may have something packed in it, and is decoded as a whole.
const LONG: usize = 64;
/// What is packed begins within so many bytes of a run, where it does not begin with it.
const PACKED: usize = 64;

/// Fewer digits of hex in a run say nothing.
const SHORTEST_HEX: usize = 20;

/// `0` and `x` as digits of base64.
const ZERO: u8 = 52;
const X: u8 = 49;

/// What runs say; each thing is a line.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// What they say from their first digit on.
    pub(super) sure: Vec<u8>,
    /// What they say from another one on, or line by line.
    pub(super) shifted: Vec<u8>,
    /// A buffer.
    bytes: Vec<u8>,
}

impl Decoded {
    /// Decodes one run.
    pub(super) fn run(&mut self, run: &Digits) {
        let digits = run.digits();
        // One digit again and again says one byte again and again, in base64 and in hex, and that says another.
        if digits.iter().all(|digit| Some(digit) == digits.first()) {
            return;
        }
        let is_long = digits.len() >= LONG;
        // `0x` stands before it in programs. What has no digit but those of hex is no base64.
        if let Some(hex) = nibbles(digits).or_else(|| digits.strip_prefix(&[ZERO, X]).and_then(nibbles)) {
            keep(&hex_bytes(&hex), is_long, &mut self.sure);
            return keep(&hex_bytes(&hex[1..]), false, &mut self.shifted);
        }
        for hex in hex_stretches(digits) {
            keep(&hex_bytes(&hex), hex.len() >= LONG, &mut self.sure);
            keep(&hex_bytes(&hex[1..]), false, &mut self.shifted);
        }
        self.base64(digits, is_long, false);
        if run.line_lengths().any(|length| !length.is_multiple_of(4)) {
            run.split_lines().for_each(|line| self.base64(line, false, true));
        }
    }

    /// Decodes base64 from each of its first four digits on; what it says is a guess from the second one on, and from the first if it
    /// is `shifted`.
    fn base64(&mut self, digits: &[u8], is_long: bool, shifted: bool) {
        for skip in 0..4.min(digits.len()) {
            self.bytes.clear();
            base64(&digits[skip..], &mut self.bytes);
            let is_sure = skip == 0 && !shifted;
            let out = if is_sure { &mut self.sure } else { &mut self.shifted };
            keep(&self.bytes, is_sure && is_long, out);
        }
    }
}

/// The stretches of a run that have no digit but those of hex: they may stand behind a path, whose slashes are digits of base64, or
/// beside lines of other digits.
fn hex_stretches(digits: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let is_other = |digit: &u8| nibbles(std::slice::from_ref(digit)).is_none();
    digits.split(is_other).filter(|stretch| stretch.len() >= SHORTEST_HEX).filter_map(nibbles)
}

/// Appends the texts that a run says, from whichever of its digits on.
pub(crate) fn texts_of(run: &Digits, out: &mut Vec<u8>) {
    let digits = run.digits();
    for hex in hex_stretches(digits) {
        text_runs(&hex_bytes(&hex), out);
        text_runs(&hex_bytes(&hex[1..]), out);
        if hex.len() == digits.len() {
            return;
        }
    }
    let mut bytes = vec![];
    let mut from_each = |digits: &[u8]| {
        for skip in 0..4.min(digits.len()) {
            bytes.clear();
            base64(&digits[skip..], &mut bytes);
            text_runs(&bytes, out);
        }
    };
    from_each(digits);
    if run.line_lengths().any(|length| !length.is_multiple_of(4)) {
        run.split_lines().for_each(from_each);
    }
}

fn hex_bytes(nibbles: &[u8]) -> Vec<u8> {
    nibbles.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect()
}

/// Takes all of it, or what text there is in it, which may be wide; all of it, too, where something packed begins near its beginning.
fn keep(bytes: &[u8], all: bool, out: &mut Vec<u8>) {
    if all || begins_packed(bytes) {
        out.extend(bytes);
        out.extend(BETWEEN);
    } else {
        text_runs(bytes, out);
    }
}

fn begins_packed(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(next) = next_start(bytes, at).filter(|next| *next < PACKED) {
        if Packing::begins(&bytes[next..]).is_some() {
            return true;
        }
        at = next + 1;
    }
    false
}

fn base64(digits: &[u8], out: &mut Vec<u8>) {
    let (fours, rest) = digits.as_chunks::<4>();
    for four in fours {
        let value = four.iter().fold(0u32, |value, digit| value << 6 | u32::from(*digit));
        out.extend_from_slice(&value.to_be_bytes()[1..]);
    }
    let value = (0..4).fold(0u32, |value, at| value << 6 | u32::from(rest.get(at).copied().unwrap_or_default()));
    out.extend_from_slice(&value.to_be_bytes()[1..][..rest.len() * 6 / 8]);
}

/// The digits as those of hex; none where one is no such digit.
fn nibbles(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |digit: &u8| match digit {
        52..62 => Some(digit - 52),
        0..6 => Some(digit + 10),
        26..32 => Some(digit - 16),
        _ => None,
    };
    digits.iter().map(nibble).collect()
}
