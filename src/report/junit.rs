//! `junit.xml`: a suite a part of the run, a case a thing that was checked.

use bottle_plan::policy_test::TestReport;
use junit_report::{Duration, ReportBuilder, TestCase, TestSuite};

use super::project_tests::{Test, Verdict};
use super::{Case, RunEvent, Suite, test_reports};

pub(super) fn render(events: &[RunEvent], started: time::OffsetDateTime) -> Result<Vec<u8>, String> {
    let cases = |suite: Suite| {
        events.iter().filter_map(move |event| match event {
            RunEvent::Case { case } if case.suite == suite => Some(case),
            _ => None,
        })
    };
    let mut report = ReportBuilder::new();
    for suite in Suite::ALL {
        let mut rendered = TestSuite::new(suite.name());
        rendered.set_timestamp(started);
        rendered.add_testcases(cases(suite).map(|case| test_case(case, case.was_superseded(events))));
        report.add_testsuite(rendered);
    }
    for (own, suite) in test_reports(events).flat_map(|own| own.suites.iter().map(move |suite| (own, suite))) {
        let name = if suite.name.is_empty() { own.path.clone() } else { format!("{}: {}", own.path, suite.name) };
        let mut rendered = TestSuite::new(&printable(&name));
        rendered.set_timestamp(started);
        rendered.add_testcases(suite.tests.iter().map(project_test));
        report.add_testsuite(rendered);
    }
    let mut xml = vec![];
    report.build().write_xml(&mut xml).map_err(|error| error.to_string())?;
    Ok(xml)
}

/// A test of the project's own, as its report has it.
fn project_test(test: &Test) -> TestCase {
    let (name, duration) = (printable(&test.name), Duration::try_from(test.duration).unwrap_or(Duration::ZERO));
    let mut rendered = match &test.verdict {
        Verdict::Passed => TestCase::success(&name, duration),
        Verdict::Skipped => TestCase::skipped(&name),
        Verdict::Failed(why) => TestCase::failure(&name, duration, "failure", &printable(why)),
    };
    if let Some(class) = &test.class {
        rendered.set_classname(&printable(class));
    }
    rendered
}

/// The report of a project's policy tests: one suite, a case a case.
pub(crate) fn policy_tests_junit(report: &TestReport, at: time::OffsetDateTime) -> Result<Vec<u8>, String> {
    const SUITE: &str = "policy";
    let cases = report.cases.iter().map(|case| {
        let name = printable(&case.name);
        let mut rendered = match &case.failure {
            Some(failure) => TestCase::failure(&name, Duration::ZERO, SUITE, &printable(failure)),
            None => TestCase::success(&name, Duration::ZERO),
        };
        rendered.set_classname(SUITE);
        rendered
    });
    let mut suite = TestSuite::new(SUITE);
    suite.set_timestamp(at);
    suite.add_testcases(cases);
    let untouched: Vec<String> = report.untouched.iter().map(|rule| format!("no case touches {rule}")).collect();
    if !untouched.is_empty() {
        suite.set_system_out(&printable(&untouched.join("\n")));
    }
    let mut xml = vec![];
    ReportBuilder::new().add_testsuite(suite).build().write_xml(&mut xml).map_err(|error| error.to_string())?;
    Ok(xml)
}

/// What was tried again neither passed nor failed: the last attempt says how it ended.
fn test_case(case: &Case, was_superseded: bool) -> TestCase {
    let duration = Duration::try_from(case.duration).unwrap_or(Duration::ZERO);
    let name = printable(&case.title());
    let mut rendered = match &case.failure {
        Some(_) if was_superseded => TestCase::skipped(&name),
        Some(failure) => TestCase::failure(&name, duration, case.suite.name(), &printable(failure)),
        None => TestCase::success(&name, duration),
    };
    rendered.set_classname(case.suite.name());
    let why = case.failure.as_ref().filter(|_| was_superseded).map(|why| format!("{why}, and tried again"));
    let lines = why.iter().chain(&case.note).chain((!case.output.is_empty()).then_some(&case.output));
    let output: Vec<&str> = lines.map(String::as_str).collect();
    if !output.is_empty() {
        rendered.set_system_out(&printable(&output.join("\n")));
    }
    rendered
}

/// XML 1.0 has no control characters, escaped or not; a command's output has.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => c,
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => '\u{fffd}',
            c => c,
        })
        .collect()
}
