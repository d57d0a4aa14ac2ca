//! What else some bytes say: what is packed inside them (gzip, zlib, zip, xz, lzip, bzip2, zstd, at any offset, nested), what remains without
//! NUL bytes (UTF-16 and UTF-32 of plain text), and what base64, hex, percent codes and lists of numbers stand for, over line
//! breaks too.
//!
//! A scanner that looks only at the bytes themselves, or trusts a name or the first bytes to say what a file is, misses
//! all of these. Formats that this module does not unpack are named by [`archive_names`], for the scanner's own unpackers.
//!
//! Map: `begin` (where something packed begins), `runs` (of printable characters in other bytes).

mod begin;
mod runs;

use std::io::Read;

use base64::Engine as _;
use flate2::{Decompress, FlushDecompress, Status};

use crate::dlp::numbers;
use crate::dlp::packed::{START_COST, Work, may_be_deflate};

pub use begin::archive_names;
use begin::{header, next_start, packer};
pub use runs::runs_of_text;
use runs::{has_text, wide_runs, without_nuls};

/// Packed inside packed inside packed: deeper than this is refused, as nobody does it honestly.
const DEEPEST: usize = 8;
/// Lists of numbers whose numbers say lists of numbers: what more of them say is not looked at. Numbers can be read in several ways, all
/// of which are tried, and honest ones (a table in a program's text) so say lists again and again that nobody wrote.
const MOST_LISTS: usize = 3;
/// No secret is a shorter run of printable characters.
const SHORTEST: usize = 8;
/// Up to this size all NUL bytes are dropped, wherever they are; in larger files only those between wide characters.
const SMALL: usize = 1 << 20;
/// A line of base64 or hex that may go on in the next one.
const SHORTEST_LINE: usize = 32;
/// Numbers are looked for in so much at once, and in so much behind it, where a list that says a secret has its end.
const PART: usize = 1 << 20;
const LONGEST_LIST: usize = 16 << 10;
/// Fewer percent codes than this hide nothing.
const MANY_PERCENTS: usize = 6;

/// Bytes that other bytes contain in another form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// How they came about: `gzip at byte 0`, `without NUL bytes`.
    pub how: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Something that can't be looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextsError {
    /// A bomb, or as good as one.
    #[error("what is packed in it unpacks to more than the gate looks through")]
    TooLarge,
    /// What begins in it again and again, and never is anything, or is next to nothing.
    #[error("it has more packed parts, or what looks like some, than the gate looks through")]
    TooMany,
    /// Nested without end.
    #[error("it has archives nested more than {DEEPEST} deep")]
    TooDeep,
}

/// How many steps a text is away from the bytes that were given.
#[derive(Debug, Clone, Copy, Default)]
struct Depth {
    steps: usize,
    /// Those of them that read numbers.
    lists: usize,
}

/// Looks for what else bytes say, within a budget for all that one push unpacks to.
#[derive(Debug)]
pub struct Unpacker {
    left: u64,
    work: Work,
    inflater: Decompress,
    marks: Vec<u8>,
}

impl Unpacker {
    /// An unpacker that stops with an error when `budget` bytes have come out.
    pub fn new(budget: u64) -> Self {
        Self { left: budget, work: Work::default(), inflater: Decompress::new(false), marks: vec![] }
    }

    /// Gives all that the bytes say in other forms, one by one; not the bytes themselves.
    pub fn unpack(&mut self, bytes: &[u8], each: &mut dyn FnMut(Derived)) -> Result<(), TextsError> {
        self.work.allow(bytes.len());
        self.look(bytes, "", Depth::default(), each)
    }

    fn look(
        &mut self,
        bytes: &[u8],
        before: &str,
        depth: Depth,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        let narrow = if bytes.len() <= SMALL { without_nuls(bytes) } else { wide_runs(bytes) };
        if !narrow.is_empty() {
            self.spend(narrow.len())?;
            let how = format!("{before}without NUL bytes");
            // UTF-16 text is read on: it may be base64. In other binaries the same runs were seen already.
            if narrow.len() * 4 <= bytes.len() * 3 {
                self.inner(narrow, how, depth, each)?;
            } else {
                each(Derived { how, bytes: narrow });
            }
        }
        self.streams(bytes, before, depth, each)?;
        self.encoded(bytes, before, depth, each)
    }

    fn inner(
        &mut self,
        bytes: Vec<u8>,
        how: String,
        depth: Depth,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        if depth.steps >= DEEPEST {
            return Err(TextsError::TooDeep);
        }
        self.look(&bytes, &format!("{how}, "), Depth { steps: depth.steps + 1, ..depth }, each)?;
        each(Derived { how, bytes });
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), TextsError> {
        self.left = self.left.checked_sub(bytes as u64).ok_or(TextsError::TooLarge)?;
        Ok(())
    }

    /// Deflate streams behind a gzip, zip or zlib header, wherever it stands.
    fn streams(
        &mut self,
        bytes: &[u8],
        before: &str,
        depth: Depth,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        let mut at = 0;
        while let Some(next) = next_start(bytes, at) {
            at = next;
            let rest = &bytes[at..];
            let (kind, start, (out, read)) = if let Some((kind, start)) = header(rest) {
                self.work.spend(START_COST).ok_or(TextsError::TooMany)?;
                (kind, start, self.inflate(rest.get(start..).unwrap_or_default())?)
            } else if let Some(kind) = packer(rest) {
                self.work.spend(64 * START_COST).ok_or(TextsError::TooMany)?;
                (kind, 0, self.decompress(kind, rest)?)
            } else {
                at += 1;
                continue;
            };
            let counts = match read {
                Some(_) => out.len() >= SHORTEST,
                None => has_text(&out),
            };
            if !counts {
                at += 1;
                continue;
            }
            self.inner(out, format!("{before}{kind} at byte {at}"), depth, each)?;
            // A stream that came out whole has no other inside it; after a broken one, what it swallowed is tried again.
            at += read.map_or(1, |read| start + read);
        }
        Ok(())
    }

    /// Inflates; the second value is how much was read, if the stream came to its end.
    fn inflate(&mut self, bytes: &[u8]) -> Result<(Vec<u8>, Option<usize>), TextsError> {
        self.inflater.reset(false);
        let mut out = vec![];
        let whole = self.inflate_into(bytes, &mut out)?;
        self.work.spend(self.inflater.total_in()).ok_or(TextsError::TooMany)?;
        let read = usize::try_from(self.inflater.total_in()).ok().filter(|_| whole);
        Ok((out, read))
    }

    /// Says whether it came to its end.
    fn inflate_into(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, TextsError> {
        loop {
            if out.len() == out.capacity() {
                out.reserve(out.len().max(512));
            }
            let (read, made) = (self.inflater.total_in(), out.len());
            let rest = usize::try_from(read).ok().and_then(|read| bytes.get(read..)).unwrap_or_default();
            let status = self.inflater.decompress_vec(rest, out, FlushDecompress::None);
            self.spend(out.len() - made)?;
            match status {
                Ok(Status::StreamEnd) => return Ok(true),
                Ok(_) if out.len() > made || self.inflater.total_in() > read => {}
                // Cut off or damaged: what came out before counts.
                Ok(_) | Err(_) => return Ok(false),
            }
        }
    }

    /// The same for the formats that have no deflate inside.
    fn decompress(&mut self, kind: &str, mut bytes: &[u8]) -> Result<(Vec<u8>, Option<usize>), TextsError> {
        let all = bytes.len();
        let mut out = vec![];
        let whole = match kind {
            "xz" => self.read_out(lzma_rust2::XzReader::new(&mut bytes, false), &mut out)?,
            "lzip" => self.read_out(lzma_rust2::LzipReader::new(&mut bytes), &mut out)?,
            "bzip2" => self.read_out(bzip2::bufread::BzDecoder::new(&mut bytes), &mut out)?,
            _ => match ruzstd::decoding::StreamingDecoder::new(&mut bytes) {
                Ok(decoder) => self.read_out(decoder, &mut out)?,
                Err(_) => false,
            },
        };
        self.work.spend((all - bytes.len()) as u64).ok_or(TextsError::TooMany)?;
        Ok((out, whole.then(|| all - bytes.len())))
    }

    /// Reads what comes; says whether it came to its end.
    fn read_out(&mut self, mut reader: impl Read, out: &mut Vec<u8>) -> Result<bool, TextsError> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(count) => {
                    self.spend(count)?;
                    out.extend_from_slice(&buffer[..count]);
                }
                // Cut off or damaged: what came out before counts.
                Err(_) => return Ok(false),
            }
        }
    }

    /// Base64 and hex are decoded, also where they are broken into lines, and so are percent signs. gitleaks does some of it,
    /// but no lines, nothing binary, and now and then it misses a plain one.
    fn encoded(
        &mut self,
        bytes: &[u8],
        before: &str,
        depth: Depth,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        let (mut joined, mut decoded) = (vec![], vec![]);
        let (mut run, mut lines) = (vec![], 0);
        for line in bytes.split(|byte| *byte == b'\n').map(Some).chain([None]) {
            if let Some(line) = line.map(<[u8]>::trim_ascii)
                && let text = longest_run(line)
                // The last line of a block is shorter, but has nothing beside it.
                && (text.len() >= SHORTEST_LINE || lines > 0 && !text.is_empty() && line.len() <= text.len() + 6)
            {
                run.extend_from_slice(text);
                lines += 1;
            } else if lines > 0 {
                decode_into(&run, &mut decoded);
                if lines > 1 {
                    joined.append(&mut run);
                    joined.push(b'\n');
                }
                run.clear();
                lines = 0;
            }
        }
        self.spend(joined.len())?;
        if !joined.is_empty() {
            each(Derived { how: format!("{before}base64 lines joined"), bytes: joined });
        }
        self.spend(decoded.len())?;
        if !decoded.is_empty() {
            self.inner(decoded, format!("{before}base64 or hex"), depth, each)?;
        }
        if depth.lists < MOST_LISTS {
            let numbers = numbers_in(bytes, &mut self.marks);
            self.spend(numbers.len())?;
            if !numbers.is_empty() {
                let depth = Depth { lists: depth.lists + 1, ..depth };
                self.inner(numbers, format!("{before}numbers"), depth, each)?;
            }
        }
        if bytes.len() > SMALL && std::str::from_utf8(bytes).is_err() {
            return Ok(());
        }
        let percents = bytes.split(|byte| *byte == b'%').skip(1);
        let codes = percents.filter(|rest| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit));
        if codes.take(MANY_PERCENTS).count() == MANY_PERCENTS {
            let decoded = percent_encoding::percent_decode(bytes).collect::<Vec<u8>>();
            self.spend(decoded.len())?;
            self.inner(decoded, format!("{before}percent signs"), depth, each)?;
        }
        Ok(())
    }
}

/// What lists of numbers and dumps say, a line each.
fn numbers_in(bytes: &[u8], marks: &mut Vec<u8>) -> Vec<u8> {
    let mut out = vec![];
    for from in (0..bytes.len()).step_by(PART) {
        let part = &bytes[from..bytes.len().min(from + PART + LONGEST_LIST)];
        for (_, mut said) in numbers::lists(part, marks) {
            out.append(&mut said);
            out.push(b'\n');
        }
    }
    out
}

/// The part of a line that base64 or hex could be: behind a quote, a comma or a key, before another.
fn longest_run(line: &[u8]) -> &[u8] {
    line.split(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')))
        .max_by_key(|run| run.len())
        .unwrap_or_default()
}

/// Decodes one run, as hex if it can be that; each decoded run is a line.
fn decode_into(run: &[u8], out: &mut Vec<u8>) {
    if let Ok(bytes) = hex::decode(run) {
        out.extend_from_slice(&bytes);
        return out.push(b'\n');
    }
    let standard: Vec<u8> = run
        .iter()
        .filter(|byte| **byte != b'=')
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    let whole = standard.len() - usize::from(standard.len() % 4 == 1);
    let config = base64::engine::GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone);
    let engine = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    if let Ok(bytes) = engine.decode(&standard[..whole]) {
        out.extend_from_slice(&bytes);
        out.push(b'\n');
    }
}

#[cfg(test)]
#[path = "texts_tests.rs"]
mod tests;
