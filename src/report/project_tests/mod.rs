//! The test reports that the project's own tools write: JUnit's XML, Visual Studio's TRX, and TAP.
//!
//! Map: `xml` (JUnit and TRX), `tap`. Always: a report is a stranger's file. It is read without a recursion, a DTD or an entity of its own, and
//! within the bounds below; one that goes beyond them is none, and says why in one sentence. What it says decides nothing.

mod tap;
#[cfg(test)]
mod tests;
mod xml;

use std::time::Duration;

use bottle_policy::prose;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::visible::beginning;

/// More tests than so many in one report, and in all of a run, are not read.
pub(crate) const MAX_TESTS: usize = 20_000;
/// The longest name, in characters.
const MAX_NAME: usize = 300;
/// The longest text of a failure, in bytes; the rest is cut off.
const MAX_FAILURE: usize = 4 << 10;
/// All texts of failures of one report, in bytes; what comes then has its name alone.
const MAX_FAILURES: usize = 4 << 20;
/// So many failed tests are named in a line.
const MOST_NAMED: usize = 10;

/// Why a file is no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TestReportError {
    #[error("it is no test report in JUnit's XML, TRX or TAP")]
    Unknown,
    #[error("it is no text in UTF-8")]
    NotText,
    #[error("it has a DTD, which could hold anything")]
    Dtd,
    #[error("its elements are nested more than {} deep", xml::MAX_DEPTH)]
    Deep,
    #[error("its XML is broken: {0}")]
    Xml(String),
    #[error("it has more than {MAX_TESTS} tests")]
    Many,
}

/// A report of the project's own tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestReport {
    /// Its path in the workspace.
    pub(crate) path: String,
    /// Its tests; `junit.xml` has them.
    #[serde(skip)]
    pub(crate) suites: Vec<TestSuite>,
    tests: usize,
    failed: usize,
    skipped: usize,
}

/// Tests under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TestSuite {
    /// Empty where the report has none.
    pub(crate) name: String,
    pub(crate) tests: Vec<Test>,
}

/// A test of the project's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) class: Option<String>,
    pub(crate) name: String,
    pub(crate) duration: Duration,
    pub(crate) verdict: Verdict,
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Skipped,
    /// With what it says.
    Failed(String),
}

impl TestReport {
    /// Reads a report; `path` is where it was.
    pub(crate) fn read(path: &str, bytes: &[u8]) -> Result<Self, TestReportError> {
        let text = str::from_utf8(bytes).map_err(|_| TestReportError::NotText)?;
        let text = text.trim_start_matches('\u{feff}');
        let suites = match text.trim_start().starts_with('<') {
            true => xml::read(text)?,
            false => vec![tap::read(text)?],
        };
        let mut report = Self { path: path.to_owned(), suites, tests: 0, failed: 0, skipped: 0 };
        report.tidy();
        Ok(report)
    }

    /// Makes every text fit to be shown, and counts.
    fn tidy(&mut self) {
        let mut left = MAX_FAILURES;
        self.suites.retain(|suite| !suite.tests.is_empty());
        for suite in &mut self.suites {
            suite.name = prose::name(&suite.name, MAX_NAME);
            for test in &mut suite.tests {
                test.class =
                    test.class.take().map(|class| prose::name(&class, MAX_NAME)).filter(|class| !class.is_empty());
                test.name = prose::name(&test.name, MAX_NAME);
                if test.name.is_empty() {
                    test.name = "a test without a name".to_owned();
                }
                self.tests += 1;
                match &mut test.verdict {
                    Verdict::Passed => {}
                    Verdict::Skipped => self.skipped += 1,
                    Verdict::Failed(why) => {
                        self.failed += 1;
                        *why = prose::file_for_prompt(beginning(why.trim(), MAX_FAILURE.min(left))).text;
                        left -= why.len().min(left);
                    }
                }
            }
        }
    }

    /// The number of tests.
    pub(crate) fn tests(&self) -> usize {
        self.tests
    }

    /// A sign that says whether one failed.
    pub(super) fn mark(&self) -> &'static str {
        if self.failed > 0 { "✗" } else { "✓" }
    }

    /// `214 tests, 2 failed, 1 skipped`.
    pub(super) fn counts(&self) -> String {
        let several = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let mut counts = format!("{}, {} failed", several(self.tests, "test"), self.failed);
        if self.skipped > 0 {
            counts.push_str(&format!(", {} skipped", self.skipped));
        }
        counts
    }

    /// The names of the first that failed, and how many more there are.
    pub(super) fn failures(&self) -> Vec<String> {
        let failed = self.suites.iter().flat_map(|suite| &suite.tests);
        let failed = failed.filter(|test| matches!(test.verdict, Verdict::Failed(_)));
        let mut names: Vec<String> = failed.take(MOST_NAMED).map(Test::title).collect();
        if self.failed > MOST_NAMED {
            names.push(format!("and {} more", self.failed - MOST_NAMED));
        }
        names
    }

    /// Changes every text.
    pub(super) fn map(mut self, mask: impl Fn(String) -> String) -> Self {
        self.path = mask(self.path);
        for suite in &mut self.suites {
            suite.name = mask(std::mem::take(&mut suite.name));
            for test in &mut suite.tests {
                test.name = mask(std::mem::take(&mut test.name));
                test.class = test.class.take().map(&mask);
                if let Verdict::Failed(why) = &mut test.verdict {
                    *why = mask(std::mem::take(why));
                }
            }
        }
        self
    }
}

impl Test {
    /// The name with its class.
    fn title(&self) -> String {
        match &self.class {
            Some(class) => format!("{class}: {}", self.name),
            None => self.name.clone(),
        }
    }
}

/// A number of seconds as reports have it; nothing else is a time.
fn seconds(text: &str) -> Duration {
    let seconds: f64 = text.trim().replace(',', "").parse().unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds).unwrap_or_default().min(Duration::from_secs(365 * 86_400))
}
