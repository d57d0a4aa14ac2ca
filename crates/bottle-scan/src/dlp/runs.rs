//! Runs of digits of base64 (those of hex are among them), with the lines over which they go joined.

use std::borrow::Cow;
use std::ops::Range;

use multiversion::multiversion;

use super::alphabet::{BREAK, DIGITS, is_digit};
use super::short_cuts;

/// A run of digits, with its lines joined.
#[derive(Debug, Default)]
pub(crate) struct Digits {
    pub(super) digits: Vec<u8>,
    /// Before which digits a line ended.
    pub(super) lines: Vec<usize>,
    /// For each byte of the text, whether it ends a run for certain.
    breaks: Vec<u8>,
}

/// Stands between things that were said: a line that ends a run for certain, in no class of a rule's that goes on over lines.
pub(crate) const BETWEEN: &[u8] = b"\n\x1c\n";

/// Shorter runs hold no secret.
const SHORTEST_RUN: usize = 20;
const EIGHT: usize = 8;
/// So many bytes are marked at once.
pub(super) const MARKED: usize = 32;

/// Gives every run of digits that is long enough, and where it stands: ends of lines, also written as `\n`, are in it
/// with the blanks and the signs of a quotation or a comment behind them, any other byte ends it. A run that begins or ends within a
/// line of other text is given without that line before it is given with it: a word of a sentence may stand there.
pub(crate) fn runs<T>(
    bytes: &[u8],
    buffer: &mut Digits,
    mut each: impl FnMut(&Digits, Range<usize>) -> Option<T>,
) -> Option<T> {
    if bytes.len() < SHORTEST_RUN && !short_cuts::are_off() {
        return None;
    }
    let mut breaks = std::mem::take(&mut buffer.breaks);
    breaks.resize(bytes.len().next_multiple_of(MARKED), 1);
    mark_breaks(bytes, &mut breaks);
    breaks.truncate(bytes.len());
    if short_cuts::are_off() {
        breaks = bytes.iter().map(|byte| u8::from(DIGITS[usize::from(*byte)] == BREAK)).collect();
    }
    let found = between_breaks(bytes, &breaks, buffer, &mut each);
    buffer.breaks = breaks;
    found
}

/// The same, with the breaks.
fn between_breaks<T>(
    bytes: &[u8],
    breaks: &[u8],
    buffer: &mut Digits,
    each: &mut impl FnMut(&Digits, Range<usize>) -> Option<T>,
) -> Option<T> {
    let eights = breaks.as_chunks::<EIGHT>().0;
    let mut done = 0;
    let mut before = 0;
    for (block, here) in eights.iter().enumerate() {
        // A run that is long enough has eight places without a break somewhere, from a multiple of eight on.
        let (at, here) = (block * EIGHT, u64::from_le_bytes(*here));
        let left = std::mem::replace(&mut before, here);
        if here != 0 || at < done {
            continue;
        }
        let right = eights.get(block + 1).map_or(0, |right| u64::from_le_bytes(*right));
        if is_short(bytes, at, left, right) && !short_cuts::are_off() {
            continue;
        }
        let start = begin(bytes, at, done);
        let run = extent(bytes, start);
        let readings = if run.count >= SHORTEST_RUN { run.readings(bytes) } else { Default::default() };
        for reading in readings.into_iter().flatten() {
            buffer.fill(&bytes[..reading.end], reading.start);
            if buffer.digits.len() >= SHORTEST_RUN
                && let Some(found) = each(buffer, reading)
            {
                return Some(found);
            }
        }
        done = run.end.max(at + 1);
    }
    None
}

/// Tells of each byte whether it ends a run for certain.
#[multiversion(targets("x86_64+avx2"))]
fn mark_breaks(bytes: &[u8], breaks: &mut [u8]) {
    each_marked!(bytes, breaks, ends_run);
}

/// Whether a byte ends a run for certain: by comparisons instead of a table, so that the compiler takes many at once.
#[inline(always)]
fn ends_run(byte: u8) -> u8 {
    u8::from(!(may_be_digit(byte) | (byte == b'\n') | (byte == b'\r') | (byte == b'\\')))
}

/// Marks each byte, [`MARKED`] at once, and those behind the end as blanks; there are as many marks as bytes, but for that. A macro and
/// loops, no closure and no iterator's own loop: only the body of a function for a target has the target's features, and of anything else
/// the compiler makes a call for each byte.
macro_rules! each_marked {
    ($bytes:expr, $marks:expr, $mark:path) => {
        let (whole, rest) = $bytes.as_chunks::<{ $crate::dlp::runs::MARKED }>();
        let mut marks = $marks.as_chunks_mut::<{ $crate::dlp::runs::MARKED }>().0.iter_mut();
        for piece in whole {
            let Some(marks) = marks.next() else { break };
            for at in 0..$crate::dlp::runs::MARKED {
                marks[at] = $mark(piece[at]);
            }
        }
        if let Some(marks) = marks.next() {
            let mut piece = [b' '; $crate::dlp::runs::MARKED];
            piece[..rest.len()].copy_from_slice(rest);
            for at in 0..$crate::dlp::runs::MARKED {
                marks[at] = $mark(piece[at]);
            }
        }
    };
}
pub(super) use each_marked;

/// Whether the run around these eight places is too short for certain, by the breaks in the eight on either side.
fn is_short(bytes: &[u8], at: usize, left: u64, right: u64) -> bool {
    if left == 0 || right == 0 {
        return false;
    }
    let places = |zeros: u32| usize::try_from(zeros / 8).unwrap_or_default();
    let (start, end) = (at - places(left.leading_zeros()), at + EIGHT + places(right.trailing_zeros()));
    let blank = |byte: u8| matches!(byte, b' ' | b'\t');
    // Behind the end of a line blanks belong to the run, and what marks a line as quoted or as a comment.
    let goes_back = blank(bytes[start - 1])
        && start.checked_sub(2).is_none_or(|other| blank(bytes[other]) || matches!(bytes[other], b'\n' | b'\r' | b'/'));
    let marked = |byte: u8| blank(byte) || matches!(byte, b'>' | b'#' | b'*' | b'|' | b'/');
    // The slashes of a comment are digits, and no break.
    let goes_on = marked(bytes[end]) && matches!(bytes[end - 2..end], [_, b'\n' | b'\r' | b'/'] | [b'\\', b'n' | b'r']);
    end - start < SHORTEST_RUN && !goes_back && !goes_on
}

/// Where the run around this place begins, not before `least`.
fn begin(bytes: &[u8], mut at: usize, least: usize) -> usize {
    while at > least {
        let before = bytes[at - 1];
        if is_digit(before) || matches!(before, b'\n' | b'\r') {
            // The `n` of a written `\n` is a digit, too: the backslash before it is met next.
            at -= 1;
        } else if before == b'\\' && matches!(bytes.get(at), Some(b'n' | b'r' | b'\n' | b'\r' | b'\\')) {
            at -= 1;
        } else if matches!(before, b' ' | b'\t') {
            let blanks = bytes[least..at].iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            match bytes[least..at - blanks].last() {
                Some(b'\n' | b'\r') => at -= blanks,
                _ => break,
            }
        } else {
            break;
        }
    }
    at
}

/// Where a run stands.
#[derive(Debug)]
struct Extent {
    start: usize,
    end: usize,
    /// How many digits it has.
    count: usize,
    /// Where its second line begins, and where the last but one ends; none: it is on one line.
    inner: Option<Range<usize>>,
}

impl Extent {
    /// What remains of it without its first or its last line, where those are parts of longer ones; then all of it.
    fn readings(&self, bytes: &[u8]) -> [Option<Range<usize>>; 4] {
        let all = Some(self.start..self.end);
        let Some(inner) = &self.inner else { return [all, None, None, None] };
        let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| !matches!(byte, b'\n' | b'\r'));
        let first = is_part(self.start.checked_sub(1).and_then(|before| bytes.get(before)));
        let last = is_part(bytes.get(self.end));
        let some = |reading: Range<usize>, is_one: bool| (is_one && reading.start < reading.end).then_some(reading);
        [some(inner.clone(), first && last), some(inner.start..self.end, first), some(self.start..inner.end, last), all]
    }
}

/// The run that begins here.
fn extent(bytes: &[u8], start: usize) -> Extent {
    let (mut at, mut count, mut inner) = (start, 0, None::<Range<usize>>);
    loop {
        let digits =
            bytes[at..].iter().position(|byte| DIGITS[usize::from(*byte)] >= BREAK).unwrap_or(bytes.len() - at);
        (at, count) = (at + digits, count + digits);
        match line_end(&bytes[at..]) {
            0 => return Extent { start, end: at, count, inner },
            length => {
                let second = inner.map_or(at + length, |inner| inner.start);
                (inner, at) = (Some(second..at), at + length);
            }
        }
    }
}

/// How long the end of a line is with the blanks behind it, and with what marks the next one as quoted or as a comment; 0
/// where there is none. A backslash before it says that the line goes on.
pub(super) fn line_end(bytes: &[u8]) -> usize {
    let length = match bytes {
        [b'\n' | b'\r', ..] => 1,
        [b'\\', b'n' | b'r' | b'\n' | b'\r', ..] => 2,
        [b'\\', b'\\', b'n' | b'r', ..] => 3,
        _ => return 0,
    };
    let blanks = |at: usize| bytes[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let at = length + blanks(length);
    let marks = match &bytes[at..] {
        [b'/', b'/', b' ' | b'\t', ..] => 2,
        rest => rest.iter().take_while(|byte| matches!(byte, b'>' | b'#' | b'*' | b'|' | b' ')).take(MARKS).count(),
    };
    at + if marks == 0 { 0 } else { marks + blanks(at + marks) }
}

/// Before a quoted line there are so many signs and blanks at most.
const MARKS: usize = 16;

/// The characters of a run, without the ends of its lines.
pub(crate) fn characters(bytes: &[u8], run: Range<usize>) -> Cow<'_, [u8]> {
    if !bytes[run.clone()].iter().any(|byte| DIGITS[usize::from(*byte)] >= BREAK) {
        return Cow::Borrowed(&bytes[run]);
    }
    let mut out = Vec::with_capacity(run.len());
    let mut rest = &bytes[run];
    while !rest.is_empty() {
        let length = rest.iter().position(|byte| DIGITS[usize::from(*byte)] >= BREAK).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..length]);
        rest = &rest[length..];
        rest = &rest[line_end(rest).max(1).min(rest.len())..];
    }
    Cow::Owned(out)
}

impl Digits {
    /// What each is worth as a digit of base64.
    pub(crate) fn digits(&self) -> &[u8] {
        &self.digits
    }

    /// The digits of each line; of a run on one line there are none.
    pub(crate) fn split_lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.lines);
        let ends = self.lines.iter().copied().chain((!self.lines.is_empty()).then_some(self.digits.len()));
        starts.zip(ends).map(|(start, end)| &self.digits[*start..end])
    }

    /// How many digits each line has but the last.
    pub(crate) fn line_lengths(&self) -> impl Iterator<Item = usize> {
        self.split_lines().take(self.lines.len()).map(<[u8]>::len)
    }

    /// Takes the run that begins here.
    fn fill(&mut self, bytes: &[u8], start: usize) {
        self.lines.clear();
        self.digits.clear();
        let mut at = start;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let length = rest.iter().position(|byte| DIGITS[usize::from(*byte)] >= BREAK).unwrap_or(rest.len());
            self.digits.extend(rest[..length].iter().map(|byte| DIGITS[usize::from(*byte)]));
            match line_end(&rest[length..]) {
                0 => return,
                end => at += length + end,
            }
            self.lines.push(self.digits.len());
        }
    }
}

/// Where in the text a digit of the run that begins at `start` is.
pub(crate) fn position(bytes: &[u8], start: usize, digit: usize) -> usize {
    let mut digits = Digits::default();
    let (mut low, mut high) = (start, bytes.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        digits.fill(&bytes[..middle], start);
        if digits.digits.len() > digit { high = middle } else { low = middle + 1 }
    }
    low.saturating_sub(1)
}

/// Whether a byte is a digit of base64: compared with no table, so that the compiler takes many at once.
#[inline(always)]
pub(crate) fn may_be_digit(byte: u8) -> bool {
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    // A slash stands before the digits.
    let number = byte.wrapping_sub(b'/') < 11;
    letter | number | (byte == b'+') | (byte == b'-') | (byte == b'_')
}
