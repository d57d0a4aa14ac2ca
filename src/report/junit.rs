//! `junit.xml`: a suite a part of the run, a case a thing that was checked.

use junit_report::{Duration, ReportBuilder, TestCase, TestSuite};

use super::{Case, RunEvent, Suite};

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
        rendered.add_testcases(cases(suite).map(test_case));
        report.add_testsuite(rendered);
    }
    let mut xml = vec![];
    report.build().write_xml(&mut xml).map_err(|error| error.to_string())?;
    Ok(xml)
}

fn test_case(case: &Case) -> TestCase {
    let duration = Duration::try_from(case.duration).unwrap_or(Duration::ZERO);
    let name = printable(&case.name);
    let mut rendered = match &case.failure {
        Some(failure) => TestCase::failure(&name, duration, case.suite.name(), &printable(failure)),
        None => TestCase::success(&name, duration),
    };
    rendered.set_classname(case.suite.name());
    if !case.output.is_empty() {
        rendered.set_system_out(&printable(&case.output));
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
