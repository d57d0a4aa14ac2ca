//! Writes the corpus that gitleaks reads: every text of the push, in files with neutral names, so that
//! gitleaks looks at all of it.
//!
//! gitleaks 8.30 skips files by name, skips what its first bytes call an application's file, and reads 100 kB at a time, so
//! that a secret across the seam is missed. So texts are put together, and cut with an overlap, into pieces that it reads in
//! one go, behind a line of blanks that hides the first bytes. Each piece ends with a canary, a word made up for this push
//! that a rule of ours finds: a piece whose canary is not reported was not scanned, and the push is refused.
//!
//! A text is cut where a line or at least a token ends, and what stands around it is in no rule's pattern, so that neither a cut
//! nor a canary makes a finding that the text by itself does not have.
//!
//! Texts share a piece because gitleaks takes longer to open a file than to read it. A piece in which something is found is
//! scanned again, each text by itself: a match may begin in one text and end in another, and a word in one makes gitleaks try
//! a rule on all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bottle_scan::texts::{archive_names, runs_of_text};

/// gitleaks reads 100,000 bytes at a time.
const PIECE_BYTES: usize = 90_000;
/// Long enough for any private key.
const OVERLAP_BYTES: usize = 10_000;
/// Longer than the offset of any magic number that gitleaks knows but one, see [`blanks`].
const BLANKS: usize = 319;
/// A cut may be so far before where it is due.
const CUT_REACH: usize = 4_000;
/// Between two texts, and before the canary; ASCII's file separator is in no character class of a rule that goes on behind a
/// line's end, such as that of `password:` and what follows it.
pub(super) const BETWEEN: &[u8] = b"\n\n\x1c\n\n";

/// Where the bytes of a text begin in a piece.
#[derive(Debug, Clone)]
struct Segment {
    text: usize,
    /// The line of the text, from 0; none where lines mean nothing.
    first_line: Option<u64>,
    start: usize,
}

/// A file of the corpus.
#[derive(Debug, Clone)]
struct Piece {
    /// How the file's name ends.
    ending: &'static str,
    segments: Vec<Segment>,
    /// A file for gitleaks to unpack, in which lines mean nothing and no canary stands.
    is_archive: bool,
}

/// A piece that is not full yet.
#[derive(Debug, Default)]
struct OpenPiece {
    bytes: Vec<u8>,
    segments: Vec<Segment>,
}

/// Where a line of a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) text: usize,
    /// From 1; none where lines mean nothing.
    pub(super) line: Option<u64>,
}

/// The files for one scan, in a directory of their own that is removed with this value.
#[derive(Debug)]
pub(super) struct Corpus {
    dir: OwnedDir,
    pieces: Vec<Piece>,
    open: BTreeMap<&'static str, OpenPiece>,
    canary: String,
    /// Whether no two texts share a piece.
    alone: bool,
}

/// A directory that is removed with this value.
#[derive(Debug)]
struct OwnedDir(PathBuf);

impl Drop for OwnedDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const CANARY: &str = "canary";

/// A word that nothing pushed can know.
pub(super) fn new_canary() -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!("gate-canary-{}", hex::encode(random)))
}

impl Corpus {
    /// An empty one in an empty directory, which is removed with it.
    pub(super) fn new(dir: PathBuf) -> io::Result<Self> {
        let dir = OwnedDir(dir);
        fs::create_dir(dir.0.join("in"))?;
        fs::create_dir(dir.0.join("tmp"))?;
        let canary = new_canary()?;
        fs::write(dir.0.join(CANARY), &canary)?;
        Ok(Self { dir, pieces: vec![], open: BTreeMap::new(), canary, alone: false })
    }

    /// An empty one in a directory of its own.
    pub(super) fn within(parent: &Path) -> io::Result<Self> {
        Self::new(tempfile::TempDir::new_in(parent)?.keep())
    }

    /// Leaves an empty one for another process.
    pub(super) fn leave(self) {
        std::mem::forget(self.dir);
    }

    /// An empty one that another process has left there.
    pub(super) fn left(dir: PathBuf) -> Option<Self> {
        let canary = fs::read_to_string(dir.join(CANARY)).ok()?;
        Some(Self { dir: OwnedDir(dir), pieces: vec![], open: BTreeMap::new(), canary, alone: false })
    }

    /// The word at the end of every piece.
    pub(super) fn canary(&self) -> &str {
        &self.canary
    }

    /// The directory around it all, for configuration and report.
    pub(super) fn dir(&self) -> &Path {
        &self.dir.0
    }

    /// The directory to scan.
    pub(super) fn input(&self) -> PathBuf {
        self.dir.0.join("in")
    }

    /// Adds a text, once for each of the endings, or without one.
    pub(super) fn add(&mut self, text: usize, bytes: &[u8], endings: &BTreeSet<&'static str>) -> io::Result<()> {
        let plain = BTreeSet::from([""]);
        let runs = runs_of_text(bytes);
        let texts = runs.as_deref().unwrap_or(bytes);
        for ending in if endings.is_empty() { &plain } else { endings } {
            let (mut start, mut line) = (0, 0);
            loop {
                let end = if texts.len() - start > PIECE_BYTES { cut(texts, start + PIECE_BYTES) } else { texts.len() };
                self.append(text, runs.is_none().then_some(line), &texts[start..end], ending)?;
                if end == texts.len() {
                    break;
                }
                let next = cut(texts, end - OVERLAP_BYTES);
                line += newlines(&texts[start..next]);
                start = next;
            }
        }
        for ending in archive_names(bytes) {
            fs::write(self.next_file(ending)?, bytes)?;
            let segments = vec![Segment { text, first_line: None, start: 0 }];
            self.pieces.push(Piece { ending, segments, is_archive: true });
        }
        Ok(())
    }

    /// Gives each text from now on pieces of its own.
    pub(super) fn keep_apart(&mut self) {
        self.alone = true;
    }

    fn append(&mut self, text: usize, first_line: Option<u64>, bytes: &[u8], ending: &'static str) -> io::Result<()> {
        if self.open.get(ending).is_some_and(|open| open.bytes.len() + bytes.len() > PIECE_BYTES) {
            self.close(ending)?;
        }
        let open = self.open.entry(ending).or_default();
        if !open.segments.is_empty() {
            open.bytes.extend_from_slice(BETWEEN);
        }
        open.segments.push(Segment { text, first_line, start: open.bytes.len() });
        open.bytes.extend_from_slice(bytes);
        // A finding by a name alone would be one of each text.
        if self.alone || matches!(ending, "p12" | "pfx") { self.close(ending) } else { Ok(()) }
    }

    /// Writes what is there of a piece.
    fn close(&mut self, ending: &'static str) -> io::Result<()> {
        let Some(OpenPiece { bytes, segments, .. }) = self.open.remove(ending) else { return Ok(()) };
        let mut file = fs::File::create_new(self.next_file(ending)?)?;
        let mut content = Vec::with_capacity(bytes.len() + 512);
        content.resize(blanks(&bytes), b' ');
        content.push(b'\n');
        content.extend_from_slice(&bytes);
        content.extend_from_slice(BETWEEN);
        content.extend_from_slice(self.canary.as_bytes());
        content.push(b'\n');
        file.write_all(&content)?;
        self.pieces.push(Piece { ending, segments, is_archive: false });
        Ok(())
    }

    /// Writes what is not written yet; nothing is added after this.
    pub(super) fn complete(&mut self) -> io::Result<()> {
        let endings: Vec<_> = self.open.keys().copied().collect();
        endings.into_iter().try_for_each(|ending| self.close(ending))
    }

    /// The texts of these pieces once more, each in pieces of its own.
    pub(super) fn apart(&self, pieces: &BTreeSet<usize>, within: &Path) -> io::Result<Self> {
        let mut apart = Self::within(within)?;
        apart.keep_apart();
        for index in pieces {
            let piece = &self.pieces[*index];
            let content = fs::read(self.file(*index, piece.ending))?;
            // Behind the line of blanks, before the separator, the canary and its newline.
            let first = content.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let bytes = &content[first..content.len().saturating_sub(BETWEEN.len() + self.canary.len() + 1).max(first)];
            for (number, Segment { text, first_line, start, .. }) in piece.segments.iter().enumerate() {
                let end = piece.segments.get(number + 1).map_or(bytes.len(), |next| next.start - BETWEEN.len());
                apart.append(*text, *first_line, &bytes[*start..end], piece.ending)?;
            }
        }
        Ok(apart)
    }

    /// Neutral names: numbers, and an ending only where a rule of gitleaks or one of its unpackers goes by it.
    fn file(&self, number: usize, ending: &str) -> PathBuf {
        let dir = self.input().join((number / 1000).to_string());
        match ending {
            "" => dir.join(number.to_string()),
            "nuget.config" => dir.join(number.to_string()).join(ending),
            _ => dir.join(format!("{number}.{ending}")),
        }
    }

    fn next_file(&self, ending: &str) -> io::Result<PathBuf> {
        let path = self.file(self.pieces.len(), ending);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        Ok(path)
    }

    /// Which piece a path in gitleaks' report means.
    pub(super) fn piece_of(&self, path: &str) -> Option<usize> {
        let outer = path.split('!').next()?;
        let name = outer.trim_start_matches("./").split('/').nth(1)?;
        let number: usize = name.split('.').next()?.parse().ok()?;
        (number < self.pieces.len()).then_some(number)
    }

    /// Where a match that begins at a line of a piece is, lines from 1; none if the piece has more than one text.
    pub(super) fn locate(&self, piece: usize, line: u64) -> Option<Position> {
        let Piece { segments, .. } = &self.pieces[piece];
        let [Segment { text, first_line, .. }] = &segments[..] else { return None };
        // The first line of a piece is the blanks.
        let line = first_line.map(|start| start + line.saturating_sub(2) + 1);
        Some(Position { text: *text, line })
    }

    /// The pieces that have a canary.
    pub(super) fn with_canary(&self) -> BTreeSet<usize> {
        let pieces = self.pieces.iter().enumerate();
        pieces.filter(|(_, piece)| !piece.is_archive).map(|(index, _)| index).collect()
    }
}

pub(super) fn newlines(bytes: &[u8]) -> u64 {
    // In blocks that a byte can count, which the compiler makes wide instructions of.
    let blocks = bytes.chunks(255).map(|block| block.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>());
    blocks.map(u64::from).sum()
}

/// Where to cut a text at `at` or a little before: behind a line's end, else behind a byte that no token has.
fn cut(text: &[u8], at: usize) -> usize {
    let is_of_a_token = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"_-+/=.~\\%".contains(byte);
    let from = at.saturating_sub(CUT_REACH);
    let within = &text[from..at];
    let before = memchr::memrchr(b'\n', within).or_else(|| within.iter().rposition(|byte| !is_of_a_token(byte)));
    before.map_or(at, |before| from + before + 1)
}

/// How many blanks to put before a piece, so that no magic number is where gitleaks looks for one. ISO 9660's are so far
/// in that blanks don't cover them, but move them aside.
fn blanks(bytes: &[u8]) -> usize {
    let is_iso = |count: usize| {
        [32_769, 34_817, 36_865]
            .iter()
            .any(|at| bytes.get(at - count - 1..).is_some_and(|rest| rest.starts_with(b"CD001")))
    };
    (BLANKS..BLANKS + 32).find(|count| !is_iso(*count)).unwrap_or(BLANKS)
}

/// The endings of a path by which rules of gitleaks go.
pub(super) fn telling_ending(path: &[u8]) -> Option<&'static str> {
    let name = path.rsplit(|byte| *byte == b'/').next()?.to_ascii_lowercase();
    let name = String::from_utf8_lossy(&name).into_owned();
    if name.ends_with("nuget.config") {
        return Some("nuget.config");
    }
    let ending = name.rsplit_once('.')?.1;
    ["php", "tf", "hcl", "yaml", "yml", "p12", "pfx"].into_iter().find(|known| *known == ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(text: &str, wanted: &str) -> u64 {
        text.lines().position(|line| line == wanted).expect("a line") as u64 + 1
    }

    #[test]
    fn pieces_overlap_and_know_their_lines() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut corpus = Corpus::within(dir.path()).expect("a corpus");
        let text: Vec<u8> = (0..30_000).flat_map(|number| format!("{number:05}\n").into_bytes()).collect();
        corpus.add(7, &text, &BTreeSet::new()).expect("written");
        corpus.complete().expect("written");
        assert_eq!(corpus.with_canary().len(), 3);
        let second = fs::read_to_string(corpus.input().join("0/1")).expect("the second piece");
        let line = line_of(&second, "20000");
        assert_eq!(corpus.piece_of("0/1"), Some(1));
        assert_eq!(corpus.locate(1, line), Some(Position { text: 7, line: Some(20_001) }));
        assert!(second.ends_with(&format!("\n{}\n", corpus.canary())));
    }

    #[test]
    fn small_texts_share_a_piece_and_can_be_taken_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut corpus = Corpus::within(dir.path()).expect("a corpus");
        for text in 0..3 {
            corpus.add(text, format!("a{text}\nb{text}").as_bytes(), &BTreeSet::new()).expect("kept");
        }
        corpus.add(3, b"c", &BTreeSet::from(["tf"])).expect("kept");
        corpus.complete().expect("written");
        assert_eq!(corpus.with_canary().len(), 2);
        assert_eq!(corpus.locate(0, 2), None);
        let apart = corpus.apart(&BTreeSet::from([0, 1]), dir.path()).expect("taken apart");
        assert_eq!(apart.with_canary().len(), 4);
        let second = fs::read_to_string(apart.input().join("0/1")).expect("a piece of one text");
        assert!(second.ends_with(&format!(" \na1\nb1\n\n\u{1c}\n\n{}\n", apart.canary())));
        assert_eq!(apart.locate(1, 3), Some(Position { text: 1, line: Some(2) }));
        assert!(apart.input().join("0/3.tf").is_file());
    }

    #[test]
    fn a_text_is_cut_between_lines_or_tokens() {
        assert_eq!(cut(b"one\ntwo three", 9), 4);
        assert_eq!(cut(b"key = \"abc\"; b=cd", 15), 13);
        let long = vec![b'x'; CUT_REACH + 10];
        assert_eq!(cut(&long, CUT_REACH + 5), CUT_REACH + 5);
        assert_eq!(cut(&[b"a\n".as_slice(), &long].concat(), CUT_REACH + 5), CUT_REACH + 5);
    }

    #[test]
    fn a_magic_number_is_moved_aside() {
        let mut bytes = vec![b'x'; 40_000];
        let at = 32_769 - BLANKS - 1;
        bytes[at..at + 5].copy_from_slice(b"CD001");
        assert_eq!(blanks(&bytes), BLANKS + 1);
    }

    #[test]
    fn newlines_are_counted_in_any_length() {
        for length in [0, 1, 254, 255, 256, 100_000] {
            assert_eq!(newlines(&vec![b'\n'; length]), length as u64);
        }
    }
}
