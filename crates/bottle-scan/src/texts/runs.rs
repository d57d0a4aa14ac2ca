//! Runs of printable characters among bytes that are none.

use std::collections::BTreeSet;

use super::SHORTEST;
use crate::dlp::runs::BETWEEN;

/// What comes out of a damaged stream, or of what only looked like one, has to have a longer run, and one of this many
/// different characters: random bytes look like a stream every few kilobytes, and most of what comes out is noise.
const SHORTEST_DAMAGED: usize = 16;
/// One byte in this many that no text has, and bytes are no text.
const MANY_OTHERS: usize = 8;

/// Whether there is a run of printable characters, several of them different.
pub(super) fn has_text(bytes: &[u8]) -> bool {
    let various = |part: &[u8]| part.iter().collect::<BTreeSet<_>>().len() >= SHORTEST;
    bytes.split(|byte| !is_printable(*byte) && *byte != 0).any(|run| run.windows(SHORTEST_DAMAGED).any(various))
}

fn is_printable(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte.is_ascii_whitespace()
}

/// The runs of printable characters that are long enough, each on a line of its own; NUL bytes may stand between them.
pub(super) fn text_runs(bytes: &[u8], out: &mut Vec<u8>) {
    let is_text = |byte: &u8| is_printable(*byte) || *byte == 0;
    let mut at = 0;
    while let Some(shortest) = bytes.get(at..at + SHORTEST) {
        // From the back: behind the last that is none, the next run may begin.
        if let Some(other) = shortest.iter().rposition(|byte| !is_text(byte)) {
            at += other + 1;
            continue;
        }
        let length = bytes[at..].iter().take_while(|byte| is_text(byte)).count();
        out.extend_from_slice(&bytes[at..at + length]);
        out.extend(BETWEEN);
        at += length + 1;
    }
}

pub(super) fn without_nuls(bytes: &[u8]) -> Vec<u8> {
    if bytes.contains(&0) { bytes.iter().copied().filter(|byte| *byte != 0).collect() } else { vec![] }
}

/// Whether one byte of 64 or more is a control character that no text has.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    let is_control = |byte: &&u8| byte.is_ascii_control() && !byte.is_ascii_whitespace() && **byte != 0x1b;
    bytes.iter().filter(is_control).count() > bytes.len() / 64
}

/// The printable characters that stand two or four bytes apart with NULs between, a run a line.
pub(super) fn wide_runs(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let mut at = 0;
    while at + 1 < bytes.len() {
        // A character and a NUL, or the other way round: the same runs, but for one end.
        if !(is_printable(bytes[at]) && bytes[at + 1] == 0) {
            at += 1;
            continue;
        }
        let step = if bytes.get(at + 2..at + 4) == Some(&[0, 0]) { 4 } else { 2 };
        let start = out.len();
        while at < bytes.len()
            && is_printable(bytes[at])
            && bytes[at + 1..].iter().take(step - 1).all(|byte| *byte == 0)
        {
            out.push(bytes[at]);
            at += step;
        }
        if out.len() - start < SHORTEST {
            out.truncate(start);
        } else {
            // Big-endian text ends in a character without a NUL behind it.
            out.extend(bytes.get(at).filter(|byte| is_printable(**byte)));
            out.push(b'\n');
        }
    }
    out
}

/// What a scanner of texts has to read of bytes that are mostly none: the runs of printable characters and white space that
/// are long enough for a secret, each followed by a line's end in place of what stands between them. None where the bytes
/// are UTF-8, or nearly all are such characters.
///
/// No rule's match goes over other bytes than these, but for the middle of a private key, which a line's end suits as well.
/// Where lines begin is lost.
pub fn runs_of_text(bytes: &[u8]) -> Option<Vec<u8>> {
    const TEXT: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = matches!(byte as u8, b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | b' '..=b'~');
            byte += 1;
        }
        table
    };
    let is_text = |byte: &u8| TEXT[usize::from(*byte)];
    if std::str::from_utf8(bytes).is_ok() {
        return None;
    }
    let other = bytes.len() - bytes.iter().filter(|byte| is_text(byte)).count();
    if other * MANY_OTHERS < bytes.len() {
        return None;
    }
    let mut out = Vec::with_capacity(bytes.len() / 16);
    let mut at = 0;
    while at < bytes.len() {
        // Where the last byte of a run that counts would be: if it is none, neither is a run that has it.
        let probe = at + SHORTEST - 1;
        if probe >= bytes.len() {
            break;
        }
        if !is_text(&bytes[probe]) {
            at = probe + 1;
            continue;
        }
        let back = bytes[at..probe].iter().rev().take_while(|byte| is_text(byte)).count();
        let start = probe - back;
        let end = probe + bytes[probe..].iter().take_while(|byte| is_text(byte)).count();
        if end - start >= SHORTEST {
            out.extend_from_slice(&bytes[start..end]);
            out.push(b'\n');
        }
        at = end + 1;
    }
    Some(out)
}
