//! A body on its way: judged block by block, with what it is packed in undone, and let go only behind what is judged.
//!
//! Blocks begin at multiples of [`BLOCK`] from the body's beginning, however its bytes come: the same body gets the same
//! verdict. Each block is judged together with the [`OVERLAP`] before it, and as much is held back, so that of a secret
//! that is found nothing has gone. Packed bytes, and long runs of base64, are unpacked into streams of their own.

use bottle_types::rule::Rule;

use super::digits::{self, DigitRun, REACH, RunBeginning, STEP};
use super::packed::{self, Packing, StreamUnpacker, UnpackState, WorkBudget};
use super::{Depth, Finding, Origin, PackedForm, Scratch, Search, begin};

/// So many bytes are judged at once.
const BLOCK: usize = 32 << 10;
/// So many before them are looked at again, and held back.
const OVERLAP: usize = 4 << 10;
/// All that one body unpacks to.
const UNPACKED: u64 = 128 << 20;
/// So many packed streams may be open in one body.
const OPEN: usize = 64;
/// So many bytes are given to what may be a packed stream at first.
const FIRST: usize = 64;
/// What a finding of a rule leads to; a secret that the bottle knows ends the stream in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It ends the stream.
    Block,
    /// The first is kept in `warned`, and what was found goes on.
    Warn,
    /// The first is kept in `warned`, and what was found is overwritten with asterisks; in another form than as it is, it
    /// ends the stream.
    Redact,
}

/// A body on its way through a search: what goes in comes out again, later by what has to be held back.
#[derive(Default)]
pub struct Stream {
    inner: Inner,
    left: Option<u64>,
    pub(super) work: WorkBudget,
    scratch: Scratch,
    seam: Option<Box<Seam>>,
    /// The first finding that was let pass, because the policy warns only.
    pub warned: Option<Finding>,
}

/// Of what was sent, so much at its end is judged again with the beginning of what is sent next.
const TAIL: usize = super::LONGEST;

/// Where a body meets what was sent before it.
struct Seam {
    /// The end of what was sent before.
    before: Vec<u8>,
    /// The body's beginning, as far as it has come.
    body: Vec<u8>,
    judged: bool,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("offset", &self.inner.offset).finish_non_exhaustive()
    }
}

/// What the streams of one body share.
struct Shared<'a> {
    search: Search<'a>,
    mode: Mode,
    warned: &'a mut Option<Finding>,
    left: &'a mut u64,
    work: &'a mut WorkBudget,
    scratch: &'a mut Scratch,
}

impl Stream {
    /// For a body that its sender says to be packed; see [`Packing::declared`].
    pub fn packed(packings: &[Packing]) -> Self {
        let mut stream = Self::default();
        let mut rest = packings.iter().rev();
        // The innermost first: each takes what the one around it gives.
        let mut inner: Option<Inner> = None;
        for packing in rest.by_ref() {
            let child = inner.take().unwrap_or_default();
            let tap =
                Tap { unpacker: StreamUnpacker::new(*packing, true), at: 0, strict: true, is_guess: false, child };
            inner = Some(Inner { declared: Some(Box::new(tap)), ..Inner::default() });
        }
        stream.inner = inner.unwrap_or_default();
        stream
    }

    /// For a body that is sent after another whose end this is: the body is judged as it is by itself, and both together where they
    /// meet.
    pub fn after(tail: &[u8]) -> Self {
        let seam = Seam { before: tail.to_vec(), body: vec![], judged: tail.is_empty() };
        Self { seam: Some(Box::new(seam)), ..Self::default() }
    }

    /// With buffers that were used before.
    pub(super) fn with(scratch: Scratch) -> Self {
        Self { scratch, ..Self::default() }
    }

    /// The buffers, to be used again.
    pub(super) fn into_scratch(self) -> Scratch {
        self.scratch
    }

    /// The end of all that came, as far as something that is cut may have begun there: what has no blank in it.
    pub fn tail(&self) -> Vec<u8> {
        let body = &self.inner.buffer[self.inner.buffer.len().saturating_sub(TAIL)..];
        let before = self.seam.as_ref().filter(|_| body.len() < TAIL).map_or(&[][..], |seam| &seam.before);
        let all = [before, body].concat();
        let all = &all[all.len().saturating_sub(TAIL)..];
        let blank = all.iter().rposition(|byte| !byte.is_ascii_graphic()).map_or(0, |at| at + 1);
        all[blank..].to_vec()
    }

    /// Judges the seam once, when enough of the body is there, or all of it.
    fn meet(&mut self, search: Search<'_>, bytes: &[u8], last: bool, mode: Mode) -> Result<(), Finding> {
        let Some(seam) = self.seam.as_mut().filter(|seam| !seam.judged) else { return Ok(()) };
        seam.body.extend_from_slice(&bytes[..bytes.len().min(TAIL - seam.body.len())]);
        if seam.body.len() < TAIL && !last {
            return Ok(());
        }
        seam.judged = true;
        let both = [&seam.before[..], &seam.body].concat();
        let mut find = |bytes: &[u8]| search.find_small(bytes, &mut self.scratch);
        // What is in the body alone is found where it is.
        match find(&both).filter(|_| find(&seam.body).is_none()) {
            Some(finding) if finding.rule.is_always_refused() || mode != Mode::Warn => {
                Err(Finding { offset: 0, ..finding })
            }
            Some(finding) => {
                self.warned.get_or_insert(Finding { offset: 0, ..finding });
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes the next bytes and gives those that may go.
    pub fn push(&mut self, search: Search<'_>, bytes: &[u8], mode: Mode) -> Result<Vec<u8>, Finding> {
        self.work.allow(bytes.len());
        self.meet(search, bytes, false, mode)?;
        self.act(search, mode, |inner, shared| inner.push(bytes, shared))?;
        Ok(self.inner.release(search.overlap()))
    }

    /// No more bytes come: gives the rest.
    pub fn finish(&mut self, search: Search<'_>, mode: Mode) -> Result<Vec<u8>, Finding> {
        self.meet(search, &[], true, mode)?;
        self.act(search, mode, Inner::finish)?;
        Ok(self.inner.release(0))
    }

    fn act(
        &mut self,
        search: Search<'_>,
        mode: Mode,
        act: impl FnOnce(&mut Inner, &mut Shared<'_>) -> Result<(), Finding>,
    ) -> Result<(), Finding> {
        let left = self.left.get_or_insert(UNPACKED);
        let (warned, work, scratch) = (&mut self.warned, &mut self.work, &mut self.scratch);
        let mut shared = Shared { search, mode, warned, left, work, scratch };
        act(&mut self.inner, &mut shared)
    }
}

impl Search<'_> {
    /// How many bytes before a block are judged again with it.
    fn overlap(&self) -> usize {
        self.known.longest().max(OVERLAP)
    }
}

/// One stream of bytes: the body itself, or what is packed in it.
#[derive(Default)]
struct Inner {
    buffer: Vec<u8>,
    /// Where in the stream the buffer begins.
    offset: u64,
    /// Up to where in the buffer bytes are out; of the body itself.
    out: usize,
    /// Up to where they are judged.
    judged: usize,
    /// Up to where it is known what begins there.
    told: usize,
    depth: Depth,
    /// Whether it came out of what was a guess: then it may be nested without end by chance.
    is_guess: bool,
    taps: Vec<Tap>,
    declared: Option<Box<Tap>>,
    run: Option<Box<DecodedRun>>,
}

/// A long run of digits, and streams of what it says.
struct DecodedRun {
    run: DigitRun,
    base64: Inner,
    /// None once a digit was none of hex.
    hex: Option<Inner>,
}

/// A packed stream inside another.
struct Tap {
    unpacker: StreamUnpacker,
    /// Where in the stream around it it begins.
    at: u64,
    /// Whether it has to be what it is said to be.
    strict: bool,
    is_guess: bool,
    child: Inner,
}

fn too_many(offset: u64) -> Finding {
    unreadable("too many packed parts", offset)
}

fn unreadable(what: &str, offset: u64) -> Finding {
    Finding { rule: Rule::unreadable(what), offset }
}

impl Inner {
    /// One that is so deep in the body.
    fn at(depth: Depth, is_guess: bool) -> Self {
        Self { depth, is_guess, ..Self::default() }
    }

    fn push(&mut self, mut bytes: &[u8], shared: &mut Shared<'_>) -> Result<(), Finding> {
        if let Some(tap) = &mut self.declared {
            tap.push(bytes, self.depth, shared)?;
        }
        while !bytes.is_empty() {
            let room = self.judged + BLOCK - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == self.judged + BLOCK {
                self.judge(false, shared)?;
                if self.depth > 0 {
                    self.out = self.judged;
                }
                self.forget(shared.search.overlap());
            }
        }
        Ok(())
    }

    fn finish(&mut self, shared: &mut Shared<'_>) -> Result<(), Finding> {
        if let Some(tap) = &mut self.declared {
            tap.finish(self.depth, shared)?;
        }
        self.judge(true, shared)
    }

    /// What may go.
    fn release(&mut self, hold: usize) -> Vec<u8> {
        let to = self.judged.saturating_sub(hold).max(self.out);
        let bytes = self.buffer[self.out..to].to_vec();
        self.out = to;
        self.forget(hold);
        bytes
    }

    /// Lets go of what nobody needs any more.
    fn forget(&mut self, overlap: usize) {
        let old = self.judged.saturating_sub(overlap).min(self.out).min(self.told.saturating_sub(REACH));
        if old >= BLOCK / 2 {
            self.buffer.drain(..old);
            self.offset += old as u64;
            self.out -= old;
            self.judged -= old;
            self.told -= old;
        }
    }

    fn judge(&mut self, last: bool, shared: &mut Shared<'_>) -> Result<(), Finding> {
        let from = self.judged.saturating_sub(shared.search.overlap());
        let base = self.offset + from as u64;
        if shared.mode == Mode::Redact && self.depth == 0 && self.declared.is_none() {
            let fresh = self.judged - from;
            for (rule, range) in shared.search.redact(&mut self.buffer[from..], fresh, last) {
                let offset = base + range.start as u64;
                shared.warned.get_or_insert(Finding { rule: Rule::Format(rule), offset });
            }
        }
        let window = &self.buffer[from..];
        shared.scratch.packed.clear();
        let found = shared.search.look(
            window,
            self.judged - from,
            last,
            Origin { depth: self.depth, ..Origin::default() },
            shared.scratch,
        );
        if let Some(mut finding) = found.known {
            finding.offset += base;
            return Err(finding);
        }
        if let Some(mut finding) = found.rule {
            finding.offset += base;
            if shared.mode != Mode::Warn {
                return Err(finding);
            }
            shared.warned.get_or_insert(finding);
        }
        self.judged = self.buffer.len();
        for form in std::mem::take(&mut shared.scratch.packed) {
            self.unpack_form(base, &form, shared)?;
        }
        self.unpack(last, shared)
    }

    /// Looks into what is packed in what was said in another form.
    fn unpack_form(&self, base: u64, form: &PackedForm, shared: &mut Shared<'_>) -> Result<(), Finding> {
        let (offset, is_guess) = (base + form.from as u64, self.is_guess || form.is_guess);
        let Some(depth) = nested(self.depth, is_guess, offset)? else { return Ok(()) };
        let mut inner = Self::at(depth, is_guess);
        took(&mut inner, &form.said, offset, shared)?;
        inner.finish(shared).map_err(|finding| Finding { offset, ..finding })
    }

    /// Feeds what is packed: streams that go on, and those that begin here.
    fn unpack(&mut self, last: bool, shared: &mut Shared<'_>) -> Result<(), Finding> {
        let from = self.told;
        let to = if last { self.buffer.len() } else { self.buffer.len().saturating_sub(Packing::TELLING) };
        if to < from {
            return Ok(());
        }
        let base = self.offset;
        let depth = self.depth;
        for tap in &mut self.taps {
            tap.push(&self.buffer[from..to], depth, shared)?;
        }
        // A declared packing says what its bytes are; what they look like besides is chance.
        if self.declared.is_none() {
            if base == 0 && from == 0 && depth == 0 {
                self.begin_headless(to, shared)?;
            }
            for at in begin::beginnings(&self.buffer, from, to) {
                let Some(packing) = Packing::begins(&self.buffer[at..]) else { continue };
                let offset = base + at as u64;
                if self.taps.len() >= OPEN {
                    return Err(too_many(offset));
                }
                shared.work.spend(packing.start_cost()).ok_or_else(|| too_many(offset))?;
                let (unpacker, child) = (StreamUnpacker::new(packing, false), Self::default());
                let mut tap = Tap { unpacker, at: offset, strict: false, is_guess: self.is_guess, child };
                tap.begin(&self.buffer[at..to], depth, shared)?;
                if tap.is_going() {
                    self.taps.push(tap);
                } else {
                    tap.finish(depth, shared)?;
                }
            }
            self.runs(from, to, shared)?;
        }
        let mut going = vec![];
        for mut tap in self.taps.drain(..) {
            if last || !tap.is_going() {
                tap.finish(depth, shared)?;
            } else {
                going.push(tap);
            }
        }
        self.taps = going;
        if last && let Some(run) = self.run.take() {
            run.finish(shared)?;
        }
        self.told = to;
        Ok(())
    }

    /// Tries what has no head by which it could be told, where all that came may be that.
    fn begin_headless(&mut self, to: usize, shared: &mut Shared<'_>) -> Result<(), Finding> {
        if packed::is_text(&self.buffer[..to]) {
            return Ok(());
        }
        for packing in [Packing::Brotli, Packing::Deflate] {
            shared.work.spend(packing.start_cost()).ok_or_else(|| too_many(0))?;
            let (unpacker, child) = (StreamUnpacker::new(packing, false), Self::default());
            let mut tap = Tap { unpacker, at: 0, strict: false, is_guess: true, child };
            tap.begin(&self.buffer[..to], self.depth, shared)?;
            if tap.is_going() {
                self.taps.push(tap);
            } else {
                tap.finish(self.depth, shared)?;
            }
        }
        Ok(())
    }

    /// Decodes long runs of base64 and hex.
    fn runs(&mut self, from: usize, to: usize, shared: &mut Shared<'_>) -> Result<(), Finding> {
        // One that began before, and was too short to be told then, is met half its length before.
        let first = if self.run.is_some() { from } else { from.saturating_sub(STEP) };
        let mut marks = std::mem::take(&mut shared.scratch.marks);
        digits::mark(&self.buffer[first..to], &mut marks);
        let done = self.runs_by_marks(from, first, &marks, shared);
        shared.scratch.marks = marks;
        done
    }

    /// The same, of the bytes with these marks, from the first of them on.
    fn runs_by_marks(
        &mut self,
        from: usize,
        first: usize,
        marks: &[u8],
        shared: &mut Shared<'_>,
    ) -> Result<(), Finding> {
        let (mut at, to) = (first, first + marks.len());
        // What has ended a run begins none.
        let mut least = 0;
        while at < to {
            if let Some(mut run) = self.run.take() {
                at += run.push(&self.buffer[at..], to - at, shared)?;
                if at < to {
                    run.finish(shared)?;
                    at += digits::escape_length(&self.buffer[at..]);
                    least = at;
                } else {
                    run.run.skip = at - to;
                    self.run = Some(run);
                }
                continue;
            }
            if !digits::are_run(&marks[at - first..]) {
                at += STEP;
                continue;
            }
            let start = digits::start(&self.buffer, at, least);
            let (length, begins) = digits::begins(&self.buffer[start..to]);
            let is_guess = self.is_guess || begins == Some(RunBeginning::Guess);
            let depth = match begins {
                Some(_) if start + length > from => nested(self.depth, is_guess, self.offset + start as u64)?,
                _ => None,
            };
            let Some(depth) = depth else {
                at = (start + length).max(at) + digits::escape_length(&self.buffer[start + length..]).max(1);
                least = at;
                continue;
            };
            self.run = Some(Box::new(DecodedRun::at(depth, is_guess)));
            at = start;
        }
        Ok(())
    }
}

fn too_deep(offset: u64) -> Finding {
    unreadable("nested too deep", offset)
}

/// One deeper; none where a guess has led so deep that what is there is not looked into.
fn nested(depth: Depth, is_guess: bool, offset: u64) -> Result<Option<Depth>, Finding> {
    match depth < super::DEEPEST {
        true => Ok(Some(depth + 1)),
        false if is_guess => Ok(None),
        false => Err(too_deep(offset)),
    }
}

impl DecodedRun {
    /// One whose digits say what is so deep in the body.
    fn at(depth: Depth, is_guess: bool) -> Self {
        let inner = || Inner::at(depth, is_guess);
        Self { run: DigitRun::default(), base64: inner(), hex: Some(inner()) }
    }

    /// How many bytes belong to the run; see [`DigitRun::push`].
    fn push(&mut self, bytes: &[u8], to: usize, shared: &mut Shared<'_>) -> Result<usize, Finding> {
        let (length, said) = self.run.push(bytes, to);
        if let Some(hex) = &mut self.hex {
            hex.push(&said.hex, shared)?;
            if said.hex_ended {
                hex.finish(shared)?;
                self.hex = None;
            }
        }
        self.base64.push(&said.base64, shared)?;
        Ok(length)
    }

    /// The run is over.
    fn finish(mut self, shared: &mut Shared<'_>) -> Result<(), Finding> {
        self.base64.finish(shared)?;
        self.hex.as_mut().map_or(Ok(()), |hex| hex.finish(shared))
    }
}

impl Tap {
    fn is_going(&self) -> bool {
        self.unpacker.state() == UnpackState::Going
    }

    /// Takes the first bytes, a few at a time: most of what looks like a beginning is none, and ends soon.
    fn begin(&mut self, mut bytes: &[u8], depth: Depth, shared: &mut Shared<'_>) -> Result<(), Finding> {
        let mut few = FIRST;
        loop {
            let (now, later) = bytes.split_at(few.min(bytes.len()));
            self.push(now, depth, shared)?;
            if later.is_empty() || !self.is_going() {
                return Ok(());
            }
            (bytes, few) = (later, few * 2);
        }
    }

    fn push(&mut self, bytes: &[u8], depth: Depth, shared: &mut Shared<'_>) -> Result<(), Finding> {
        let offset = self.at;
        shared.work.spend(bytes.len() as u64).ok_or_else(|| too_many(offset))?;
        let (unpacker, mut child) = (&mut self.unpacker, open(&mut self.child, depth, self.is_guess, offset)?);
        let state = unpacker.push(bytes, &mut |piece: &[u8]| came(&mut child, piece, offset, shared))?;
        shared.work.spend(unpacker.take_cost()).ok_or_else(|| too_many(offset))?;
        if self.strict && state == UnpackState::Broken {
            return Err(unreadable("not what its content-encoding says", offset));
        }
        // What has come to its end was no chance.
        if child.is_none() && state == UnpackState::Ended { Err(too_deep(offset)) } else { Ok(()) }
    }

    fn finish(&mut self, depth: Depth, shared: &mut Shared<'_>) -> Result<(), Finding> {
        let offset = self.at;
        let (unpacker, mut child) = (&mut self.unpacker, open(&mut self.child, depth, self.is_guess, offset)?);
        let state = unpacker.finish(&mut |piece: &[u8]| came(&mut child, piece, offset, shared))?;
        if self.strict && state != UnpackState::Ended {
            return Err(unreadable("not what its content-encoding says", offset));
        }
        match child {
            Some(child) => child.finish(shared),
            None if state == UnpackState::Ended => Err(too_deep(offset)),
            None => Ok(()),
        }
    }
}

/// The child that looks at what comes out of a tap at this depth; none where it is not looked into.
fn open(child: &mut Inner, depth: Depth, is_guess: bool, offset: u64) -> Result<Option<&mut Inner>, Finding> {
    let depth = nested(depth, is_guess, offset)?;
    Ok(depth.map(|depth| {
        (child.depth, child.is_guess) = (depth, is_guess);
        child
    }))
}

fn came(child: &mut Option<&mut Inner>, piece: &[u8], offset: u64, shared: &mut Shared<'_>) -> Result<(), Finding> {
    match child {
        Some(child) => took(child, piece, offset, shared),
        None => charge(piece, offset, shared),
    }
}

fn charge(piece: &[u8], offset: u64, shared: &mut Shared<'_>) -> Result<(), Finding> {
    let more = piece.len() as u64;
    *shared.left = shared.left.checked_sub(more).ok_or_else(|| unreadable("it unpacks to too much", offset))?;
    Ok(())
}

fn took(child: &mut Inner, piece: &[u8], offset: u64, shared: &mut Shared<'_>) -> Result<(), Finding> {
    charge(piece, offset, shared)?;
    // Where it is in what is unpacked helps nobody: the place of the packed bytes does.
    child.push(piece, shared).map_err(|finding| Finding { offset, ..finding })
}
