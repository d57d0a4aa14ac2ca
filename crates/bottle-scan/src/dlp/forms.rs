//! What bytes say in other forms: one list of them for the doors, which see a window of a stream, and for the gate, which has
//! all of a file.
//!
//! Not here: what is packed (`packed`), and base64 and hex, which the doors find without decoding (`coded`, `digits`).

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::Span;
use aho_corasick::packed::Searcher;

use super::runs::{self, Digits};
use super::{joined, numbers, plain, radix};

/// Something that bytes say, where, and in which form.
#[derive(Debug)]
pub(crate) struct Form {
    /// The form's name.
    pub(crate) how: &'static str,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) said: Vec<u8>,
}

/// All that the bytes say in any form but runs of digits; `marks` is a buffer.
pub(crate) fn forms(bytes: &[u8], marks: &mut Vec<u8>) -> Vec<Form> {
    let all = bytes.len();
    let plain = plain::plain(bytes).into_iter().map(|(from, to, said)| Form { how: "escapes", from, to, said });
    let mut found: Vec<Form> = plain.collect();
    let numbers = numbers::lists(bytes, marks).into_iter();
    found.extend(numbers.map(|(from, said)| Form { how: "numbers", from, to: from, said }));
    let (mut codes, mut base85, mut uuencode, mut patch) = (vec![], vec![], vec![], vec![]);
    radix::base85(bytes, &mut base85);
    let marked = marked(bytes);
    if marked & CALL != 0 {
        numbers::codes(bytes, &mut codes);
    }
    if marked & UUENCODE != 0 {
        radix::uuencode(bytes, &mut uuencode);
    }
    if marked & PATCH != 0 {
        radix::git_patch(bytes, &mut patch);
    }
    let others = [
        ("character codes", codes),
        ("literals joined", joined::literals(bytes)),
        ("parts joined", joined::parts(bytes)),
        ("base85", base85),
        ("uuencode", uuencode),
        ("git's binary patch", patch),
    ];
    let others = others.into_iter().filter(|(_, said)| !said.is_empty());
    found.extend(others.map(|(how, said)| Form { how, from: 0, to: all, said }));
    found
}

/// What a form is known by: a call that gives a character, a line of uuencode, a binary patch's length.
const CALL: u8 = 1;
const UUENCODE: u8 = 2;
const PATCH: u8 = 4;
const MARKS: [(&str, u8); 9] = [
    ("hr(", CALL),
    ("har(", CALL),
    ("HR(", CALL),
    ("HAR(", CALL),
    (".chr", CALL),
    ("begin ", UUENCODE),
    ("\nM", UUENCODE),
    ("literal ", PATCH),
    ("delta ", PATCH),
];

/// Which of these forms there may be, by one pass over the bytes.
fn marked(bytes: &[u8]) -> u8 {
    static MARKED: LazyLock<Option<Searcher>> = LazyLock::new(|| Searcher::new(MARKS.map(|(mark, _)| mark)));
    let Some(searcher) = &*MARKED else { return CALL | UUENCODE | PATCH };
    let (mut found, mut at) = (0, 0);
    while found != CALL | UUENCODE | PATCH
        && let Some(next) = searcher.find_in(bytes, Span { start: at, end: bytes.len() })
    {
        found |= MARKS[next.pattern().as_usize()].1;
        at = next.end();
    }
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
}

/// Of a run's end, so many digits are read backwards.
const BACKWARDS: usize = 512;
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
        let mut backwards = |run: &[u8]| {
            let mut first = [0; BEGINNING];
            let length = run.len().min(BEGINNING);
            first.iter_mut().zip(run.iter().rev()).for_each(|(first, byte)| *first = *byte);
            if begins(&first[..length]) {
                self.backwards.extend(run.iter().rev().take(BACKWARDS));
                self.backwards.push(b'\n');
            }
        };
        if run.lines.is_empty() {
            if !open {
                backwards(&bytes[at]);
            }
            return;
        }
        let all = runs::characters(bytes, at);
        // A line may be one by itself, too.
        let ends = run.lines.iter().copied().chain((!open).then_some(all.len()));
        for end in ends.filter(|end| *end >= SHORTEST_BACKWARDS) {
            backwards(&all[..end.min(all.len())]);
        }
        self.lines.extend(all);
        self.lines.push(b'\n');
    }
}
