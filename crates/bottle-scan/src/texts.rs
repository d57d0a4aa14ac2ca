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

use std::collections::VecDeque;

use flate2::{Decompress, FlushDecompress, Status};

use crate::dlp::Packing;
use crate::dlp::forms::{self, FormBuffers, FormKind, Guesses, RunForms};
use crate::dlp::packed::{self, START_COST, WorkBudget, may_be_deflate};
use crate::dlp::runs::{self as digit_runs, Digits};

pub use begin::archive_names;
use begin::{header, next_start, packer};
use decoded::Decoded;
pub(crate) use decoded::texts_of;
pub use runs::runs_of_text;
use runs::{has_text, is_binary, wide_runs, without_nuls};

/// Packed inside packed inside packed: deeper than this is refused, as nobody does it honestly.
const DEEPEST: usize = 8;
/// Escapes in escapes in escapes: so many are undone.
const DEEPEST_ESCAPES: usize = 5;
/// Fewer percent codes than this hide nothing.
const MANY_PERCENTS: usize = 6;
/// So many bytes are looked at that are said by what is a guess itself: a few for all, and so many for each byte that there is.
const FEW_GUESSED: u64 = 1 << 20;
const GUESSED: u64 = 8;
/// Lists of numbers whose numbers say lists of numbers: what more of them say is not looked at. Numbers can be read in several ways, all
/// of which are tried, and honest ones (a table in a program's text) so say lists again and again that nobody wrote.
const MOST_LISTS: usize = 3;
/// No secret is a shorter run of printable characters.
const SHORTEST: usize = 8;
/// Up to this size all NUL bytes of a text are dropped, wherever they are; in a program, and in what is larger, those between wide
/// characters.
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
    /// Whether honest texts say anything at all in this form, as backwards: only formats that nothing else has count in it.
    pub is_guess: bool,
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

/// How a text came about.
#[derive(Debug, Clone, Copy, Default)]
struct Origin {
    /// How many times it was unpacked or decoded.
    depth: usize,
    /// How many times what was undone were escapes.
    escapes: usize,
    /// How many times it was numbers that were read.
    lists: usize,
    guesses: Guesses,
}

/// A text that is looked at when all others are.
#[derive(Debug)]
struct Guessed {
    how: String,
    bytes: Vec<u8>,
    origin: Origin,
}

/// Looks for what else bytes say, within a budget for all that one push unpacks to.
///
/// Packed bytes, and what is sure to be written in another form, are looked through to the end, or refused. What could be a form
/// and may be chance is a guess: all that is no guess itself is looked through for those, and what they say in turn as far as
/// there is work left; see [`Guesses`].
#[derive(Debug)]
pub struct Unpacker {
    left: u64,
    work: WorkBudget,
    inflater: Decompress,
    buffers: FormBuffers,
    digits: Digits,
    guessed: VecDeque<Guessed>,
    guesses_left: u64,
}

impl Unpacker {
    /// An unpacker that stops with an error when `budget` bytes have come out.
    pub fn new(budget: u64) -> Self {
        Self {
            left: budget,
            work: WorkBudget::default(),
            inflater: Decompress::new(false),
            buffers: FormBuffers::default(),
            digits: Digits::default(),
            guessed: VecDeque::new(),
            guesses_left: 0,
        }
    }

    /// Gives all that the bytes say in other forms, one by one; not the bytes themselves.
    pub fn unpack(&mut self, bytes: &[u8], each: &mut dyn FnMut(Derived)) -> Result<(), TextsError> {
        self.work.allow(bytes.len());
        self.guesses_left = FEW_GUESSED.saturating_add(GUESSED.saturating_mul(bytes.len() as u64));
        self.guessed.clear();
        self.headless(bytes, each)?;
        self.look(bytes, "", Origin::default(), each)?;
        while let Some(Guessed { how, bytes, origin }) = self.guessed.pop_front() {
            self.look(&bytes, &format!("{how}, "), origin, each)?;
            each(Derived { how, bytes, is_guess: false });
        }
        Ok(())
    }

    fn look(
        &mut self,
        bytes: &[u8],
        before: &str,
        origin: Origin,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        let how = format!("{before}without NUL bytes");
        let dropped = if bytes.len() <= SMALL { without_nuls(bytes) } else { vec![] };
        let is_text = bytes.len() <= SMALL && !is_binary(&dropped);
        let narrow = if is_text {
            dropped
        } else {
            // What stands beside NULs in a program are texts of their own: joined, they say what nobody wrote.
            if !dropped.is_empty() && self.may_say(dropped.len(), origin)? {
                each(Derived { how: how.clone(), bytes: dropped, is_guess: true });
            }
            wide_runs(bytes)
        };
        if !narrow.is_empty() {
            // UTF-16 text is read on: it may be base64. In other binaries the same runs were seen already.
            if narrow.len() * 4 <= bytes.len() * 3 {
                self.inner(narrow, how, origin, each)?;
            } else if self.may_say(narrow.len(), origin)? {
                each(Derived { how, bytes: narrow, is_guess: false });
            }
        }
        self.streams(bytes, before, origin, each)?;
        self.encoded(bytes, before, origin, each)
    }

    /// Looks at what a text is sure to say.
    fn inner(
        &mut self,
        bytes: Vec<u8>,
        how: String,
        origin: Origin,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        if !self.may_say(bytes.len(), origin)? {
            return Ok(());
        }
        self.deeper(bytes, how, origin, each)
    }

    fn deeper(
        &mut self,
        bytes: Vec<u8>,
        how: String,
        origin: Origin,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        if origin.depth >= DEEPEST {
            // Out of a guess it may have come by chance, time and again.
            return if origin.guesses.is_empty() { Err(TextsError::TooDeep) } else { Ok(()) };
        }
        self.look(&bytes, &format!("{how}, "), Origin { depth: origin.depth + 1, ..origin }, each)?;
        each(Derived { how, bytes, is_guess: false });
        Ok(())
    }

    /// Keeps what a text may say until all that is sure was looked at.
    fn guess(&mut self, bytes: Vec<u8>, kind: FormKind, before: &str, origin: Origin) -> Result<(), TextsError> {
        if let Some(guesses) = origin.guesses.with(kind)
            && self.may_say(bytes.len(), origin)?
        {
            self.work.allow(bytes.len());
            let how = format!("{before}{}", kind.name());
            self.guessed.push_back(Guessed { how, bytes, origin: Origin { guesses, ..origin } });
        }
        Ok(())
    }

    /// Takes so many bytes from what is left: for what a guess says from another budget, behind whose end nothing more is looked
    /// at.
    fn may_say(&mut self, bytes: usize, origin: Origin) -> Result<bool, TextsError> {
        if origin.guesses.is_empty() {
            return self.spend(bytes).map(|()| true);
        }
        let left = self.guesses_left.checked_sub(bytes as u64);
        self.guesses_left = left.unwrap_or(self.guesses_left);
        Ok(left.is_some())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), TextsError> {
        self.left = self.left.checked_sub(bytes as u64).ok_or(TextsError::TooLarge)?;
        Ok(())
    }

    /// Deflate streams behind a gzip, zip or zlib header, wherever it stands, and what other packers made.
    fn streams(
        &mut self,
        bytes: &[u8],
        before: &str,
        origin: Origin,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
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
            // What came out whole is no guess, whatever it came out of.
            let guesses = if read.is_some() { Guesses::NONE } else { origin.guesses };
            self.deeper(out, format!("{before}{kind} at byte {at}"), Origin { guesses, ..origin }, each)?;
            // A stream that came out whole has no other inside it; after a broken one, what it swallowed is tried again.
            at += read.map_or(1, |read| start + read);
        }
        Ok(())
    }

    /// What has no head by which it could be told, where all of the bytes may be that.
    fn headless(&mut self, bytes: &[u8], each: &mut dyn FnMut(Derived)) -> Result<(), TextsError> {
        if packed::is_text(bytes) || Packing::begins(bytes).is_some() {
            return Ok(());
        }
        for packing in [Packing::Brotli, Packing::Deflate] {
            self.work.spend(START_COST).ok_or(TextsError::TooMany)?;
            let mut out = vec![];
            let whole = packed::headless(packing, bytes, &mut |part: &[u8]| {
                out.extend_from_slice(part);
                self.spend(part.len())
            })?;
            if whole && out.len() >= SHORTEST || has_text(&out) {
                self.deeper(out, format!("{} without a head", packing.name()), Origin::default(), each)?;
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
        origin: Origin,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        // Of what is mostly no text, the runs of text are enough.
        let text = runs_of_text(bytes);
        let text = text.as_deref().unwrap_or(bytes);
        for (kind, said) in self.forms(text, origin.guesses) {
            match kind {
                FormKind::Escapes => self.escapes(said, before, origin, each)?,
                FormKind::Numbers if origin.lists < MOST_LISTS => {
                    let origin = Origin { lists: origin.lists + 1, ..origin };
                    self.inner(said, format!("{before}numbers"), origin, each)?;
                }
                FormKind::Numbers => {}
                _ => self.guess(said, kind, before, origin)?,
            }
        }
        let (mut said, mut decoded) = (RunForms::default(), Decoded::default());
        let _ = digit_runs::runs(bytes, &mut self.digits, |run, at| -> Option<()> {
            said.take(bytes, run, at, false, |_| true);
            decoded.run(run);
            None
        });
        // Numbers can be read in several ways, and nobody writes one backwards. Lines of names, joined, soon have a token's prefix in them.
        let backwards = if origin.lists == 0 { said.backwards } else { vec![] };
        for (how, bytes, is_guess) in [("lines joined", said.lines, true), ("backwards", backwards, true)] {
            if !bytes.is_empty() && self.may_say(bytes.len(), origin)? {
                each(Derived { how: format!("{before}{how}"), bytes, is_guess });
            }
        }
        if !decoded.sure.is_empty() {
            self.inner(decoded.sure, format!("{before}base64 or hex"), origin, each)?;
        }
        for (kind, bytes) in [(FormKind::Base32, said.base32), (FormKind::Shifted, decoded.shifted)] {
            if !bytes.is_empty() {
                self.guess(bytes, kind, before, origin)?;
            }
        }
        Ok(())
    }

    /// What is said in escapes, which may be escapes again.
    fn escapes(
        &mut self,
        said: Vec<u8>,
        before: &str,
        origin: Origin,
        each: &mut dyn FnMut(Derived),
    ) -> Result<(), TextsError> {
        let how = format!("{before}{}", FormKind::Escapes.name());
        if !self.may_say(said.len(), origin)? {
            return Ok(());
        }
        if origin.escapes >= DEEPEST_ESCAPES {
            if origin.guesses.is_empty() && has_percents(&said) {
                return Err(TextsError::TooDeep);
            }
        } else {
            self.look(&said, &format!("{how}, "), Origin { escapes: origin.escapes + 1, ..origin }, each)?;
        }
        each(Derived { how, bytes: said, is_guess: false });
        Ok(())
    }

    /// All that is said in one form, the forms in the order in which they were found.
    fn forms(&mut self, text: &[u8], guesses: Guesses) -> Vec<(FormKind, Vec<u8>)> {
        let mut all: Vec<(FormKind, Vec<u8>)> = vec![];
        for from in (0..text.len()).step_by(PART) {
            let part = &text[from..text.len().min(from + PART + LONGEST_LIST)];
            for mut form in forms::forms(part, guesses, &mut self.buffers) {
                // What wide characters say is looked at by itself.
                if form.kind == FormKind::Escapes && form.said == without_nuls(&part[form.from..form.to]) {
                    continue;
                }
                let place = all.iter().position(|(kind, _)| *kind == form.kind).unwrap_or_else(|| {
                    all.push((form.kind, vec![]));
                    all.len() - 1
                });
                all[place].1.append(&mut form.said);
                all[place].1.push(b'\n');
            }
        }
        all
    }
}

/// Whether percent codes are left that may hide something.
fn has_percents(bytes: &[u8]) -> bool {
    let percents = bytes.split(|byte| *byte == b'%').skip(1);
    let codes = percents.filter(|rest| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit));
    codes.take(MANY_PERCENTS).count() == MANY_PERCENTS
}

#[cfg(test)]
#[path = "texts_tests.rs"]
mod tests;
