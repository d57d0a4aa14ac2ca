//! Runs the real gitleaks over a corpus. Every way in which it can fail, stop early or look away is an error here.
//!
//! gitleaks takes a third of a second to read its rules, so it is started before there is anything to scan: the file of what
//! it may ignore is a FIFO, at which it waits. Should a gitleaks not wait there, canaries are missing, and nothing passes.
//! Where a push may follow, the access hook starts it, while upstream is asked for its refs.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use bottle_types::rule::Rule;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use serde::Deserialize;

use super::dirs::GateDirs;
use super::hit::{FoundBy, Matched, ScanHit};
use super::objects::{Corpus, Position};
use super::process::{self, CONNECTION_TIMEOUT, last_words};

/// gitleaks' exit code for findings; its default, 1, is its code for errors too.
pub(super) const FINDINGS_EXIT_CODE: i32 = 42;
/// How long gitleaks may take to read its rules, and to scan.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const SCAN_TIMEOUT: Duration = Duration::from_secs(900);
/// Where it waits, under the name of a file that it reads last before it scans.
const FIFO: &str = "gitleaksignore";

/// A line of gitleaks' report; it has more.
#[derive(Debug, Deserialize)]
pub(super) struct ReportedFinding {
    #[serde(rename = "RuleID")]
    pub(super) rule: String,
    #[serde(rename = "File")]
    pub(super) file: String,
    #[serde(rename = "StartLine")]
    first: u64,
    #[serde(rename = "Secret")]
    secret: String,
}

impl ReportedFinding {
    /// The bytes that were found. There are none for a file's name, and gitleaks writes U+FFFD in place of what is no UTF-8.
    pub(super) fn matched(&self) -> Option<Matched> {
        let exact = !self.secret.is_empty() && !self.secret.contains(char::REPLACEMENT_CHARACTER);
        exact.then(|| Matched::new(self.secret.as_bytes()))
    }
}

/// A name in code, of words and at most one number: `allOwnKeys`, `_ref4`, `X25519PrivateKey`.
const NAME: &str =
    "[_$]*(?:[A-Za-z]|(?:[A-Z][a-z]+|[a-z]{2,}|[A-Z]{2,}|_)+)(?:[0-9]{1,5}(?:[A-Z][a-z]+|[a-z]{2,}|[A-Z]{2,}|_)*)?";

/// A word of a name, as few random characters are: `Europe`, `stockholm`, `API`.
const WORD: &str = "(?:[A-Z]?[a-z]{2,}|[A-Z]{2,})";

/// What stands before the value in a match of that rule, from its beginning: the first sign that assigns is the one, so that the whole
/// value has to be code, and not its end.
const BEFORE: &str = r#"^[\w.\s'"-]*[=>:|,?]+[ \t]*"#;

/// gitleaks' defaults, what its rule for any key finds in code, and the canary. Its built-in allowlists of paths have nothing to bite
/// on in a corpus.
///
/// `generic-api-key` takes what has no digit for no key. An expression of code is none either: names with a dot between two of them and
/// no quotes, one name of capitals, words with slashes in quotes, a constant that is a number or another constant
/// ([decision 0053](../../../docs/decisions/0053-an-expression-is-no-key.md)).
pub(super) fn config(canary: &str) -> String {
    format!(
        r#"title = "git-gate"

[extend]
useDefault = true

[[allowlists]]
description = "an expression of code"
targetRules = ["generic-api-key"]
regexTarget = "match"
regexes = [
  '''{BEFORE}(?:{NAME}[.=]){{0,8}}{NAME}\.{NAME}(?:[.=]{NAME}){{0,8}}[;\s]?$''',
  '''{BEFORE}[A-Za-z_$.]+=[A-Za-z_$.]+[;\s]?$''',
  '''{BEFORE}["']?_*[A-Z]{{2,}}(?:_[A-Z]{{2,}})*[0-9]{{0,3}}(?:_[A-Z]{{2,}})+["';\s]?$''',
  '''{BEFORE}["']{WORD}(?:[/._-]{WORD}){{1,8}}["']$''',
]

[[allowlists]]
description = "the nonce of a WebSocket's handshake, a page's cursor, and a hash that is called so"
targetRules = ["generic-api-key"]
regexTarget = "match"
regexes = [
  '''^(?i:Sec-WebSocket-Key)["']{{0,2}}[ \t]*[:=,][ \t]*["']?[A-Za-z0-9+/]{{22}}==(?:[^A-Za-z0-9+/=]|\\[nr]|$)''',
  '''^(?:[Nn]ext(?:Continuation|Page)?Token|[Cc]ontinuationToken|[Pp]ageToken)["']{{0,2}}[ \t]*[:=][ \t]*["']?[\w+/.-]+={{0,2}}(?:[^\w+/.=-]|$)''',
  '''(?i:[_.-]sha-?256["']{{0,2}}[ \t]*[:=]{{1,2}}[ \t]*["'][0-9a-f]{{64}}|[_.-]sha-?512["']{{0,2}}[ \t]*[:=]{{1,2}}[ \t]*["'][0-9a-f]{{128}})["']$''',
]

[[allowlists]]
description = "a constant of code"
targetRules = ["generic-api-key"]
regexTarget = "line"
regexes = [
  '''^\s*(?:pub )?(?:const|static) {NAME}: {NAME} = (?:-?[0-9]{{1,10}}(?:[iu](?:8|16|32|64|size))?|{NAME}(?:::{NAME}){{0,4}});\s*$''',
]

[[rules]]
id = "{canary}"
description = "the end of a piece"
regex = '''{canary}'''
keywords = ["{canary}"]
"#
    )
}

/// A gitleaks that waits for its corpus.
pub(super) struct Scanner {
    corpus: Corpus,
}

/// Runs gitleaks in the directory of a corpus. Its end is seen by the lock, which is this shell's standard input, so that
/// who waits need not be who started it.
const RUN: &str = r#"(cd in && exec "$@") >said 2>&1; echo $? >code"#;

impl Scanner {
    /// Starts one that waits for the push which this connection may bring; without it, the push starts its own.
    pub(super) fn warm_up(gate: &GateDirs) -> Result<(), String> {
        let dir = waiting(gate);
        std::fs::create_dir(&dir).map_err(|error| format!("failed to make {}: {error}", dir.display()))?;
        Self::over(gate, Corpus::new(dir).map_err(prepare)?).map(|scanner| scanner.corpus.leave())
    }

    /// Takes the one that waits, or starts one.
    pub(super) fn start(gate: &GateDirs) -> Result<Self, String> {
        if let Some(corpus) = Corpus::left(waiting(gate)) {
            return Ok(Self { corpus });
        }
        Self::over(gate, Corpus::within(&gate.tmp).map_err(prepare)?)
    }

    /// Starts one that scans each text by itself.
    pub(super) fn start_apart(gate: &GateDirs) -> Result<Self, String> {
        let mut scanner = Self::over(gate, Corpus::within(&gate.tmp).map_err(prepare)?)?;
        scanner.corpus.keep_apart();
        Ok(scanner)
    }

    fn over(gate: &GateDirs, corpus: Corpus) -> Result<Self, String> {
        let file = |name: &str| corpus.dir().join(name);
        let (rules, lock) = (file("gitleaks.toml"), file("lock"));
        std::fs::write(&rules, config(corpus.canary())).map_err(prepare)?;
        let make_fifo = rustix::fs::mknodat(rustix::fs::CWD, file(FIFO), FileType::Fifo, Mode::from_raw_mode(0o600), 0);
        make_fifo.map_err(|error| prepare(error.into()))?;
        let lock = File::create(&lock).map_err(prepare)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| prepare(error.into()))?;
        let mut command = process::program("sh", &gate.home());
        command
            .args(["-c", RUN, "scan", "gitleaks", "dir", "--no-banner", "--no-color", "--log-level=error"])
            .arg("--config")
            .arg(rules)
            .args(["--ignore-gitleaks-allow", "--gitleaks-ignore-path"])
            .arg(file(FIFO))
            .arg(format!("--exit-code={FINDINGS_EXIT_CODE}"))
            .args(["--max-archive-depth=8", "--max-decode-depth=8", "--report-format=json"])
            .arg(format!("--timeout={}", CONNECTION_TIMEOUT.as_secs()))
            .arg("--report-path")
            .arg(file("report.json"))
            .arg(".")
            .current_dir(corpus.dir())
            .env("TMPDIR", file("tmp"))
            .stdin(lock)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().map_err(|error| format!("failed to start a shell for gitleaks: {error}"))?;
        Ok(Self { corpus })
    }

    /// Adds a text; `endings` are those of its paths by which rules of gitleaks go.
    pub(super) fn add(&mut self, text: usize, bytes: &[u8], endings: &BTreeSet<&'static str>) -> std::io::Result<()> {
        self.corpus.add(text, bytes, endings)
    }

    /// Scans all that was added; an error means that not everything was looked at.
    pub(super) fn scan(self, gate: &GateDirs) -> Result<BTreeSet<ScanHit>, String> {
        let (corpus, mut hits, unclear) = self.look()?;
        if !unclear.is_empty() {
            let apart = corpus.apart(&unclear, &gate.tmp).map_err(prepare)?;
            hits.extend(Self::over(gate, apart)?.look()?.1);
        }
        Ok(hits)
    }

    /// The hits in pieces of one text, and the other pieces in which something was found.
    fn look(self) -> Result<(Corpus, BTreeSet<ScanHit>, BTreeSet<usize>), String> {
        let mut corpus = self.corpus;
        corpus.complete().map_err(prepare)?;
        let lock = File::open(corpus.dir().join("lock")).map_err(prepare)?;
        let has_ended = || match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(format!("failed to see whether gitleaks has ended: {error}")),
        };
        let_go(&corpus.dir().join(FIFO), &has_ended)?;
        wait("gitleaks did not end", SCAN_TIMEOUT, &has_ended)?;
        let read = |name: &str| std::fs::read(corpus.dir().join(name));
        let code = read("code").map(|code| String::from_utf8_lossy(&code).trim().to_owned());
        // There is always something to find: the canaries.
        if code.as_ref().ok() != Some(&FINDINGS_EXIT_CODE.to_string()) {
            let said = last_words(&read("said").unwrap_or_default());
            return Err(match code.as_deref() {
                Ok("126" | "127") => format!("failed to start gitleaks: {said}"),
                Ok(code) => format!("gitleaks ended with {code}: {said}"),
                Err(_) => format!("gitleaks was ended: {said}"),
            });
        }
        let report = std::fs::read(corpus.dir().join("report.json"))
            .map_err(|error| format!("gitleaks left no report: {error}"))?;
        let report: Vec<ReportedFinding> =
            serde_json::from_slice(&report).map_err(|error| format!("gitleaks' report can't be read: {error}"))?;
        let mut unseen = corpus.with_canary();
        let mut hits = BTreeSet::new();
        let mut unclear = BTreeSet::new();
        for reported in report {
            let piece = corpus.piece_of(&reported.file).ok_or("gitleaks reports a file that it was not given")?;
            if reported.rule == corpus.canary() {
                unseen.remove(&piece);
                continue;
            }
            match corpus.locate(piece, reported.first) {
                Some(Position { text, line }) => {
                    let matched = reported.matched();
                    let rule = Rule::Format(reported.rule);
                    hits.insert(ScanHit { text, rule, line, by: FoundBy::Gitleaks, matched });
                }
                None => {
                    unclear.insert(piece);
                }
            }
        }
        if !unseen.is_empty() {
            return Err(format!("gitleaks did not look at {} pieces", unseen.len()));
        }
        Ok((corpus, hits, unclear))
    }
}

/// Where the gitleaks of this connection waits.
fn waiting(gate: &GateDirs) -> PathBuf {
    gate.tmp.join("scan")
}

fn prepare(error: std::io::Error) -> String {
    format!("failed to prepare the scan: {error}")
}

/// Opens and closes the FIFO, as soon as gitleaks has opened it. One that has ended already says why by its exit code.
fn let_go(fifo: &Path, has_ended: &dyn Fn() -> Result<bool, String>) -> Result<(), String> {
    let no_block = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    wait("gitleaks was not ready", READY_TIMEOUT, &|| match File::options()
        .write(true)
        .custom_flags(no_block)
        .open(fifo)
    {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => has_ended(),
        Err(error) => Err(format!("failed to open {}: {error}", fifo.display())),
    })
}

/// Looks every other millisecond.
fn wait(what: &str, longest: Duration, is_so: &dyn Fn() -> Result<bool, String>) -> Result<(), String> {
    let deadline = Instant::now() + longest;
    while !is_so()? {
        if Instant::now() > deadline {
            return Err(format!("{what} within {} s", longest.as_secs()));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
