//! The posted texts: the status (the job summary, the comment that is kept up to date) and the pull request's text, of the same parts.
//!
//! Everything in them that people or the agent wrote is made neutral here.

use std::fmt::Write as _;

use bottle_wire::run_record::Outcome;

use super::{Case, Phase, RunEvent, Suite, asked, neutral, neutral_text, outcome, test_reports};
use crate::exit::Code;

/// Forges take 65,536 characters; what stands around the card needs some.
const MAX_CARD_CHARS: usize = 60_000;
/// More refusals than these are counted only.
const MOST_REFUSALS: usize = 20;
/// Of the agent's last words, in characters.
const MOST_WORDS: usize = 12_000;

/// The status of a run as far as it has come, as Markdown: its phases, its results, its words.
pub(super) fn status(events: &[RunEvent]) -> String {
    let mut card = String::new();
    let ended = outcome(events);
    for event in events {
        if let RunEvent::Started { title, .. } = event {
            let mark = ended.map_or("⏳", |outcome| if outcome.code == Code::Done { "✅" } else { "❌" });
            let _ = writeln!(card, "### {mark} {}\n", line(title));
        }
    }
    origin(&mut card, events);
    if let Some(outcome) = ended {
        conclusion(&mut card, outcome);
    }
    phases(&mut card, events, ended.is_some());
    if ended.is_none() {
        let lines = asked::progress(events).into_iter().map(|text| format!("- {}\n", line(text)));
        list(&mut card, "The agent says", lines.collect());
    }
    if let Some(outcome) = ended {
        results(&mut card, events, outcome);
    }
    words(&mut card, events);
    verification(&mut card, events);
    refusals(&mut card, events);
    cut(card)
}

/// The text of a run's pull request, as Markdown: the agent's own words about the change first, then verification, cost,
/// refusals, and where the run's record is.
pub(super) fn pull_request(events: &[RunEvent]) -> String {
    let mut card = String::new();
    words(&mut card, events);
    let ended = outcome(events);
    if let Some(outcome) = ended {
        conclusion(&mut card, outcome);
    }
    verification(&mut card, events);
    if let Some(outcome) = ended {
        results(&mut card, events, outcome);
    }
    refusals(&mut card, events);
    let mut card = cut(card);
    origin(&mut card, events);
    card
}

/// Who asked, the run's name, and its job's page, where its record is.
fn origin(card: &mut String, events: &[RunEvent]) {
    for event in events {
        if let RunEvent::Started { slug, asked, job, .. } = event {
            let asked = asked.as_ref().map(|asked| format!("{} · ", line(asked))).unwrap_or_default();
            let job = job.as_ref().map(|job| format!(" · [the job]({job})")).unwrap_or_default();
            let _ = writeln!(card, "{asked}run `{slug}`{job}\n");
        }
    }
}

/// How the run ended.
fn conclusion(card: &mut String, outcome: &Outcome) {
    let word = if outcome.code == Code::Done { "Done" } else { "Failed" };
    let _ = writeln!(card, "**{word}** (exit code {}): {}\n", outcome.code, line(&outcome.summary));
}

/// The verify commands, the pushes, and what else failed.
fn verification(card: &mut String, events: &[RunEvent]) {
    suite(card, events, Suite::Setup, "Setup");
    suite(card, events, Suite::Verify, "Verify");
    let tests = test_reports(events).map(|report| {
        let names: Vec<String> = report.failures().iter().map(|name| format!("`{}`", code(name))).collect();
        let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        format!("- {} `{}`: {}{names}\n", report.mark(), code(&report.path), report.counts())
    });
    list(card, "The project's own tests", tests.collect());
    suite(card, events, Suite::Gate, "Pushes");
    failures(card, events);
}

/// Proposals and what became of them, refusals at the doors, and warnings.
fn refusals(card: &mut String, events: &[RunEvent]) {
    let proposals = asked::proposals(events).into_iter().map(|asked| {
        let why = if asked.why.is_empty() { String::new() } else { format!(" (why: {})", line(asked.why)) };
        format!("- {} {} `{}`{why}: {}\n", asked.mark(), asked.id, code(asked.what), line(&asked.end()))
    });
    list(card, "What the agent asked for", proposals.collect());
    if let Some(diff) = asked::offer(events) {
        let fence = fence(diff);
        let _ = writeln!(
            card,
            "<details><summary>Allow it in the next run: this change of the manifest</summary>\n\n{fence}diff\n{}\n{fence}\n\n</details>\n",
            diff.trim_end()
        );
    }
    let refused = events.iter().filter_map(|event| match event {
        RunEvent::Refused { door, what } => Some(format!("- {}: {}\n", line(door), line(what))),
        _ => None,
    });
    list(card, "What the doors refused", refused.collect());
    let warnings = events.iter().filter_map(|event| match event {
        RunEvent::Warning { text } => Some(format!("- {}\n", line(text))),
        _ => None,
    });
    list(card, "Warnings", warnings.collect());
}

/// The pull request, the branch, and what was spent, on one line.
fn results(card: &mut String, events: &[RunEvent], outcome: &Outcome) {
    let mut facts = vec![];
    if let Some(RunEvent::PullRequest { number, url, .. }) =
        events.iter().rev().find(|event| matches!(event, RunEvent::PullRequest { .. }))
    {
        facts.push(format!("pull request [#{number}]({url})"));
    }
    if let Some(branch) = &outcome.branch {
        let commit = outcome.commit.as_ref().map(|commit| format!(" at `{}`", commit.short())).unwrap_or_default();
        facts.push(format!("branch `{}`{commit}", code(branch)));
    }
    facts.extend(outcome.turns.map(|turns| format!("{turns} turn{}", if turns == 1 { "" } else { "s" })));
    facts.extend(outcome.cost_usd.map(|cost| format!("{cost:.2} US dollars")));
    if !facts.is_empty() {
        let _ = writeln!(card, "{}\n", facts.join(" · "));
    }
}

/// A box for each phase, ticked when it is over.
fn phases(card: &mut String, events: &[RunEvent], ended: bool) {
    let mut reached = events.iter().filter_map(|event| match event {
        RunEvent::Phase { phase } => Some(*phase),
        _ => None,
    });
    let last = reached.next_back();
    for phase in Phase::ALL {
        let been = events.iter().any(|event| matches!(event, RunEvent::Phase { phase: at } if *at == phase));
        // Most runs have none.
        if phase == Phase::Setup && !been {
            continue;
        }
        let (tick, now) = match (been, last == Some(phase) && !ended) {
            (true, true) => (' ', " …"),
            (true, false) => ('x', ""),
            (false, _) => (' ', ""),
        };
        let _ = writeln!(card, "- [{tick}] {}{now}", phase.name());
    }
    card.push('\n');
}

fn suite(card: &mut String, events: &[RunEvent], suite: Suite, title: &str) {
    let rows = cases(events).filter(|case| case.suite == suite).map(|case| {
        let mark = match &case.failure {
            Some(_) if case.was_superseded(events) => "↻",
            Some(_) => "✗",
            None => "✓",
        };
        let words: String = case.failure.iter().chain(&case.note).map(|words| format!(": {}", line(words))).collect();
        format!("- {mark} `{}` ({:.2} s){words}\n", code(&case.title()), case.duration.as_secs_f64())
    });
    list(card, title, rows.collect());
}

/// What the agent said last, as a quotation: of a review it is all that there is.
fn words(card: &mut String, events: &[RunEvent]) {
    let Some(quote) = last_words(events) else { return };
    let quoted: Vec<String> = quote.lines().map(|line| format!("> {line}\n")).collect();
    let _ = writeln!(card, "#### The agent's own words\n\n{}", quoted.concat());
}

/// The same without the quotation.
pub(super) fn last_words(events: &[RunEvent]) -> Option<String> {
    let last_case = cases(events).filter(|case| case.suite == Suite::Agent && !case.output.trim().is_empty()).last()?;
    let short: String = last_case.output.chars().take(MOST_WORDS).collect();
    Some(neutral_text(&short))
}

/// What failed elsewhere; verify and the pushes have their own lists.
fn failures(card: &mut String, events: &[RunEvent]) {
    let rows = cases(events)
        .filter(|case| !matches!(case.suite, Suite::Setup | Suite::Verify | Suite::Gate))
        .filter_map(|case| {
            let failure = case.failure.as_ref()?;
            Some(format!("- {} `{}`: {}\n", case.suite.name(), code(&case.title()), line(failure)))
        });
    list(card, "What failed", rows.collect());
}

fn cases(events: &[RunEvent]) -> impl Iterator<Item = &Case> {
    events.iter().filter_map(|event| match event {
        RunEvent::Case { case } => Some(case),
        _ => None,
    })
}

fn list(card: &mut String, title: &str, mut rows: Vec<String>) {
    if rows.is_empty() {
        return;
    }
    let more = rows.len().saturating_sub(MOST_REFUSALS);
    rows.truncate(MOST_REFUSALS);
    if more > 0 {
        rows.push(format!("- and {more} more\n"));
    }
    let _ = writeln!(card, "#### {title}\n\n{}", rows.concat());
}

/// Others' words in a line of ours.
fn line(text: &str) -> String {
    let short: String = text.chars().take(500).collect();
    // No markup of theirs either, and with it no comment that could pass for one of our marks.
    let mut escaped = String::with_capacity(short.len());
    for c in neutral(&short).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '[' | ']' | '`' | '*' | '_' | '|' | '\\' | '~' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Others' words as code: nothing in it is acted on, so only what would end it goes.
fn code(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '`' { ' ' } else { c }).take(200).collect()
}

/// A fence that nothing in the text ends.
pub(super) fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

fn cut(card: String) -> String {
    match card.char_indices().nth(MAX_CARD_CHARS) {
        Some((end, _)) => format!("{}\n\n…\n", &card[..end]),
        None => card,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bottle_types::git::ObjectId;
    use bottle_wire::run_record::Outcome;
    use std::time::Duration;

    fn events(hostile: &str) -> Vec<RunEvent> {
        let case = Case {
            failure: Some(hostile.to_owned()),
            note: Some(hostile.to_owned()),
            ..Case::passed(Suite::Verify, hostile, Duration::from_millis(1500))
        };
        let outcome = Outcome {
            code: Code::Task,
            summary: hostile.to_owned(),
            branch: Some("bottle/issue-7".to_owned()),
            commit: ObjectId::parse(&"0123456789abcdef".repeat(4)).ok(),
            session_id: None,
            turns: Some(3),
            cost_usd: Some(0.125),
            pull_request: None,
        };
        let agent = Case {
            output: format!("I am done.\n\n{hostile}"),
            ..Case::passed(Suite::Agent, "implementer", Duration::ZERO)
        };
        vec![
            RunEvent::Case { case: agent },
            RunEvent::Started {
                version: 1,
                slug: "s".to_owned(),
                title: hostile.to_owned(),
                record: "/r".into(),
                asked: Some(format!("asked by {hostile}")),
                job: Some("https://git.example/jobs/1".to_owned()),
                traceparent: None,
            },
            RunEvent::Phase { phase: Phase::Prepare },
            RunEvent::Case { case },
            RunEvent::Refused { door: "egress".to_owned(), what: hostile.to_owned() },
            RunEvent::Warning { text: hostile.to_owned() },
            RunEvent::PullRequest {
                number: 12,
                url: "https://git.example/pulls/12".to_owned(),
                opened: true,
                draft: true,
            },
            RunEvent::Finished { outcome, record: "/r".into() },
        ]
    }

    #[test]
    fn nothing_of_others_is_acted_on() {
        let events = events("@octocat fixes #1\r\n/claude go <!-- x --> [a](http://b) c");
        let (status, pull_request) = (status(&events), pull_request(&events));
        for card in [&status, &pull_request] {
            for wrong in ["@octocat fixes", "\n/claude", "<!--", "fixes #1 "] {
                let outside_code: String = card.split('`').step_by(2).collect();
                assert!(!outside_code.contains(wrong), "{wrong}: {card}");
            }
            for wanted in [
                "asked by",
                "[the job](https://git.example/jobs/1)",
                "pull request [#12](https://git.example/pulls/12)",
                "3 turns",
                "0.12 US dollars",
                "#### The agent's own words\n\n> I am done.",
                "#### Verify",
                "#### What the doors refused",
            ] {
                assert!(card.contains(wanted), "{wanted}: {card}");
            }
        }
        for wanted in ["❌", "- [x] prepare", "- [ ] push"] {
            assert!(status.contains(wanted), "{wanted}: {status}");
            assert!(!pull_request.contains(wanted), "{wanted}: {pull_request}");
        }
    }

    #[test]
    fn a_pull_request_says_first_what_changed_and_last_where_the_record_is() {
        let card = pull_request(&events("x"));
        let parts = [
            "#### The agent's own words\n\n> I am done.",
            "**Failed** (exit code 1)",
            "#### Verify",
            "0.12 US dollars",
            "#### What the doors refused",
            "#### Warnings",
            "run `s` · [the job](",
        ];
        let places: Vec<Option<usize>> = parts.iter().map(|part| card.find(part)).collect();
        assert!(places[0] == Some(0) && places.is_sorted() && places.iter().all(Option::is_some), "{places:?}: {card}");
    }

    #[test]
    fn a_card_fits_what_forges_take() {
        let mut many = events("x");
        many.extend(
            (0..5000)
                .map(|n| RunEvent::Refused { door: "egress".to_owned(), what: format!("{n} {}", "y".repeat(400)) }),
        );
        many.extend((0..5000).map(|n| RunEvent::Warning { text: format!("{n} {}", "z".repeat(4000)) }));
        assert!(status(&many).chars().count() < 65_000);
        assert!(pull_request(&many).chars().count() < 65_000);
    }
}
