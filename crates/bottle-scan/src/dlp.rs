//! Data loss prevention: token formats, and the secrets that the bottle knows, in bytes that leave it.
//!
//! The rules are one data file, `dlp_rules.toml`, used by pipelock and by the git gate; `detect_rules.toml` has those that a project turns
//! on. A rule is tried where one of its
//! keywords stands, over at most [`LONGEST`] bytes from there. [`Rules::find`] looks at bytes as they are; [`Search`] also
//! at what they say in other forms.
//!
//! Map: `rules` and a project's `own`, `keywords` (where a rule is tried), `pattern`, `checksum`, the `kinds` of data that is no token with their `check` (`ids`, `phrases`), `noise` (where a match is chance), `coded` (base64 and hex) and their `alphabet`, `runs` (of their digits) and long ones as `digits`, `plain`
//! (escapes, look-alikes; where, the `hints` say), `numbers` (lists and dumps of bytes), `radix` (base32, uuencode, git's patches), `joined` (literals), all of these as `forms`, `pieces` (a known secret cut apart), `packed` (compression) and where it may `begin`, `stream` (a
//! body on its way), `head` (a request's head).

mod alphabet;
mod begin;
mod check;
mod checksum;
pub(crate) mod coded;
mod digits;
pub(crate) mod forms;
mod head;
mod hints;
mod ids;
mod joined;
pub(crate) mod keywords;
mod kinds;
mod noise;
pub(crate) mod numbers;
mod own;
pub(crate) mod packed;
mod pattern;
mod phrases;
pub(crate) mod pieces;
mod plain;
mod radix;
mod rules;
pub(crate) mod runs;
mod short_cuts;
mod stream;

pub use head::{Head, head};
pub use kinds::DataKind;
pub use own::TokenPattern;
pub use packed::Packing;
pub use rules::{Format, Rules, RulesError, Scope, entropy};
pub use stream::{Mode, Stream};

use bottle_types::rule::Rule;

use crate::known::KnownSecrets;
use crate::texts::runs_of_text;
use forms::{FormBuffers, FormKind, Guesses, RunForms};
use runs::Digits;

/// How many bytes from its keyword a rule sees.
pub const LONGEST: usize = 512;
/// So many bytes from a keyword on tell whether a rule's match counts.
const AHEAD: usize = LONGEST + noise::BEHIND;
/// How deep forms inside forms are looked for: escapes in escapes, archives in archives. Deeper archives are refused.
const DEEPEST: Depth = 5;

/// How many forms are undone.
type Depth = u8;

/// How a text came out of a window.
#[derive(Debug, Clone, Copy, Default)]
struct Origin {
    depth: Depth,
    guesses: Guesses,
    /// It came out of numbers on the way: they can be read in several ways, and nobody writes one backwards.
    is_numbers: bool,
}

impl Origin {
    /// With one form more undone; none where that is no use.
    fn with(self, kind: FormKind) -> Option<Self> {
        let is_numbers = self.is_numbers || kind == FormKind::Numbers;
        Some(Self { depth: self.depth + 1, guesses: self.guesses.with(kind)?, is_numbers })
    }
}

/// What was found, without the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule that found it.
    pub rule: Rule,
    /// Where it begins.
    pub offset: u64,
}

/// What a body is searched for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// The bottle's own secrets; always.
    pub known: &'a KnownSecrets,
    /// Token formats and where they apply; none: not looked for.
    pub rules: Option<(&'a Rules, Scope)>,
}

/// Which secret or rule was found, and where.
type Place = (usize, usize);

/// What a look at some bytes has found.
#[derive(Debug, Default)]
struct Looked {
    known: Option<Finding>,
    rule: Option<Finding>,
}

/// What was said in a form in which something packed begins.
#[derive(Debug)]
struct PackedForm {
    from: usize,
    said: Vec<u8>,
    is_guess: bool,
}

/// Buffers that are used again.
#[derive(Debug, Default)]
struct Scratch {
    digits: Digits,
    letters: Vec<u8>,
    marks: Vec<u8>,
    forms: FormBuffers,
    runs: RunForms,
    packed: Vec<PackedForm>,
}

impl Search<'_> {
    /// The first finding in bytes that are all there, in any form; a known secret before all else.
    pub fn find(&self, bytes: &[u8]) -> Option<Finding> {
        self.find_with(bytes, &mut Scratch::default())
    }

    /// The same, with buffers that are used again.
    fn find_with(&self, bytes: &[u8], scratch: &mut Scratch) -> Option<Finding> {
        let mut stream = Stream::with(std::mem::take(scratch));
        let found = stream.push(*self, bytes, Mode::Block).and_then(|_| stream.finish(*self, Mode::Block)).err();
        *scratch = stream.into_scratch();
        found
    }

    /// Overwrites what rules find in a window as it is, and tells which and where; see [`Self::look`].
    fn redact(&self, bytes: &mut [u8], fresh: usize, last: bool) -> Vec<(String, std::ops::Range<usize>)> {
        let Some((rules, scope)) = self.rules else { return vec![] };
        let to = if last { bytes.len() } else { bytes.len().saturating_sub(LONGEST) };
        let (mut from, mut found) = (fresh.saturating_sub(LONGEST), vec![]);
        while let Some((index, at)) = rules.find_in(bytes, from, to, scope) {
            let rule = &rules.rules()[index];
            let Some(secret) = rule.secret(&bytes[at..], scope) else { break };
            let range = at + secret.start..at + secret.end;
            bytes[range.clone()].fill(b'*');
            from = range.end.max(at + 1);
            found.push((rule.id.clone(), range));
        }
        found
    }

    /// The same for a short text, without what is packed in it.
    fn find_small(&self, bytes: &[u8], scratch: &mut Scratch) -> Option<Finding> {
        let found = self.look(bytes, 0, true, Origin::default(), scratch);
        found.known.or(found.rule)
    }

    /// Looks at a window of a stream, in which everything before `fresh` was looked at before; more follows it unless it
    /// is the `last` one. Findings are counted from the window's beginning.
    fn look(&self, bytes: &[u8], fresh: usize, last: bool, origin: Origin, scratch: &mut Scratch) -> Looked {
        let (known_at, rule_at) = self.look_as_it_is(bytes, fresh, last, scratch);
        let mut found = self.looked(known_at, rule_at);
        if found.known.is_some() || origin.depth >= DEEPEST {
            return found;
        }
        let forms = forms::forms(bytes, origin.guesses, &mut scratch.forms);
        if forms.is_empty() && scratch.runs.is_empty() {
            return found;
        }
        let runs = std::mem::take(&mut scratch.runs);
        let whole = runs.lines.is_empty() || last || !runs.open;
        // What is behind a form, or behind the window, is looked at with the next one.
        let forms = forms.into_iter().filter_map(|form| {
            let last = form.kind != FormKind::Escapes || last && form.to == bytes.len();
            Some((form.from, last, origin.with(form.kind)?, form.said))
        });
        for (said, last, counts) in [(&runs.lines, whole, true), (&runs.backwards, true, !origin.is_numbers)] {
            if counts && found.known.is_none() && !said.is_empty() {
                let again = self.look_plain(said, last);
                (found.known, found.rule) = (again.known, found.rule.or(again.rule));
            }
        }
        if found.known.is_some() {
            return found;
        }
        let base32 = origin.with(FormKind::Base32).filter(|_| !runs.base32.is_empty());
        let base32 = base32.map(|origin| (0, true, origin, runs.base32));
        // What goes on behind the window is looked at with the next one.
        let (closed, open) = runs.decoded.split_at(runs.decoded_open.unwrap_or(runs.decoded.len()));
        let decoded = [(closed, true), (open, last)].into_iter().filter(|(said, _)| !said.is_empty());
        let decoded =
            decoded.filter_map(|(said, last)| Some((0, last, origin.with(FormKind::Decoded)?, said.to_vec())));
        for (from, last, origin, said) in forms.chain(base32).chain(decoded) {
            let inner = self.look(&said, 0, last, origin, scratch);
            let somewhere = |finding: Finding| Finding { offset: from as u64, ..finding };
            found.rule = found.rule.or(inner.rule.map(somewhere));
            found.known = inner.known.map(somewhere);
            if found.known.is_some() {
                break;
            }
            // Of what is no text, the form is chance, and so is what begins in it.
            if !begin::beginnings(&said, 0, said.len()).is_empty() && runs_of_text(bytes).is_none() {
                scratch.packed.push(PackedForm { from, said, is_guess: !origin.guesses.is_empty() });
            }
        }
        found
    }

    /// The findings at these places.
    fn looked(&self, known: Option<Place>, rule: Option<Place>) -> Looked {
        let finding = |rule: Rule, at: usize| Finding { rule, offset: at as u64 };
        Looked {
            known: known.map(|(owner, at)| finding(Rule::known_secret(self.known.name(owner)), at)),
            rule: rule
                .zip(self.rules)
                .map(|((index, at), (rules, _))| finding(Rule::format(&rules.rules()[index].id), at)),
        }
    }

    /// Looks at what is written in lines or backwards, which hides nothing else: digits over lines, and pieces, are found without it.
    fn look_plain(&self, said: &[u8], last: bool) -> Looked {
        let to = if last { said.len() } else { said.len().saturating_sub(AHEAD) };
        let rule = self.rules.and_then(|(rules, scope)| rules.find_in(said, 0, to, scope));
        let found = self.looked(self.known.find_raw(said), rule);
        let somewhere = |finding: Finding| Finding { offset: 0, ..finding };
        Looked { known: found.known.map(somewhere), rule: found.rule.map(somewhere) }
    }

    /// The known secret and the rule that are found in bytes as they are, in base64, in hex, and in pieces; with a secret, no
    /// rule counts.
    fn look_as_it_is(
        &self,
        bytes: &[u8],
        fresh: usize,
        last: bool,
        scratch: &mut Scratch,
    ) -> (Option<Place>, Option<Place>) {
        if let Some(known) = self.known.find_raw(bytes) {
            return (Some(known), None);
        }
        let mut rule_at = None;
        scratch.runs.clear();
        let forms = &mut scratch.runs;
        let decodes = self.rules.is_some_and(|(rules, _)| rules.decodes());
        let known_at = runs::runs(bytes, &mut scratch.digits, |run, at| {
            let (start, open) = (at.start, at.end == bytes.len());
            if let Some((owner, digit)) = self.known.find_coded(run) {
                return Some((owner, runs::position(bytes, start, digit)));
            }
            if decodes {
                forms.decode(run, open && !last);
            }
            let begins = |end: &[u8]| self.rules.is_some_and(|(rules, _)| rules.begins(end));
            forms.take(bytes, run, at, open && !last, begins);
            if rule_at.is_none()
                && let Some((rules, scope)) = self.rules
                && let Some((index, digit)) = rules.find_coded(run, last || !open, scope)
            {
                rule_at = Some((index, runs::position(bytes, start, digit)));
            }
            None
        });
        let known_at = known_at.or_else(|| self.known.find_pieces(bytes, &mut scratch.letters));
        if known_at.is_some() {
            return (known_at, None);
        }
        let plain = self.rules.and_then(|(rules, scope)| {
            // A keyword whose token may go on behind the window is tried with the next one.
            let to = if last { bytes.len() } else { bytes.len().saturating_sub(AHEAD) };
            rules.find_in(bytes, fresh.saturating_sub(AHEAD), to, scope)
        });
        (None, plain.or(rule_at))
    }
}

#[cfg(test)]
mod short_cut_tests;
#[cfg(test)]
#[path = "dlp_tests.rs"]
mod tests;
#[cfg(test)]
mod two_ways_tests;
