//! What else some bytes say: what is packed inside them (gzip, zlib, zip, xz, lzip, bzip2, zstd, at any offset, nested), what remains without
//! NUL bytes (UTF-16 and UTF-32 of plain text), and what they say in all the forms that the doors read, too.
//!
//! A scanner that looks only at the bytes themselves, or trusts a name or the first bytes to say what a file is, misses
//! all of these. Formats that this module does not unpack are named by [`archive_names`], for the scanner's own unpackers.
//!
//! Map: `begin` (where something packed begins), `decoded` (base64 and hex), `runs` (of printable characters in other bytes).

mod begin;
mod decoded;
mod runs;

use flate2::{Decompress, FlushDecompress, Status};

use crate::dlp::Packing;
use crate::dlp::forms::{self, RunForms};
use crate::dlp::packed::{self, START_COST, Work, may_be_deflate};
use crate::dlp::runs::{self as digit_runs, Digits};

pub use begin::archive_names;
use begin::{header, next_start, packer};
pub use runs::runs_of_text;
use runs::{has_text, wide_runs, without_nuls};

/// Packed inside packed inside packed: deeper than this is refused, as nobody does it honestly.
const DEEPEST: usize = 8;
/// No secret is a shorter run of printable characters.
const SHORTEST: usize = 8;
/// Up to this size all NUL bytes are dropped, wherever they are; in larger files only those between wide characters.
const SMALL: usize = 1 << 20;
/// Other forms are looked for in so much at once, and in so much behind it, where what says a secret has its end.
const PART: usize = 1 << 20;
const LONGEST_LIST: usize = 16 << 10;

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

/// Looks for what else bytes say, within a budget for all that one push unpacks to.
#[derive(Debug)]
pub struct Unpacker {
    left: u64,
    work: Work,
    inflater: Decompress,
    marks: Vec<u8>,
    digits: Digits,
}

impl Unpacker {
    /// An unpacker that stops with an error when `budget` bytes have come out.
    pub fn new(budget: u64) -> Self {
        Self {
            left: budget,
            work: Work::default(),
            inflater: Decompress::new(false),
            marks: vec![],
            digits: Digits::default(),
        }
    }

    /// Gives all that the bytes say in other forms, one by one; not the bytes themselves.
    pub fn unpack(&mut self, bytes: &[u8], each: &mut dyn FnMut(Derived)) -> Result<(), TextsError> {
        self.work.allow(bytes.len());
        self.look(bytes, "", 0, each)
    }

    fn look(
        &mut self,
        bytes: &[u8],
        before: &str,
        depth: usize,
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
        depth: usize,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        if depth >= DEEPEST {
            return Err(TextsError::TooDeep);
        }
        self.look(&bytes, &format!("{how}, "), depth + 1, each)?;
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
        depth: usize,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        self.headless(bytes, before, depth, each)?;
        let mut at = 0;
        while let Some(next) = next_start(bytes, at) {
            at = next;
            let rest = &bytes[at..];
            let (kind, start, (out, read)) = if let Some((kind, start)) = header(rest) {
                self.work.spend(START_COST).ok_or(TextsError::TooMany)?;
                (kind, start, self.inflate(rest.get(start..).unwrap_or_default())?)
            } else if let Some(packing) = packer(rest) {
                self.work.spend(64 * START_COST).ok_or(TextsError::TooMany)?;
                (packing.name(), 0, self.decompress(packing, rest)?)
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

    /// What has no head by which it could be told, where all of the bytes may be that.
    fn headless(
        &mut self,
        bytes: &[u8],
        before: &str,
        depth: usize,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        if packed::is_text(bytes) {
            return Ok(());
        }
        for packing in [Packing::Brotli, Packing::Deflate] {
            if Packing::begins(bytes).is_some() {
                continue;
            }
            self.work.spend(START_COST).ok_or(TextsError::TooMany)?;
            let mut out = vec![];
            let whole = packed::headless(packing, bytes, &mut |part: &[u8]| {
                out.extend_from_slice(part);
                self.spend(part.len())
            })?;
            if whole && out.len() >= SHORTEST || has_text(&out) {
                self.inner(out, format!("{before}{} without a head", packing.name()), depth, each)?;
            }
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
    fn decompress(&mut self, packing: Packing, mut bytes: &[u8]) -> Result<(Vec<u8>, Option<usize>), TextsError> {
        let all = bytes.len();
        let (mut out, mut piece) = (vec![], vec![0; 64 << 10]);
        let whole = packed::whole(packing, &mut bytes, &mut piece, &mut |part: &[u8]| {
            self.spend(part.len())?;
            out.extend_from_slice(part);
            Ok::<_, TextsError>(())
        })?;
        self.work.spend((all - bytes.len()) as u64).ok_or(TextsError::TooMany)?;
        Ok((out, whole.then(|| all - bytes.len())))
    }

    /// What bytes say in other forms, as the doors read them; see [`forms`].
    fn encoded(
        &mut self,
        bytes: &[u8],
        before: &str,
        depth: usize,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        // Of what is mostly no text, the runs of text are enough.
        let text = runs_of_text(bytes);
        let text = text.as_deref().unwrap_or(bytes);
        for (how, said) in self.forms(text) {
            self.spend(said.len())?;
            self.inner(said, format!("{before}{how}"), depth, each)?;
        }
        let (mut said, mut decoded) = (RunForms::default(), vec![]);
        let _ = digit_runs::runs(bytes, &mut self.digits, |run, at| -> Option<()> {
            said.take(bytes, run, at, false, |_| true);
            decoded::run(run, &mut decoded);
            None
        });
        self.spend(said.lines.len() + said.backwards.len() + said.base32.len() + decoded.len())?;
        for (how, bytes) in [("lines joined", said.lines), ("backwards", said.backwards)] {
            if !bytes.is_empty() {
                each(Derived { how: format!("{before}{how}"), bytes });
            }
        }
        for (how, bytes) in [("base32", said.base32), ("base64 or hex", decoded)] {
            if !bytes.is_empty() {
                self.inner(bytes, format!("{before}{how}"), depth, each)?;
            }
        }
        Ok(())
    }

    /// All that is said in one form, the forms in the order in which they were found.
    fn forms(&mut self, text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let mut all: Vec<(&'static str, Vec<u8>)> = vec![];
        for from in (0..text.len()).step_by(PART) {
            let part = &text[from..text.len().min(from + PART + LONGEST_LIST)];
            for mut form in forms::forms(part, &mut self.marks) {
                // What wide characters say is looked at by itself.
                if form.how == "escapes" && form.said == without_nuls(&part[form.from..form.to]) {
                    continue;
                }
                let place = all.iter().position(|(how, _)| *how == form.how).unwrap_or_else(|| {
                    all.push((form.how, vec![]));
                    all.len() - 1
                });
                all[place].1.append(&mut form.said);
                all[place].1.push(b'\n');
            }
        }
        all
    }
}

#[cfg(test)]
#[path = "texts_tests.rs"]
mod tests;
