//! `summary.md`: what was asked, how each part went, what the doors refused, what came out.

use std::fmt::Write as _;

use bottle_wire::run_record::Outcome;

use super::{Case, RunEvent, Suite, asked, card, outcome, test_reports};
use crate::exit::Code;

pub(super) fn render(events: &[RunEvent]) -> String {
    let mut text = String::new();
    for event in events {
        if let RunEvent::Started { slug, title, .. } = event {
            let _ = writeln!(text, "# {}\n\nrun `{slug}`\n", line(title));
        }
    }
    if let Some(outcome) = outcome(events) {
        outcome_lines(&mut text, outcome);
    }
    for suite in Suite::ALL {
        suite_section(&mut text, events, suite);
    }
    let tests = test_reports(events).map(|report| {
        let names: String = report.failures().iter().map(|name| format!("\n  - `{}`", line(name))).collect();
        format!("- {} `{}`: {}{names}\n", report.mark(), line(&report.path), report.counts())
    });
    section(&mut text, "The project's own tests", tests.collect());
    proposals(&mut text, events);
    let refused = events.iter().filter_map(|event| match event {
        RunEvent::Refused { door, what } => Some(format!("- {door}: {}\n", line(what))),
        _ => None,
    });
    section(&mut text, "What the doors refused", refused.collect());
    let warnings = events.iter().filter_map(|event| match event {
        RunEvent::Warning { text } => Some(format!("- {}\n", line(text))),
        _ => None,
    });
    section(&mut text, "Warnings", warnings.collect());
    text
}

/// How the run ended, and what it came to.
fn outcome_lines(text: &mut String, outcome: &Outcome) {
    let word = if outcome.code == Code::Done { "done" } else { "failed" };
    let _ = writeln!(text, "**{word}** (exit code {}): {}\n", outcome.code, line(&outcome.summary));
    let commit = outcome.commit.as_ref().map(ToString::to_string);
    for (name, value) in [("branch", &outcome.branch), ("commit", &commit), ("session", &outcome.session_id)] {
        if let Some(value) = value {
            let _ = writeln!(text, "- {name}: `{}`", line(value));
        }
    }
    if let Some(turns) = outcome.turns {
        let _ = writeln!(text, "- turns: {turns}");
    }
    if let Some(cost) = outcome.cost_usd {
        let _ = writeln!(text, "- cost: {cost:.2} US dollars");
    }
    text.push('\n');
}

/// A suite's cases, if it has any.
fn suite_section(text: &mut String, events: &[RunEvent], suite: Suite) {
    let cases: Vec<&Case> = events
        .iter()
        .filter_map(|event| match event {
            RunEvent::Case { case } if case.suite == suite => Some(case),
            _ => None,
        })
        .collect();
    if cases.is_empty() {
        return;
    }
    let tried_again = cases.iter().filter(|case| case.was_superseded(events)).count();
    let failed = cases.iter().filter(|case| case.failure.is_some()).count() - tried_again;
    let passed = cases.len() - failed - tried_again;
    let again = if tried_again > 0 { format!(", {tried_again} tried again") } else { String::new() };
    let _ = writeln!(text, "## {}: {passed} passed, {failed} failed{again}\n", suite.name());
    for case in cases {
        // The seal's cases are many and of interest only where one fails; junit.xml has them all.
        if suite == Suite::Seal && case.failure.is_none() {
            continue;
        }
        let mark = match &case.failure {
            Some(_) if case.was_superseded(events) => "↻",
            Some(_) => "✗",
            None => "✓",
        };
        let _ = write!(text, "- {mark} `{}` ({:.2} s)", line(&case.title()), case.duration.as_secs_f64());
        for words in case.failure.iter().chain(&case.note) {
            let _ = write!(text, ": {}", line(words));
        }
        text.push('\n');
    }
    text.push('\n');
}

/// What the agent asked for, and the change of the manifest that makes asking needless.
fn proposals(text: &mut String, events: &[RunEvent]) {
    let proposals = asked::proposals(events);
    if !proposals.is_empty() {
        let _ = writeln!(text, "## What the agent asked for\n");
        for asked in proposals {
            let why = if asked.why.is_empty() { String::new() } else { format!(" (why: {})", line(asked.why)) };
            let _ =
                writeln!(text, "- {} {} `{}`{why}: {}", asked.mark(), asked.id, line(asked.what), line(&asked.end()));
        }
        text.push('\n');
    }
    if let Some(diff) = asked::offer(events) {
        let fence = card::fence(diff);
        let _ = writeln!(
            text,
            "## Allow it in the next run\n\nThis change of the manifest does:\n\n{fence}diff\n{}\n{fence}\n",
            diff.trim_end()
        );
    }
}

/// A heading with its lines, where there are some.
fn section(text: &mut String, title: &str, lines: Vec<String>) {
    if !lines.is_empty() {
        let _ = writeln!(text, "## {title}\n\n{}", lines.concat());
    }
}

/// One line that can't break out of where it stands in the page.
fn line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || c == '`' { ' ' } else { c })
        .collect::<String>()
        .trim()
        .replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_end_leaves_the_end_there() {
        let finished = RunEvent::Finished { outcome: Outcome::default(), record: "/r".into() };
        let note = RunEvent::Note { text: "the credential TOKEN was renewed".to_owned() };
        assert!(render(&[finished, note]).contains("(exit code "));
    }
}
