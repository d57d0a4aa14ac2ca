//! The Test Anything Protocol, versions 13 and 14, with the subtests of node and tap: <https://testanything.org/tap-version-14-specification.html>.

use std::time::Duration;

use super::{MAX_FAILURE, MAX_TESTS, Test, TestReportError, TestSuite, Verdict, beginning};

/// Subtests are indented by four each; deeper ones count as this deep.
const MAX_DEPTH: usize = 64;

/// The longest name with those above it, in bytes.
const MAX_PATH: usize = 1200;

/// Reads a stream of TAP.
pub(super) fn read(text: &str) -> Result<TestSuite, TestReportError> {
    let mut walk = Walk::default();
    for line in text.lines() {
        walk.line(line)?;
    }
    walk.done()
}

/// The end of a line's indentation, and how deep that is.
fn indented(line: &str) -> (usize, &str) {
    let rest = line.trim_start_matches(' ');
    (((line.len() - rest.len()) / 4).min(MAX_DEPTH), rest)
}

#[derive(Default)]
struct Walk {
    /// The tests of each depth that no test above has taken yet.
    levels: Vec<Vec<Test>>,
    is_tap: bool,
    planned: Option<usize>,
    /// The tests at the top, whatever is below them.
    at_top: usize,
    count: usize,
    /// How far the lines of an open block of details are indented, and the last test's depth.
    details: Option<usize>,
    last: usize,
    has_ended: bool,
}

impl Walk {
    fn line(&mut self, line: &str) -> Result<(), TestReportError> {
        if let Some(indent) = self.details {
            let is_end = line.trim() == "..." && line.len() - line.trim_start().len() == indent;
            if is_end {
                self.details = None
            } else {
                self.detail(line.trim_end())
            }
            return Ok(());
        }
        let (depth, rest) = indented(line);
        if rest.starts_with("TAP version ") {
            self.is_tap = true;
        } else if rest.trim_end() == "---" {
            self.details = Some(line.len() - rest.len());
        } else if let Some(why) = rest.strip_prefix("Bail out!") {
            self.has_ended = true;
            self.point(0, "Bail out!", Verdict::Failed(why.trim().to_owned()))?;
        } else if let Some(rest) = rest.strip_prefix("not ok").filter(|rest| is_point(rest)) {
            self.result(depth, rest, false)?;
        } else if let Some(rest) = rest.strip_prefix("ok").filter(|rest| is_point(rest)) {
            self.result(depth, rest, true)?;
        } else if let (0, Some(planned)) = (depth, rest.strip_prefix("1..")) {
            let number = planned.split([' ', '#']).next().unwrap_or_default();
            self.planned = number.parse().ok().or(self.planned);
            self.is_tap |= self.planned.is_some();
        }
        Ok(())
    }

    /// A line of a test's result, behind its verdict: `1 - name # SKIP reason`.
    fn result(&mut self, depth: usize, rest: &str, is_ok: bool) -> Result<(), TestReportError> {
        let rest = rest.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let rest = rest.strip_prefix("- ").unwrap_or(rest);
        let (name, directive) = directive(rest);
        let is_skipped = directive.to_ascii_lowercase().starts_with("skip");
        // What is to be done yet may fail.
        let is_todo = directive.to_ascii_lowercase().starts_with("todo");
        let verdict = match is_ok {
            _ if is_skipped || is_todo => Verdict::Skipped,
            true => Verdict::Passed,
            false => Verdict::Failed(String::new()),
        };
        self.at_top += usize::from(depth == 0);
        self.point(depth, &name, verdict)
    }

    fn point(&mut self, depth: usize, name: &str, verdict: Verdict) -> Result<(), TestReportError> {
        self.count += 1;
        if self.count > MAX_TESTS {
            return Err(TestReportError::Many);
        }
        if self.levels.len() <= depth {
            self.levels.resize_with(depth + 1, Vec::new);
        }
        let name = beginning(name, MAX_PATH);
        let mut below: Vec<Test> = self.levels.drain(depth + 1..).flatten().collect();
        let has_failed = below.iter().any(|test| matches!(test.verdict, Verdict::Failed(_)));
        let says_more = matches!(verdict, Verdict::Failed(_)) && !has_failed;
        for test in &mut below {
            test.name = beginning(&format!("{name} > {}", test.name), MAX_PATH).to_owned();
        }
        // A test with subtests is their sum, unless it failed by itself.
        if below.is_empty() || says_more {
            below.push(Test { class: None, name: name.to_owned(), duration: Duration::ZERO, verdict });
        }
        self.levels[depth].append(&mut below);
        self.last = depth;
        Ok(())
    }

    /// A line of the details of the last test.
    fn detail(&mut self, line: &str) {
        let Some(test) = self.levels.get_mut(self.last).and_then(|level| level.last_mut()) else { return };
        if let Some(time) = line.trim_start().strip_prefix("duration_ms:") {
            let millis: f64 = time.trim().parse().unwrap_or(0.0);
            test.duration = super::seconds(&(millis / 1000.0).to_string());
        }
        if let Verdict::Failed(why) = &mut test.verdict
            && why.len() < MAX_FAILURE
        {
            why.push_str(beginning(line, MAX_FAILURE));
            why.push('\n');
        }
    }

    fn done(mut self) -> Result<TestSuite, TestReportError> {
        if self.count == 0 || !(self.is_tap || self.has_ended) {
            return Err(TestReportError::Unknown);
        }
        if let Some(planned) = self.planned.filter(|planned| *planned != self.at_top) {
            let why = format!("{planned} tests are planned, and {} have ended", self.at_top);
            self.point(0, "the plan", Verdict::Failed(why))?;
        }
        Ok(TestSuite { name: String::new(), tests: self.levels.into_iter().flatten().collect() })
    }
}

/// Whether `ok` ends there.
fn is_point(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with([' ', '\t'])
}

/// A description and its directive; `\#` and `\\` stand for themselves.
fn directive(rest: &str) -> (String, &str) {
    let (mut name, mut chars) = (String::new(), rest.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '#' if name.is_empty() || name.ends_with(' ') => {
                return (name.trim().to_owned(), rest[at + 1..].trim_start());
            }
            c => name.push(c),
        }
    }
    (name.trim().to_owned(), "")
}
