//! What is cut by the heads of parts and frames, or into literals, and put together again by whoever runs or reads it: `"abc" + "def"`, `'abc' .. 'def'`,
//! `"abc" "def"`, a list of strings, the lines of a notebook's cell.

use super::hints;

/// Between two literals there are so many bytes at most.
const BETWEEN: usize = 96;
/// Of a literal so many bytes count.
const LONGEST: usize = 512;
/// Of what stands before the first of a chain on its line, so many: a name, and how it is given its value.
const LONGEST_KEY: usize = 64;
/// A list of literals with fewer digits is one of words, and so is one string without any.
const DIGITS: usize = 3;
/// A shorter chain is no secret.
const SHORTEST: usize = 16;

/// How one literal follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seam {
    /// An operator, or nothing at all: what is meant is one string.
    Whole,
    /// A comma: it is a list, of which somebody may make one string.
    List,
}

/// The chains of literals, each joined and on a line of its own; before it, what stands before its first literal, so that it
/// reads as if it were one. Of lists there are the literals alone, and once more those behind the first: in a notebook's cell that
/// is the line before.
pub(super) fn literals(bytes: &[u8], hints: &[u8], out: &mut Vec<u8>) {
    let mut done = 0;
    // The hint stands at the byte before the quote.
    let stretches =
        hints::stretches(bytes.len(), hints, hints::SEAM).map(|hint| hint.start + 1..bytes.len().min(hint.end + 1));
    let quotes = stretches.flat_map(|stretch| {
        memchr::memchr3_iter(b'"', b'\'', b'`', &bytes[stretch.clone()]).map(move |at| stretch.start + at)
    });
    for at in quotes {
        if at < done || !ends_literal(bytes, at) {
            continue;
        }
        if let Some(mut seam) = seam(bytes, at + 1) {
            done = chain(bytes, done, at, &mut seam, out);
        }
    }
}

/// Whether a literal with something in it ends with the quote that stands here.
fn ends_literal(bytes: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|at| bytes[at]);
    match before(1) {
        Some(b'\\') => match (before(2), before(3)) {
            // The end of a line, as JSON or a program writes it.
            (Some(b'n'), Some(b'\\')) => true,
            (Some(byte), _) => is_token(byte),
            _ => false,
        },
        Some(b'n') if before(2) == Some(b'\\') => true,
        Some(byte) => is_token(byte),
        None => false,
    }
}

fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'/' | b'=' | b'.' | b'~' | b':');
        byte += 1;
    }
    table
};

/// Where the next literal's content begins behind a quote, and how it follows; none: something else follows.
fn seam(bytes: &[u8], from: usize) -> Option<(usize, Seam)> {
    let (mut at, mut kind, mut operators) = (from, Seam::Whole, 0);
    let end = bytes.len().min(from + BETWEEN);
    while at < end {
        match bytes[at..end] {
            [b' ' | b'\t' | b'\n' | b'\r' | b'(' | b')', ..] => at += 1,
            [b'\\', b'n' | b'r' | b't', ..] => at += 2,
            [b'\\', b'\n' | b'\r', ..] => at += 2,
            [b'\\', b'\\', b'n', ..] => at += 3,
            [b'.', b'.', ..] | [b'|', b'|', ..] | [b'+', b'+', ..] | [b'<', b'>', ..] => {
                (at, operators) = (at + 2, operators + 1);
            }
            [b'+' | b'.' | b'&' | b'~', ..] => (at, operators) = (at + 1, operators + 1),
            [b',', ..] => (at, operators, kind) = (at + 1, operators + 1, Seam::List),
            [b'"' | b'\'' | b'`', next, ..] if is_token(next) => return Some((at + 1, kind)),
            [b'\\', b'"' | b'\'', next, ..] if is_token(next) => return Some((at + 2, kind)),
            // Python's and Rust's, which say what kind of literal follows.
            [b'f' | b'b' | b'r' | b'u', b'"' | b'\'', next, ..] if is_token(next) && at > from => {
                return Some((at + 2, kind));
            }
            _ => return None,
        }
        if operators > 1 {
            return None;
        }
    }
    None
}

/// Joins the literals from the one that ends here, of what was not `done` before: up to where they were read.
fn chain(bytes: &[u8], done: usize, quote: usize, seam_at: &mut (usize, Seam), out: &mut Vec<u8>) -> usize {
    let first = first_literal(bytes, quote).max(done);
    let (body, mut is_list) = (out.len(), false);
    out.extend_from_slice(&bytes[first..first + token_length(&bytes[first..quote])]);
    let second = out.len();
    let mut end;
    loop {
        let (start, kind) = *seam_at;
        is_list |= kind == Seam::List;
        let length = token_length(&bytes[start..bytes.len().min(start + LONGEST)]);
        out.extend_from_slice(&bytes[start..start + length]);
        end = start + length;
        // The end of a line that the literal itself has is no part of a secret.
        end += match bytes[end..] {
            [b'\\', b'\\', b'n', ..] => 3,
            [b'\\', b'n', ..] => 2,
            _ => 0,
        };
        end += usize::from(bytes[end..].first() == Some(&b'\\'));
        let is_quote = matches!(bytes.get(end), Some(b'"' | b'\'' | b'`'));
        let next = (is_quote && out.len() - body < LONGEST).then(|| seam(bytes, end + 1)).flatten();
        let Some(next) = next else { break };
        *seam_at = next;
    }
    // Of a list of words nobody makes a secret; what is random has digits.
    let digits = out[body..].iter().filter(|byte| byte.is_ascii_digit()).count();
    if out.len() - body < SHORTEST || digits < if is_list { DIGITS } else { 1 } {
        out.truncate(body);
        return end;
    }
    if is_list {
        let behind_first = second..out.len();
        if behind_first.len() >= SHORTEST {
            out.push(b'\n');
            out.extend_from_within(behind_first);
        }
    } else {
        let line = bytes[done..first].iter().rev().take(LONGEST_KEY).take_while(|byte| **byte != b'\n').count();
        out.splice(body..body, bytes[first - line..first].iter().copied());
        out.push(bytes[quote]);
    }
    out.push(b'\n');
    end
}

/// Where the content of the literal begins that ends here, as far as it could be a secret's.
fn first_literal(bytes: &[u8], quote: usize) -> usize {
    let mut end = quote;
    if end > 0 && bytes[end - 1] == b'\\' {
        end -= 1;
    }
    for _ in 0..2 {
        if bytes[..end].ends_with(b"\\n") {
            end -= 2;
        }
        if bytes[..end].ends_with(b"\\") {
            end -= 1;
        }
    }
    end - bytes[..end].iter().rev().take(LONGEST).take_while(|byte| is_token(**byte)).count()
}

/// How many of the first bytes could be a secret's.
fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !is_token(*byte)).unwrap_or(bytes.len())
}

/// A part's head, or a frame's, has so many bytes at most.
const HEAD: usize = 2048;

/// What is cut by the heads of parts and frames: a multipart body's, and those in which S3 signs what it is sent. Each chain of
/// ends and beginnings is a line.
pub(super) fn parts(bytes: &[u8], out: &mut Vec<u8>) {
    let mut end = None;
    for at in memchr::memchr_iter(b'\r', bytes).filter(|at| bytes.get(at + 1) == Some(&b'\n')) {
        let Some(start) = part_begins(bytes, at) else { continue };
        let token =
            |range: &mut dyn Iterator<Item = &u8>| range.take(LONGEST).take_while(|byte| is_token(**byte)).count();
        let before = token(&mut bytes[..at].iter().rev());
        let behind = token(&mut bytes[start..].iter());
        if before == 0 || behind == 0 {
            continue;
        }
        if end != Some(at) {
            out.extend_from_slice(b"\n");
            out.extend_from_slice(&bytes[at - before..at]);
        }
        out.extend_from_slice(&bytes[start..start + behind]);
        end = Some(start + behind);
    }
}

/// Where what follows a head begins, if one stands behind the line's end that is here.
fn part_begins(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at + 2..bytes.len().min(at + 2 + HEAD)];
    if rest.starts_with(b"--") {
        return memchr::memmem::find(rest, b"\r\n\r\n").map(|length| at + 2 + length + 4);
    }
    let digits = rest.iter().take(9).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let signature = match rest.get(digits..)? {
        [b';', ext @ ..] if ext.starts_with(b"chunk-signature=") => 1 + memchr::memchr(b'\r', ext)?,
        _ => 0,
    };
    let end = digits + signature;
    ((1..9).contains(&digits) && rest.get(end..)?.starts_with(b"\r\n")).then_some(at + 2 + end + 2)
}
