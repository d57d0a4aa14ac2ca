//! Runs the real gitleaks over a corpus. Every way in which it can fail, stop early or look away is an error here.
//!
//! gitleaks takes a third of a second to read its rules, so it is started before there is anything to scan: the file of what
//! it may ignore is a FIFO, at which it waits. Should a gitleaks not wait there, canaries are missing, and nothing passes.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags};
use serde::Deserialize;

use super::corpus::{Corpus, Spot};
use super::place::Place;
use super::process::{self, Limits, Running, last_words};

/// gitleaks' exit code for findings; its default, 1, is its code for errors too.
const FOUND: i32 = 42;
const LIMITS: Limits = Limits::seconds(900, 900);
/// How long gitleaks may take to read its rules.
const READY: Duration = Duration::from_secs(60);

/// What gitleaks found, in terms of the corpus.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    pub(super) text: usize,
    pub(super) rule: String,
    pub(super) line: Option<u64>,
}

/// A line of gitleaks' report; it has more.
#[derive(Debug, Deserialize)]
struct Reported {
    #[serde(rename = "RuleID")]
    rule: String,
    #[serde(rename = "File")]
    file: String,
    #[serde(rename = "StartLine")]
    first: u64,
    #[serde(rename = "EndLine")]
    last: u64,
}

/// gitleaks' defaults, and the canary. Its built-in allowlists of paths have nothing to bite on in a corpus.
fn config(canary: &str) -> String {
    format!(
        "title = \"git-gate\"\n\n[extend]\nuseDefault = true\n\n[[rules]]\nid = \"{canary}\"\n\
         description = \"the end of a piece\"\nregex = '''{canary}'''\nkeywords = [\"{canary}\"]\n"
    )
}

/// A gitleaks that waits for its corpus.
pub(super) struct Scanner {
    corpus: Corpus,
    process: Running,
    /// Where it waits.
    gate: PathBuf,
    within: PathBuf,
}

impl Scanner {
    /// Starts it.
    pub(super) fn start(place: &Place) -> Result<Self, String> {
        let within = place.own("tmp");
        let corpus = Corpus::new(&within).map_err(|error| format!("failed to prepare the scan: {error}"))?;
        Self::over(place, corpus, within)
    }

    fn over(place: &Place, corpus: Corpus, within: PathBuf) -> Result<Self, String> {
        let file = |name: &str| corpus.dir().join(name);
        std::fs::write(file("gitleaks.toml"), config(corpus.canary()))
            .map_err(|error| format!("failed to write gitleaks.toml for the scan: {error}"))?;
        let gate = file("gitleaksignore");
        rustix::fs::mknodat(rustix::fs::CWD, &gate, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .map_err(|error| format!("failed to make {}: {error}", gate.display()))?;
        let mut command = process::program("gitleaks", &place.home());
        command
            .current_dir(corpus.input())
            .env("TMPDIR", file("tmp"))
            .args(["dir", "--no-banner", "--no-color", "--log-level=error", "--ignore-gitleaks-allow"])
            .arg("--config")
            .arg(file("gitleaks.toml"))
            .arg("--gitleaks-ignore-path")
            .arg(&gate)
            .arg(format!("--exit-code={FOUND}"))
            .args(["--redact=100", "--max-archive-depth=8", "--max-decode-depth=8", "--report-format=json"])
            .arg(format!("--timeout={}", LIMITS.total.as_secs()))
            .arg("--report-path")
            .arg(file("report.json"))
            .arg(".");
        let process = Running::start(command, None).map_err(|error| error.to_string())?;
        Ok(Self { corpus, process, gate, within })
    }

    /// Adds a text; `endings` are those of its paths by which rules of gitleaks go.
    pub(super) fn add(&mut self, text: usize, bytes: &[u8], endings: &BTreeSet<&'static str>) -> std::io::Result<()> {
        self.corpus.add(text, bytes, endings)
    }

    /// Scans all that was added; an error means that not everything was looked at.
    pub(super) fn scan(self, place: &Place) -> Result<BTreeSet<Hit>, String> {
        let within = self.within.clone();
        let (corpus, mut hits, unclear) = self.look()?;
        if !unclear.is_empty() {
            let apart =
                corpus.apart(&unclear, &within).map_err(|error| format!("failed to prepare the scan: {error}"))?;
            // A text by itself has matches that are in it alone, whatever their lines say.
            hits.extend(Self::over(place, apart, within)?.look()?.1);
        }
        Ok(hits)
    }

    /// The hits that are in one text, and the pieces in which a match goes from one text to the next.
    fn look(mut self) -> Result<(Corpus, BTreeSet<Hit>, BTreeSet<usize>), String> {
        self.corpus.complete().map_err(|error| format!("failed to write what gitleaks reads: {error}"))?;
        self.let_go()?;
        let Self { corpus, process, .. } = self;
        let output = process.wait(LIMITS).map_err(|error| error.to_string())?;
        // There is always something to find: the canaries.
        if output.status.code() != Some(FOUND) {
            return Err(format!("gitleaks ended with {}: {}", output.status, last_words(&output.stderr)));
        }
        let report = std::fs::read(corpus.dir().join("report.json"))
            .map_err(|error| format!("gitleaks left no report: {error}"))?;
        let report: Vec<Reported> =
            serde_json::from_slice(&report).map_err(|error| format!("gitleaks' report can't be read: {error}"))?;
        let mut unseen = corpus.with_canary();
        let mut found = vec![];
        let mut unclear = BTreeSet::new();
        for reported in report {
            let piece = corpus.piece_of(&reported.file).ok_or("gitleaks reports a file that it was not given")?;
            if reported.rule == corpus.canary() {
                unseen.remove(&piece);
                continue;
            }
            match corpus.locate(piece, reported.first, reported.last) {
                Some(Spot { text, line }) => found.push((piece, Hit { text, rule: reported.rule, line })),
                None => {
                    unclear.insert(piece);
                }
            }
        }
        if !unseen.is_empty() {
            return Err(format!("gitleaks did not look at {} pieces", unseen.len()));
        }
        // What else is in such a piece is found again.
        let hits = found.into_iter().filter(|(piece, _)| !unclear.contains(piece)).map(|(_, hit)| hit).collect();
        Ok((corpus, hits, unclear))
    }

    /// Opens and closes the FIFO, as soon as gitleaks has opened it.
    fn let_go(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY;
        let no_block = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        loop {
            match OpenOptions::new().write(true).custom_flags(no_block).open(&self.gate) {
                Ok(_) => return Ok(()),
                // Nobody reads yet; if it has ended, its exit code says why.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
                    if !self.process.is_running() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(format!("failed to open {}: {error}", self.gate.display())),
            }
            if Instant::now() > deadline {
                return Err(format!("gitleaks was not ready within {} s", READY.as_secs()));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}
