//! Reports as tools write them, and as an agent could.

use std::process::Command;

use bottle_testkit::needed;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// `{words}xN` stands for so many times the words.
    text: String,
    says: String,
    #[serde(default)]
    failed: Vec<String>,
    /// Words of the first failure.
    #[serde(default)]
    why: String,
}

fn unfolded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (words, after) = after.split_once("}x").expect("an end");
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        out.push_str(before);
        out.push_str(&words.repeat(after[..digits].parse().expect("a number")));
        rest = &after[digits..];
    }
    out + rest
}

fn why(report: &TestReport) -> String {
    let tests = report.suites.iter().flat_map(|suite| &suite.tests);
    let mut failed = tests.filter_map(|test| match &test.verdict {
        Verdict::Failed(why) => Some(why.clone()),
        _ => None,
    });
    failed.next().unwrap_or_default()
}

#[test]
fn reports_are_read_as_the_cases_say() {
    let cases: Cases = toml::from_str(include_str!("cases.toml")).expect("cases");
    for case in &cases.case {
        let started = std::time::Instant::now();
        match TestReport::read("r", unfolded(&case.text).as_bytes()) {
            Ok(report) => {
                assert_eq!(report.counts(), case.says, "{}", case.name);
                if !case.failed.is_empty() {
                    assert_eq!(report.failures(), case.failed, "{}", case.name);
                }
                assert!(why(&report).contains(&case.why), "{}: {}", case.name, why(&report));
                let texts = format!("{:?}", report.suites);
                assert!(texts.len() < 20_000 && !texts.contains(['\u{1b}', '\u{202e}', '\u{200b}']), "{}", case.name);
            }
            Err(error) => assert!(error.to_string().contains(&case.says), "{}: {error}", case.name),
        }
        assert!(started.elapsed().as_secs() < 20, "{}: {:?}", case.name, started.elapsed());
    }
}

#[test]
fn what_pytest_writes_is_read() {
    let report = TestReport::read("r.xml", include_bytes!("samples/pytest-9.2.0.xml")).expect("a report");
    assert_eq!(report.counts(), "5 tests, 2 failed, 1 skipped");
    assert_eq!(report.failures(), ["test_a: test_param[<c>]", "test_a: test_error"]);
    assert!(why(&report).contains("AssertionError: it's <c>"), "{}", why(&report));
    assert_eq!(report.suites[0].name, "pytest");
}

#[test]
fn a_trx_is_read() {
    let report = TestReport::read("r.trx", include_bytes!("samples/vstest.trx")).expect("a report");
    assert_eq!(report.counts(), "3 tests, 1 failed, 1 skipped");
    assert_eq!(report.failures(), ["Calc.Tests: Divides(4, 0)"]);
    assert_eq!(report.suites[0].tests[0].duration, Duration::from_millis(1500));
    let said = why(&report);
    assert!(
        said.contains("Expected:<2>. Actual:<0>.") && said.contains("Tests.cs:line 12") && !said.contains("dividing"),
        "{said}"
    );
}

const NODE: &str = "import {test,describe,it} from 'node:test'; import assert from 'node:assert';
test('adds <b>', () => assert.equal(1, 1));
describe('outer', () => { it('good', () => {}); it('bad', () => assert.equal(1, 2)); it.skip('later', () => {}); it.todo('once') });
";

#[test]
#[expect(clippy::disallowed_methods, reason = "the real tool writes the report")]
fn what_node_writes_is_read_in_both_formats() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("a.test.mjs"), NODE).expect("a file");
    for (reporter, failed) in [("junit", "test: bad"), ("tap", "outer > bad")] {
        let mut node = Command::new(needed("BOTTLE_TEST_NODE"));
        node.args(["--test", &format!("--test-reporter={reporter}"), "a.test.mjs"]).current_dir(dir.path());
        let output = node.output().expect("node");
        let report = TestReport::read("r", &output.stdout).expect("a report");
        assert_eq!(report.counts(), "5 tests, 1 failed, 2 skipped", "{reporter}");
        assert_eq!(report.failures(), [failed], "{reporter}");
        assert!(why(&report).contains("1 == 2"), "{reporter}: {}", why(&report));
    }
}

#[test]
fn so_many_texts_are_kept_and_no_more() {
    let case = format!("<testcase name='a'><failure>{}</failure></testcase>", "x".repeat(8000));
    let report =
        TestReport::read("r", format!("<testsuite>{}</testsuite>", case.repeat(5000)).as_bytes()).expect("a report");
    let kept: usize = report.suites[0]
        .tests
        .iter()
        .map(|test| match &test.verdict {
            Verdict::Failed(why) => why.len(),
            _ => 0,
        })
        .sum();
    assert_eq!((report.counts().as_str(), kept), ("5000 tests, 5000 failed", MAX_FAILURES));
    assert_eq!(report.failures().last().map(String::as_str), Some("and 4990 more"));
}
