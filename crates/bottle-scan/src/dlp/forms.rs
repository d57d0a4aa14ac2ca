//! What bytes say in other forms: one list of them for the doors, which see a window of a stream, and for the gate, which has
//! all of a file.
//!
//! Not here: what is packed (`packed`), and base64 and hex, which the doors find without decoding (`coded`, `digits`), but for kinds of
//! data that have no beginning of their own.

use std::ops::Range;

use super::runs::{self, Digits};
use super::{hints, joined, numbers, plain, radix};
use crate::texts::texts_of;

/// A way to write bytes so that other bytes say them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormKind {
    Escapes,
    Numbers,
    CharacterCodes,
    Literals,
    Parts,
    Base32,
    Uuencode,
    GitPatch,
    /// Base64 or hex that begins in the middle of a run.
    Shifted,
    /// Base64 or hex, decoded as far as it says text.
    Decoded,
}

impl FormKind {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Escapes => "escapes",
            Self::Numbers => "numbers",
            Self::CharacterCodes => "character codes",
            Self::Literals => "literals joined",
            Self::Parts => "parts joined",
            Self::Base32 => "base32",
            Self::Uuencode => "uuencode",
            Self::GitPatch => "git's binary patch",
            Self::Shifted => "base64 or hex inside a word",
            Self::Decoded => "base64 or hex",
        }
    }

    /// Whether reading it is no guess: what is written so says nothing else.
    pub(crate) fn is_sure(self) -> bool {
        matches!(self, Self::Escapes | Self::Numbers | Self::Decoded)
    }
}

/// The forms that were guessed at on the way to a text. Whatever is no such form says something in it, too, now and then; so each of them
/// is undone once at most, and so many in all: what nobody wrote does not go on without end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Guesses(u16);

impl Guesses {
    const MOST: u32 = 2;
    pub(crate) const NONE: Self = Self(0);

    /// With one more; none where that would be one too many. What is sure is always possible.
    pub(crate) fn with(self, kind: FormKind) -> Option<Self> {
        let bit = 1 << kind as u16;
        match kind.is_sure() {
            true => Some(self),
            false => (self.0 & bit == 0 && self.0.count_ones() < Self::MOST).then_some(Self(self.0 | bit)),
        }
    }

    /// Whether nothing was guessed.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Something that bytes say, where, and in which form.
#[derive(Debug)]
pub(crate) struct WrittenForm {
    pub(crate) kind: FormKind,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) said: Vec<u8>,
}

/// Buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct FormBuffers {
    hints: Vec<u8>,
    marks: Vec<u8>,
    places: Vec<usize>,
}

/// All that the bytes say in any form but runs of digits, of those that may follow these guesses.
pub(crate) fn forms(bytes: &[u8], guesses: Guesses, buffers: &mut FormBuffers) -> Vec<WrittenForm> {
    let FormBuffers { hints, marks, places } = buffers;
    hints::hints(bytes, hints);
    let all = hints.iter().fold(0, |all, hint| all | hint);
    let may = |hint: u8| all & hint != 0;
    let mut found: Vec<WrittenForm> = vec![];
    if may(hints::ESCAPE | hints::NUL | hints::WIDE) {
        let plain = plain::plain(bytes, hints).into_iter();
        found.extend(plain.map(|(from, to, said)| WrittenForm { kind: FormKind::Escapes, from, to, said }));
    }
    let numbers = numbers::lists(bytes, marks).into_iter();
    found.extend(numbers.map(|(from, said)| WrittenForm { kind: FormKind::Numbers, from, to: from, said }));
    if may(hints::LINES) {
        radix::line_places(bytes, hints, places);
    }
    let mut whole = |kind: FormKind, may: bool, read: &dyn Fn(&mut Vec<u8>)| {
        let mut said = vec![];
        if may && guesses.with(kind).is_some() {
            read(&mut said);
        }
        if !said.is_empty() && said != bytes {
            found.push(WrittenForm { kind, from: 0, to: bytes.len(), said });
        }
    };
    whole(FormKind::CharacterCodes, may(hints::CALL), &|said| numbers::codes(bytes, said));
    whole(FormKind::Literals, may(hints::SEAM), &|said| joined::literals(bytes, hints, said));
    whole(FormKind::Parts, true, &|said| joined::parts(bytes, said));
    whole(FormKind::Uuencode, may(hints::LINES), &|said| radix::uuencode(bytes, places, said));
    whole(FormKind::GitPatch, may(hints::LINES), &|said| radix::git_patch(bytes, places, said));
    found
}

/// What runs of digits say but in base64 and in hex.
#[derive(Debug, Default)]
pub(crate) struct RunForms {
    /// Those over several lines, each on one.
    pub(crate) lines: Vec<u8>,
    pub(crate) base32: Vec<u8>,
    /// Their ends, backwards.
    pub(crate) backwards: Vec<u8>,
    /// The last run goes on behind the bytes.
    pub(crate) open: bool,
    /// The texts that they say, decoded.
    pub(crate) decoded: Vec<u8>,
    /// Where in those the texts of a run that goes on begin.
    pub(crate) decoded_open: Option<usize>,
}

/// Of a run's end, so many digits are read backwards.
const BACKWARDS: usize = 512;
/// And of a line's end within a run so many times its digits.
const LINES_BACKWARDS: usize = 8;
/// Fewer hold no secret.
const SHORTEST_BACKWARDS: usize = 16;
/// By so many of them it is asked whether a token begins there.
const BEGINNING: usize = 24;

impl RunForms {
    /// Nothing.
    pub(crate) fn clear(&mut self) {
        self.lines.clear();
        self.base32.clear();
        self.backwards.clear();
        self.open = false;
        self.decoded.clear();
        self.decoded_open = None;
    }

    /// Whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        [&self.lines, &self.base32, &self.backwards, &self.decoded].into_iter().all(Vec::is_empty)
    }

    /// Decodes a run.
    pub(crate) fn decode(&mut self, run: &Digits, open: bool) {
        self.decoded_open = open.then_some(self.decoded.len());
        texts_of(run, &mut self.decoded);
    }

    /// Takes a run; what is backwards only where `begins` says that a token could begin with it.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        run: &Digits,
        at: Range<usize>,
        open: bool,
        begins: impl Fn(&[u8]) -> bool,
    ) {
        radix::base32(run, &mut self.base32);
        self.open = open;
        let mut backwards = |run: &[u8], most: usize| {
            let mut first = [0; BEGINNING];
            let length = run.len().min(BEGINNING);
            first.iter_mut().zip(run.iter().rev()).for_each(|(first, byte)| *first = *byte);
            if begins(&first[..length]) {
                self.backwards.extend(run.iter().rev().take(most));
                self.backwards.extend(runs::BETWEEN);
            }
        };
        // The end of its only line joins nothing.
        if run.lines.iter().all(|line| *line == 0 || *line == run.digits.len()) {
            if !open {
                backwards(&runs::characters(bytes, at), BACKWARDS);
            }
            return;
        }
        let all = runs::characters(bytes, at);
        // A line may be one by itself, too; of many short ones not each is read with all that stands before it.
        let ends =
            run.lines.iter().copied().zip(run.line_lengths().map(|length| BACKWARDS.min(length * LINES_BACKWARDS)));
        for (end, most) in ends.chain((!open).then_some((all.len(), BACKWARDS))) {
            if end >= SHORTEST_BACKWARDS {
                backwards(&all[..end.min(all.len())], most);
            }
        }
        self.lines.extend_from_slice(&all);
        self.lines.extend(runs::BETWEEN);
    }
}
