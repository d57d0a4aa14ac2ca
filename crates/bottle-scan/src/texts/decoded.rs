//! What runs of digits say in base64 and in hex, wherever in them it begins.

use super::SHORTEST;
use super::runs::printable_runs;
use crate::dlp::Packing;
use crate::dlp::runs::Digits;

/// From so many digits on, a run may have something packed in it, and is decoded as a whole.
const LONG: usize = 64;
/// What is packed begins within so many bytes of a run, where it does not begin with it.
const PACKED: usize = 64;

/// `0` and `x` as digits of base64.
const ZERO: u8 = 52;
const X: u8 = 49;

/// Decodes one run; each thing that it says is a line.
pub(super) fn run(run: &Digits, out: &mut Vec<u8>) {
    let digits = run.digits();
    let lines = run.line_lengths().any(|length| !length.is_multiple_of(4));
    for line in std::iter::once(digits).chain(run.split_lines().filter(|_| lines)) {
        for skip in 0..4.min(line.len()) {
            keep(base64(&line[skip..]), skip == 0 && line.len() == digits.len() && line.len() >= LONG, out);
        }
    }
    // `0x` stands before it in programs.
    let hex = nibbles(digits).or_else(|| digits.strip_prefix(&[ZERO, X]).and_then(nibbles));
    if let Some(hex) = hex {
        for skip in 0..2.min(hex.len()) {
            let bytes: Vec<u8> = hex[skip..].chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect();
            keep(bytes, skip == 0, out);
        }
    }
}

/// Takes all of it, or what text there is in it; all of it, too, where something packed begins near its beginning.
fn keep(bytes: Vec<u8>, all: bool, out: &mut Vec<u8>) {
    let packed = || (0..bytes.len().min(PACKED)).any(|at| Packing::begins(&bytes[at..]).is_some());
    if all || packed() {
        out.extend(bytes);
        out.push(b'\n');
    } else {
        printable_runs(&bytes, SHORTEST, out);
    }
}

fn base64(digits: &[u8]) -> Vec<u8> {
    let (mut bits, mut value) = (0, 0u32);
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    for digit in digits {
        value = value << 6 | u32::from(*digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(value >> bits & 0xff).unwrap_or_default());
            value &= (1 << bits) - 1;
        }
    }
    out
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
