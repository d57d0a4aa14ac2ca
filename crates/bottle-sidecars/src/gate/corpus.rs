//! What gitleaks gets to read: every text of the push as files with neutral names, made so that gitleaks looks at all of it.
//!
//! gitleaks 8.30 skips files by name, skips what its first bytes call an application's file, and reads 100 kB at a time, so
//! that a secret across the seam is missed. So each text is cut into overlapping pieces that it reads in one go, behind a
//! line of blanks that hides the first bytes. Each piece ends with a canary, a word made up for this push that a rule of ours
//! finds: a piece whose canary is not reported was not scanned, and the push is refused.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bottle_policy::gate::texts::archive_names;
use tempfile::TempDir;

/// gitleaks reads 100,000 bytes at a time.
const PIECE: usize = 90_000;
/// Long enough for any private key.
const OVERLAP: usize = 10_000;
/// Longer than the offset of any magic number that gitleaks knows but one, see [`blanks`].
const BLANKS: usize = 319;

/// A file of the corpus.
#[derive(Debug, Clone)]
struct Piece {
    text: usize,
    /// The line in the text at which it begins, from 0; none: an archive, in which lines mean nothing.
    first_line: Option<u64>,
}

/// The files for one scan, in a directory of their own that is removed with this value.
#[derive(Debug)]
pub(super) struct Corpus {
    dir: TempDir,
    pieces: Vec<Piece>,
    canary: String,
}

impl Corpus {
    pub(super) fn new(within: &Path) -> io::Result<Self> {
        let dir = TempDir::new_in(within)?;
        fs::create_dir(dir.path().join("in"))?;
        fs::create_dir(dir.path().join("tmp"))?;
        let mut random = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        Ok(Self { dir, pieces: vec![], canary: format!("gate-canary-{}", hex::encode(random)) })
    }

    /// The word at the end of every piece.
    pub(super) fn canary(&self) -> &str {
        &self.canary
    }

    /// The directory around it all, for configuration and report.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory to scan.
    pub(super) fn input(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    /// Adds a text, once for each of the endings, or without one.
    pub(super) fn add(&mut self, text: usize, bytes: &[u8], endings: &BTreeSet<&'static str>) -> io::Result<()> {
        let plain = BTreeSet::from([""]);
        for ending in if endings.is_empty() { &plain } else { endings } {
            let (mut start, mut line) = (0, 0);
            loop {
                let end = (start + PIECE).min(bytes.len());
                self.piece(text, Some(line), &bytes[start..end], ending)?;
                if end == bytes.len() {
                    break;
                }
                let next = end - OVERLAP;
                line += newlines(&bytes[start..next]);
                start = next;
            }
        }
        for ending in archive_names(bytes) {
            let path = self.next_file(ending)?;
            fs::write(path, bytes)?;
            self.pieces.push(Piece { text, first_line: None });
        }
        Ok(())
    }

    fn piece(&mut self, text: usize, first_line: Option<u64>, bytes: &[u8], ending: &str) -> io::Result<()> {
        let mut file = fs::File::create_new(self.next_file(ending)?)?;
        let mut content = Vec::with_capacity(bytes.len() + 512);
        content.resize(blanks(bytes), b' ');
        content.push(b'\n');
        content.extend_from_slice(bytes);
        content.extend_from_slice(b"\n\n");
        content.extend_from_slice(self.canary.as_bytes());
        content.push(b'\n');
        file.write_all(&content)?;
        self.pieces.push(Piece { text, first_line });
        Ok(())
    }

    /// Neutral names: numbers, and an ending only where a rule of gitleaks or one of its unpackers goes by it.
    fn next_file(&self, ending: &str) -> io::Result<PathBuf> {
        let number = self.pieces.len();
        let dir = self.input().join((number / 1000).to_string());
        if number.is_multiple_of(1000) {
            fs::create_dir_all(&dir)?;
        }
        if ending == "nuget.config" {
            fs::create_dir(dir.join(format!("{number}")))?;
            return Ok(dir.join(format!("{number}")).join(ending));
        }
        let dot = if ending.is_empty() { "" } else { "." };
        Ok(dir.join(format!("{number}{dot}{ending}")))
    }

    /// Which piece a path in gitleaks' report means.
    pub(super) fn piece_of(&self, path: &str) -> Option<usize> {
        let outer = path.split('!').next()?;
        let name = outer.trim_start_matches("./").split('/').nth(1)?;
        let number: usize = name.split('.').next()?.parse().ok()?;
        (number < self.pieces.len()).then_some(number)
    }

    /// Where in which text a line of a piece is; lines from 1.
    pub(super) fn locate(&self, piece: usize, line: u64) -> (usize, Option<u64>) {
        let Piece { text, first_line } = self.pieces[piece];
        // The first line of a piece is the blanks.
        (text, first_line.map(|first| first + line.saturating_sub(1).max(1)))
    }

    /// The pieces that have a canary.
    pub(super) fn with_canary(&self) -> BTreeSet<usize> {
        let pieces = self.pieces.iter().enumerate();
        pieces.filter(|(_, piece)| piece.first_line.is_some()).map(|(index, _)| index).collect()
    }
}

pub(super) fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
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

    #[test]
    fn pieces_overlap_and_know_their_lines() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut corpus = Corpus::new(dir.path()).expect("a corpus");
        let text: Vec<u8> = (0..30_000).flat_map(|number| format!("{number:05}\n").into_bytes()).collect();
        corpus.add(7, &text, &BTreeSet::new()).expect("written");
        assert_eq!(corpus.with_canary().len(), 3);
        let second = fs::read_to_string(corpus.input().join("0/1")).expect("the second piece");
        let line = second.lines().position(|line| line == "20000").expect("a line") as u64 + 1;
        assert_eq!(corpus.piece_of("0/1"), Some(1));
        assert_eq!(corpus.locate(1, line), (7, Some(20_001)));
        assert!(second.ends_with(&format!("\n{}\n", corpus.canary())));
    }

    #[test]
    fn a_magic_number_is_moved_aside() {
        let mut bytes = vec![b'x'; 40_000];
        let at = 32_769 - BLANKS - 1;
        bytes[at..at + 5].copy_from_slice(b"CD001");
        assert_eq!(blanks(&bytes), BLANKS + 1);
    }
}
