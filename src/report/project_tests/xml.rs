//! Reports in XML: JUnit's, as a dozen tools write it, and Visual Studio's TRX.
//!
//! JUnit's has no owner; read is what <https://github.com/testmoapp/junitxml> describes. TRX is what
//! <https://github.com/microsoft/vstest/blob/main/src/Microsoft.TestPlatform.Extensions.TrxLogger> writes: results with the names of tests, and
//! definitions with their classes.

use std::collections::HashMap;
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesStart, Event};

use super::{MAX_FAILURE, MAX_TESTS, Test, TestReportError, TestSuite, Verdict, beginning, seconds};

/// No report of a tool is nested as deep.
pub(super) const MAX_DEPTH: usize = 64;
/// No element of a report has as many attributes that count.
const MAX_ATTRIBUTES: usize = 64;
/// The elements whose words say why a test failed.
const REASONS: [&str; 4] = ["failure", "error", "Message", "StackTrace"];

/// Reads a report.
pub(super) fn read(text: &str) -> Result<Vec<TestSuite>, TestReportError> {
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    let mut walk = Walk::default();
    loop {
        match reader.read_event().map_err(broken)? {
            Event::DocType(_) => return Err(TestReportError::Dtd),
            Event::Start(tag) => walk.start(&tag)?,
            Event::End(_) => walk.end(),
            Event::Text(words) => walk.words(&words.decode().map_err(broken)?),
            Event::CData(words) => walk.words(&words.decode().map_err(broken)?),
            Event::GeneralRef(name) => {
                walk.reference(&name.decode().map_err(broken)?, &name.resolve_char_ref().map_err(broken)?)?
            }
            Event::Eof if walk.path.is_empty() && walk.has_root => return Ok(walk.done()),
            Event::Eof => return Err(TestReportError::Xml("it ends in the middle".to_owned())),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

fn broken(error: impl std::fmt::Display) -> TestReportError {
    TestReportError::Xml(bottle_policy::prose::name(&error.to_string(), 200))
}

#[derive(Default)]
struct Walk {
    path: Vec<String>,
    has_root: bool,
    suites: Vec<TestSuite>,
    /// The suites that are open, by their places among `suites`.
    open: Vec<usize>,
    test: Option<Test>,
    /// What an open failure says.
    why: String,
    count: usize,
    /// TRX: the open test's id, the ids of those that are kept, in their order, and the classes by id.
    id: String,
    ids: Vec<String>,
    classes: HashMap<String, String>,
    definition: Option<String>,
}

impl Walk {
    fn start(&mut self, tag: &BytesStart<'_>) -> Result<(), TestReportError> {
        let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
        if self.path.is_empty() {
            if self.has_root || !matches!(name.as_str(), "testsuites" | "testsuite" | "TestRun") {
                return Err(TestReportError::Unknown);
            }
            self.has_root = true;
        }
        if self.path.len() >= MAX_DEPTH {
            return Err(TestReportError::Deep);
        }
        let attributes = Attributes::of(tag)?;
        match (self.path.first().map(String::as_str), name.as_str()) {
            (_, "testsuite") => self.suite(attributes.get("name"))?,
            (None, "TestRun") => self.suite(attributes.get("name"))?,
            (Some("testsuite" | "testsuites"), "testcase") => {
                let class = attributes.get("classname").map(str::to_owned);
                self.test(class, attributes.get("name"), seconds(attributes.get("time").unwrap_or_default()))?;
            }
            (Some("TestRun"), "UnitTestResult") => {
                let duration = clock(attributes.get("duration").unwrap_or_default());
                self.test(None, attributes.get("testName"), duration)?;
                self.id = attributes.get("testId").unwrap_or_default().to_owned();
                let verdict = match attributes.get("outcome").unwrap_or("Passed") {
                    "Passed" | "PassedButRunAborted" | "Warning" | "Completed" => Verdict::Passed,
                    "NotExecuted" | "Inconclusive" | "NotRunnable" | "Pending" | "Disconnected" => Verdict::Skipped,
                    other => Verdict::Failed(other.to_owned()),
                };
                self.verdict(verdict);
            }
            (Some("TestRun"), "UnitTest") => self.definition = attributes.get("id").map(str::to_owned),
            (Some("TestRun"), "TestMethod") => {
                if let (Some(id), Some(class)) = (&self.definition, attributes.get("className")) {
                    self.classes.insert(id.clone(), beginning(class, MAX_FAILURE).to_owned());
                }
            }
            (_, "failure" | "error") if self.test.is_some() => {
                self.why = attributes.get("message").unwrap_or_default().to_owned();
                self.verdict(Verdict::Failed(String::new()));
            }
            (_, "skipped" | "ignored") if self.test.is_some() => self.verdict(Verdict::Skipped),
            _ => {}
        }
        self.path.push(name);
        Ok(())
    }

    fn end(&mut self) {
        let name = self.path.pop().unwrap_or_default();
        match name.as_str() {
            "testsuite" => drop(self.open.pop()),
            "testcase" | "UnitTestResult" => {
                let why = std::mem::take(&mut self.why);
                if let Some(mut test) = self.test.take() {
                    if let Verdict::Failed(said) = &mut test.verdict
                        && !why.trim().is_empty()
                    {
                        *said = why;
                    }
                    self.keep(test);
                }
            }
            "UnitTest" => self.definition = None,
            _ => {}
        }
    }

    fn words(&mut self, words: &str) {
        let is_reason = self.path.last().is_some_and(|name| REASONS.contains(&name.as_str()));
        if is_reason && self.test.is_some() && self.why.len() < MAX_FAILURE {
            let starts_anew = self.path.last().is_some_and(|name| name == "StackTrace") && !self.why.ends_with('\n');
            if !self.why.is_empty() && starts_anew {
                self.why.push('\n');
            }
            self.why.push_str(beginning(words, MAX_FAILURE));
        }
    }

    /// A character by its number or one of XML's five names; a report has no other.
    fn reference(&mut self, name: &str, character: &Option<char>) -> Result<(), TestReportError> {
        match (character, resolve_xml_entity(name)) {
            (Some(character), _) => self.words(character.encode_utf8(&mut [0; 4])),
            (None, Some(words)) => self.words(words),
            (None, None) => return Err(TestReportError::Xml("it has an entity of its own".to_owned())),
        }
        Ok(())
    }

    fn suite(&mut self, name: Option<&str>) -> Result<(), TestReportError> {
        self.count_one()?;
        // Of a suite in a suite the name says where it is.
        let above = self.open.last().map(|at| self.suites[*at].name.clone()).filter(|name| !name.is_empty());
        let name = beginning(name.unwrap_or_default(), MAX_FAILURE);
        let name = above
            .map_or_else(|| name.to_owned(), |above| beginning(&format!("{above} > {name}"), MAX_FAILURE).to_owned());
        self.suites.push(TestSuite { name, tests: vec![] });
        self.open.push(self.suites.len() - 1);
        Ok(())
    }

    /// Counts suites as tests: a report of a million of either is none.
    fn count_one(&mut self) -> Result<(), TestReportError> {
        self.count += 1;
        if self.count > MAX_TESTS { Err(TestReportError::Many) } else { Ok(()) }
    }

    fn test(&mut self, class: Option<String>, name: Option<&str>, duration: Duration) -> Result<(), TestReportError> {
        self.count_one()?;
        let name = beginning(name.unwrap_or_default(), MAX_FAILURE).to_owned();
        self.test = Some(Test { class, name, duration, verdict: Verdict::Passed });
        self.why.clear();
        Ok(())
    }

    fn verdict(&mut self, verdict: Verdict) {
        if let Some(test) = &mut self.test {
            test.verdict = verdict;
        }
    }

    fn keep(&mut self, test: Test) {
        self.ids.push(std::mem::take(&mut self.id));
        match self.open.last() {
            Some(at) => self.suites[*at].tests.push(test),
            // node's reporter has tests directly below the root.
            None => {
                if !self.suites.first().is_some_and(|suite| suite.name.is_empty()) {
                    self.suites.insert(0, TestSuite::default());
                }
                self.suites[0].tests.push(test);
            }
        }
    }

    fn done(mut self) -> Vec<TestSuite> {
        let tests = self.suites.iter_mut().flat_map(|suite| &mut suite.tests);
        for (test, id) in tests.zip(&self.ids) {
            test.class = test.class.take().or_else(|| self.classes.get(id).cloned());
        }
        self.suites
    }
}

/// An element's attributes, their references resolved.
struct Attributes(Vec<(String, String)>);

impl Attributes {
    fn of(tag: &BytesStart<'_>) -> Result<Self, TestReportError> {
        let mut all = vec![];
        // A check for two of one name would compare each with each.
        for attribute in tag.attributes().with_checks(false).take(MAX_ATTRIBUTES) {
            let attribute = attribute.map_err(broken)?;
            let name = String::from_utf8_lossy(attribute.key.local_name().as_ref()).into_owned();
            let value = String::from_utf8_lossy(&attribute.value);
            // XML's five names and numbers; an entity of the report's own is an error.
            let value = quick_xml::escape::unescape(&value).map_err(broken)?.into_owned();
            all.push((name, value));
        }
        Ok(Self(all))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A time as TRX has it: `00:00:01.5000000`.
fn clock(text: &str) -> Duration {
    let parts: Vec<&str> = text.split(':').collect();
    let [hours, minutes, rest] = parts.as_slice() else { return Duration::ZERO };
    let whole = |part: &str| Duration::from_secs(part.parse::<u16>().unwrap_or(0).into());
    whole(hours) * 3600 + whole(minutes) * 60 + seconds(rest)
}
