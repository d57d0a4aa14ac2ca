//! Tells which forms could begin in each 64 bytes, compared all at once: most bytes have none, and no form is looked for there.

use std::ops::Range;

use multiversion::multiversion;

use super::short_cuts;

/// So many bytes are asked at once.
pub(super) const PIECE: usize = 64;

/// An escape, or a line of quoted-printable that goes on.
pub(super) const ESCAPE: u8 = 1;
/// A NUL byte.
pub(super) const NUL: u8 = 2;
/// A call that gives a character: `chr(`, `Char(`, `.chr`.
pub(super) const CALL: u8 = 4;
/// The head of a file in uuencode or a full line of it, or the length of a binary patch of git's.
pub(super) const LINES: u8 = 8;
/// A literal ends, and another may follow.
pub(super) const SEAM: u8 = 16;
/// A byte that is not ASCII.
pub(super) const WIDE: u8 = 0x80;

/// How many bytes behind its first a hint needs.
const AHEAD: usize = 2;

/// Tells for each [`PIECE`] what could begin with any of its bytes.
pub(super) fn hints(bytes: &[u8], hints: &mut Vec<u8>) {
    hints.clear();
    match short_cuts::are_off() {
        true => hints.resize(bytes.len().div_ceil(PIECE), u8::MAX),
        false => of_pieces(bytes, hints),
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn of_pieces(bytes: &[u8], hints: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(piece) = rest.first_chunk() {
        hints.push(of_piece(piece));
        rest = &rest[PIECE..];
    }
    while !rest.is_empty() {
        // Behind the end nothing begins, whatever stands there.
        let mut piece = [b' '; PIECE + AHEAD];
        piece[..rest.len().min(PIECE + AHEAD)].copy_from_slice(&rest[..rest.len().min(PIECE + AHEAD)]);
        hints.push(of_piece(&piece));
        rest = rest.get(PIECE..).unwrap_or_default();
    }
}

/// What could begin with any of these bytes but the last. Loops and no closures: only what is inlined is compiled for many bytes at once.
#[inline(always)]
fn of_piece(piece: &[u8; PIECE + AHEAD]) -> u8 {
    let mut all = 0;
    for at in 0..PIECE {
        all |= hint(piece[at], piece[at + 1], piece[at + 2]);
    }
    all
}

/// Where in bytes of this length, whose hints these are, something of the kind could begin, in order.
pub(super) fn stretches(length: usize, hints: &[u8], hint: u8) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = 0;
    hints.chunk_by(move |one, other| (one ^ other) & hint == 0).filter_map(move |stretch| {
        let start = from;
        from += stretch.len() * PIECE;
        (stretch[0] & hint != 0).then_some(start..from.min(length))
    })
}

/// What could begin with the first of three bytes, with no short cuts.
#[inline(always)]
fn hint(first: u8, second: u8, third: u8) -> u8 {
    let escape = (first == b'%')
        | (first == b'=') & ((second.wrapping_sub(b'2') < 6) | (second == b'\n') | (second == b'\r'))
        | (first == b'\\')
            & ((second | 0x20 == b'u') | (second == b'x') | (second == b'/') | (second.wrapping_sub(b'0') < 4))
        | (first == b'&') & (second == b'#');
    let call = (third == b'(') & (second | 0x20 == b'r') & ((first | 0x20 == b'h') | (first | 0x20 == b'a'))
        | (first == b'.') & (second == b'c') & (third == b'h');
    (u8::from(escape) * ESCAPE)
        | (u8::from(first == 0) * NUL)
        | (u8::from(call) * CALL)
        | (u8::from(are_lines(first, second, third)) * LINES)
        | (u8::from(is_seam(first, second, third)) * SEAM)
        | (first & WIDE)
}

#[inline(always)]
fn is_digit(byte: u8) -> bool {
    byte.wrapping_sub(b'0') < 10
}

/// Whether `begin 644 name`, `literal 123` or `delta 123` goes on so, or a full line of uuencode begins.
#[inline(always)]
pub(super) fn are_lines(first: u8, second: u8, third: u8) -> bool {
    (second == b' ') & is_digit(third) & ((first == b'n') | (first == b'l') | (first == b'a'))
        | (first == b'\n') & (second == b'M')
}

/// Whether a literal could end so that another follows: behind a character of a token, or an escape, a quote, and what may stand between two
/// literals.
#[inline(always)]
pub(super) fn is_seam(first: u8, second: u8, third: u8) -> bool {
    let quote = |byte: u8| (byte == b'"') | (byte == b'\'') | (byte == b'`');
    // From `+` to `:` there are digits, `+`, `-`, `.`, `/` and `:`, and a comma; letters and `\` from `A` to `z`.
    let ends = (first.wrapping_sub(b'+') < 16) | (first.wrapping_sub(b'A') < 58) | (first == b'=') | (first == b'~');
    // No letter but those before a quote, no digit, no bracket but a round one.
    let goes_on = (third < b'0') | (third.wrapping_sub(b'<') < 3) | (third == b'\\') | (third >= b'`');
    ends & quote(second) & goes_on
}
