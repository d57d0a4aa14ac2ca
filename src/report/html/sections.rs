//! The sections of the page: what a reader without a script has, and the places that the script fills.

use std::cell::Cell;
use std::path::Path;

use bottle_plan::plan::BottlePlan;
use bottle_types::record_file::RecordFile;
use bottle_wire::run_record::Outcome;
use maud::{Markup, html};

use super::sums::{self, COMMAND};
use crate::exit::Code;
use crate::report::model::visible::{beginning, visible};
use crate::report::{Case, RunEvent, Suite, asked};

/// Bytes of others' texts in all sections.
const MAX_BYTES: usize = 2 << 20;
/// Bytes of what is folded, as the output of a test: a browser lays it out when it is opened.
const MAX_FOLDED_BYTES: usize = 64 << 10;
/// Bytes of what is read: words, a change of the manifest.
const MAX_WORDS_BYTES: usize = 8 << 10;
/// Bytes of what stands in a line.
const MAX_LINE_BYTES: usize = 1 << 10;
/// Rows of one list.
const MAX_ROWS: usize = 500;

/// The sections that the script fills: id, heading, what it says without a script.
const DRAWN: [(&str, &str, &str); 4] = [
    ("timeline", "Timeline", "egress.jsonl, gate.jsonl, proposals.jsonl and transcript.jsonl have the times"),
    ("turns", "Turns", "transcript.jsonl has them"),
    ("pushes", "Pushes", "gate.jsonl has them"),
    ("egress", "Requests", "egress.jsonl has them; `bottle-runner logs --egress` prints them as a table"),
];

pub(super) struct Sections<'a> {
    events: &'a [&'a RunEvent],
    dir: &'a Path,
    mask: &'a dyn Fn(&str) -> String,
    /// Bytes of others' texts that there is room for.
    room: Cell<usize>,
}

impl<'a> Sections<'a> {
    pub(super) fn new(events: &'a [&'a RunEvent], dir: &'a Path, mask: &'a dyn Fn(&str) -> String) -> Self {
        Self { events, dir, mask, room: Cell::new(MAX_BYTES) }
    }

    /// A line of others', as long as there is room.
    fn text(&self, text: &str) -> String {
        self.up_to(text, MAX_LINE_BYTES)
    }

    /// The beginning of a text of others', as long as there is room.
    fn up_to(&self, text: &str, most: usize) -> String {
        let most = most.min(self.room.get());
        // Masked already; once more, because a text of an event may be put together of parts.
        let masked = (self.mask)(text);
        let shown = visible(beginning(&masked, most));
        self.room.set(self.room.get().saturating_sub(shown.len()));
        match masked.len().saturating_sub(most) {
            0 => shown.into_owned(),
            lost => format!("{shown}… ({lost} bytes more are in the record's files)"),
        }
    }

    /// The task's title and the run's slug.
    pub(super) fn title(&self) -> (String, String) {
        let started = self.events.iter().find_map(|event| match event {
            RunEvent::Started { slug, title, .. } => Some((self.text(title), self.text(slug))),
            _ => None,
        });
        started.unwrap_or_else(|| ("A run".to_owned(), String::new()))
    }

    fn outcome(&self) -> Option<&'a Outcome> {
        self.events.iter().rev().find_map(|event| match event {
            RunEvent::Finished { outcome, .. } => Some(outcome),
            _ => None,
        })
    }

    pub(super) fn render(&self, left_out: &[String]) -> Markup {
        html! {
            a class="skip" href="#summary" { "Skip to the summary" }
            (self.header())
            nav aria-label="Sections" {
                ul {
                    li { a href="#summary" { "Summary" } }
                    @for (id, title, _) in DRAWN { li { a href={ "#" (id) } { (title) } } }
                    li { a href="#cost" { "Cost" } }
                    li { a href="#checks" { "Checks" } }
                    li { a href="#record" { "Record" } }
                }
            }
            main {
                (self.summary(left_out))
                @for (id, title, without) in DRAWN { (drawn(id, title, without)) }
                (self.cost())
                (self.checks())
                (self.record())
            }
            footer {
                p { "Made by bottle-runner " (env!("CARGO_PKG_VERSION")) ". This page loads nothing and sends nothing. Characters that can't be seen are written as " code { "\\u{…}" } "; " code { "***" } " stands for a secret." }
            }
        }
    }

    fn header(&self) -> Markup {
        let (title, slug) = self.title();
        let origin = self.events.iter().find_map(|event| match event {
            RunEvent::Started { asked, job, .. } => Some((asked.as_deref(), job.as_deref())),
            _ => None,
        });
        let (asked, job) = origin.unwrap_or_default();
        html! {
            header {
                h1 { (title) }
                p class="under" {
                    "run " code { (slug) }
                    @if let Some(asked) = asked { " · " (self.text(asked)) }
                    @if let Some(job) = job { " · " (self.link(job, "the job")) }
                }
                @if let Some(outcome) = self.outcome() {
                    @let (class, word) = if outcome.code == Code::Done { ("good", "done") } else { ("bad", "failed") };
                    p class={ "outcome " (class) } { strong { (word) } " (exit code " (outcome.code) "): " (self.text(&outcome.summary)) }
                }
            }
        }
    }

    /// A page at the forge; anything else but https stays text.
    fn link(&self, url: &str, words: &str) -> Markup {
        let url = self.text(url);
        html! {
            @if url.starts_with("https://") { a href=(url) rel="noreferrer noopener" { (words) } } @else { (url) }
        }
    }

    fn summary(&self, left_out: &[String]) -> Markup {
        let refused = self.rows(|event| match event {
            RunEvent::Refused { door, what } => Some(format!("{door}: {what}")),
            _ => None,
        });
        let warnings = self.rows(|event| match event {
            RunEvent::Warning { text } => Some(text.clone()),
            _ => None,
        });
        let said = self.events.iter().rev().find_map(|event| match event {
            RunEvent::Said { text } => Some(text),
            _ => None,
        });
        html! {
            section id="summary" tabindex="-1" aria-labelledby="summary-title" {
                h2 id="summary-title" { "Summary" }
                (self.facts())
                @if let Some(said) = said { h3 { "What the agent said last" } blockquote { p class="said" { (self.up_to(said, MAX_WORDS_BYTES)) } } }
                (self.list("What the doors refused", &refused))
                (self.proposals())
                (self.list("Warnings", &warnings))
                @if !left_out.is_empty() { h3 { "Not on this page" } ul { @for words in left_out { li { (words) } } } }
                noscript { p class="note" { "The timeline, the turns, the pushes, the requests and the costs are drawn by this page's own script, which does not run here." } }
            }
        }
    }

    /// The facts of the outcome, a term each.
    fn facts(&self) -> Markup {
        let Some(outcome) = self.outcome() else { return html! { p class="note" { "The run has no end." } } };
        let pull_request = self.events.iter().rev().find_map(|event| match event {
            RunEvent::PullRequest { number, url, .. } => Some((number, url)),
            _ => None,
        });
        let commit = outcome.commit.as_ref().map(ToString::to_string);
        let turns = outcome.turns.map(|turns| turns.to_string());
        let cost = outcome.cost_usd.map(|cost| format!("{cost:.2} US dollars"));
        let facts = [
            ("Branch", &outcome.branch),
            ("Commit", &commit),
            ("Session", &outcome.session_id),
            ("Turns", &turns),
            ("Cost", &cost),
        ];
        html! {
            dl class="facts" {
                @if let Some((number, url)) = pull_request { div { dt { "Pull request" } dd { (self.link(url, &format!("#{number}"))) } } }
                @for (term, value) in facts { @if let Some(value) = value { div { dt { (term) } dd { (self.text(value)) } } } }
            }
        }
    }

    fn rows(&self, row: impl Fn(&RunEvent) -> Option<String>) -> Vec<String> {
        self.events.iter().filter_map(|event| row(event)).collect()
    }

    fn list(&self, title: &str, rows: &[String]) -> Markup {
        html! {
            @if !rows.is_empty() {
                h3 { (title) }
                ul { @for row in rows.iter().take(MAX_ROWS) { li { (self.text(row)) } } }
                @if rows.len() > MAX_ROWS { p class="note" { (rows.len() - MAX_ROWS) " more are in the record's files." } }
            }
        }
    }

    fn proposals(&self) -> Markup {
        let events: Vec<RunEvent> = self
            .events
            .iter()
            .filter(|event| matches!(event, RunEvent::Proposal { .. } | RunEvent::Offer { .. }))
            .map(|event| (*event).clone())
            .collect();
        let rows = asked::proposals(&events);
        html! {
            @if !rows.is_empty() {
                h3 id="proposals" tabindex="-1" { "What the agent asked for" }
                div class="wide" role="region" tabindex="0" aria-labelledby="proposals" {
                    table {
                        thead { tr { th scope="col" { "Id" } th scope="col" { "What" } th scope="col" { "Why" } th scope="col" { "Decision" } } }
                        tbody {
                            @for row in rows.iter().take(MAX_ROWS) {
                                tr {
                                    th scope="row" { (self.text(row.id)) }
                                    td { code { (self.text(row.what)) } }
                                    td { (self.text(row.why)) }
                                    td { (row.mark()) " " (self.text(&row.end())) }
                                }
                            }
                        }
                    }
                }
            }
            @if let Some(diff) = asked::offer(&events) {
                h3 { "Allow it in the next run" }
                pre tabindex="0" role="region" aria-label="A change of the manifest" { (self.up_to(diff, MAX_WORDS_BYTES)) }
            }
        }
    }

    /// The place of the charts, and what the run had at its disposal.
    fn cost(&self) -> Markup {
        let plan = std::fs::read(self.dir.join(RecordFile::Plan)).ok();
        // Without a plan there are no limits to show; verify-record says that it is missing.
        let plan: Option<BottlePlan> = plan.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        html! {
            section id="cost" tabindex="-1" aria-labelledby="cost-title" {
                h2 id="cost-title" { "Cost and resources" }
                div class="drawn" { noscript { p class="note" { "budget.jsonl has each call to the model." } } }
                @if let Some(plan) = plan {
                    h3 { "What the run had" }
                    dl class="facts" { @for (term, value) in had(&plan) { div { dt { (term) } dd { (value) } } } }
                }
            }
        }
    }

    fn checks(&self) -> Markup {
        html! {
            section id="checks" tabindex="-1" aria-labelledby="checks-title" {
                h2 id="checks-title" { "Checks" }
                @for suite in [Suite::Verify, Suite::Seal, Suite::Gate, Suite::Setup, Suite::Agent, Suite::Supervise, Suite::Bottle] { (self.suite(suite)) }
                @let reports: Vec<_> = self.events.iter().filter_map(|event| event.test_report()).collect();
                @if !reports.is_empty() {
                    h3 { "The project's own tests" }
                    ul class="cases" {
                        @for report in reports {
                            li {
                                (report.mark()) " " code { (self.text(&report.path)) } " " (report.counts())
                                @for name in report.failures() { pre tabindex="0" { (self.text(&name)) } }
                            }
                        }
                    }
                }
            }
        }
    }

    fn suite(&self, suite: Suite) -> Markup {
        let cases: Vec<&Case> = self
            .events
            .iter()
            .filter_map(|event| match event {
                RunEvent::Case { case } if case.suite == suite => Some(case),
                _ => None,
            })
            .collect();
        let again = |case: &Case| {
            cases
                .iter()
                .any(|other| case.suite == Suite::Verify && case.failure.is_some() && other.attempt > case.attempt)
        };
        let failed = cases.iter().filter(|case| case.failure.is_some() && !again(case)).count();
        let passed = cases.iter().filter(|case| case.failure.is_none()).count();
        html! {
            @if !cases.is_empty() {
                // What is fine is folded; what a reader came for is not.
                details class="suite" open[failed > 0 || suite == Suite::Verify] {
                    summary {
                        h3 { (suite.name()) }
                        span class=(if failed > 0 { "bad" } else { "good" }) {
                            @if failed > 0 { "✗ " (failed) " failed, " (passed) " passed" } @else { "✓ " (passed) " passed" }
                        }
                    }
                    ul class="cases" { @for case in cases.iter().take(MAX_ROWS) { (self.case(case, again(case))) } }
                    @if cases.len() > MAX_ROWS { p class="note" { (cases.len() - MAX_ROWS) " more are in junit.xml." } }
                }
            }
        }
    }

    /// The name of a case; why it failed stands below it, what it printed is folded.
    fn case(&self, case: &Case, again: bool) -> Markup {
        let (class, mark, word) = match &case.failure {
            Some(_) if again => ("", "↻", "failed, then tried again"),
            Some(_) => ("bad", "✗", "failed"),
            None => ("good", "✓", "passed"),
        };
        html! {
            li {
                span class=(class) role="img" aria-label=(word) { (mark) }
                " " code { (self.text(&case.title())) } " "
                span class="quiet" { (format!("{:.2} s", case.duration.as_secs_f64())) }
                @for words in case.failure.iter().chain(&case.note) { pre tabindex="0" { (self.up_to(words, MAX_WORDS_BYTES)) } }
                @if !case.output.is_empty() {
                    details { summary { "output" } pre tabindex="0" { (self.up_to(&case.output, MAX_FOLDED_BYTES)) } }
                }
            }
        }
    }

    /// The record's hash, its files, and how they are checked.
    fn record(&self) -> Markup {
        html! {
            section id="record" tabindex="-1" aria-labelledby="record-title" {
                h2 id="record-title" { "Record" }
                @match sums::sums(self.dir) {
                    Ok((files, hash)) => {
                        p { "The SHA-256 of all files of this record but this page:" }
                        p { code class="hash" { (hash) } }
                        p { "In the record's directory, this prints the same:" }
                        pre tabindex="0" { (COMMAND) }
                        p { "This checks that the record is complete, that its files tell one story, and that its chain of hashes is unbroken:" }
                        pre tabindex="0" { "bottle-runner verify-record DIR" }
                        p class="note" { "Whoever can change the record can change this page with it. Compare the hash with one that was kept elsewhere." }
                        details {
                            summary { (files.len()) " files" }
                            div class="wide" role="region" tabindex="0" aria-label="Files of the record" {
                                table {
                                    thead { tr { th scope="col" { "File" } th scope="col" class="number" { "Bytes" } th scope="col" { "SHA-256" } } }
                                    tbody {
                                        @for file in files.iter().take(MAX_ROWS) {
                                            tr { th scope="row" { (self.text(&file.path)) } td class="number" { (file.bytes) } td { code { (file.sha256) } } }
                                        }
                                    }
                                }
                            }
                        }
                    }
                    Err(error) => p class="bad" { "The record's files could not be hashed: " (self.text(&error.to_string())) }
                }
            }
        }
    }
}

/// A section that the script fills.
fn drawn(id: &str, title: &str, without: &str) -> Markup {
    let heading = format!("{id}-title");
    html! {
        section id=(id) tabindex="-1" aria-labelledby=(heading) {
            h2 id=(heading) { (title) }
            div class="drawn" { noscript { p class="note" { "Without a script: " (without) "." } } }
        }
    }
}

/// What the plan gives a run: the machine and the limits.
fn had(plan: &BottlePlan) -> Vec<(&'static str, String)> {
    let (resources, limits) = (&plan.guest.resources, &plan.limits);
    let mut rows = vec![
        ("Backend", plan.backend.name().to_owned()),
        ("Processors", resources.cpus.to_string()),
        ("Memory", resources.memory.to_string()),
        ("Processes", resources.pids.to_string()),
    ];
    rows.extend(limits.turns.map(|turns| ("At most, turns", turns.to_string())));
    rows.extend(limits.time.map(|time| ("At most, time", time.to_string())));
    rows.extend(limits.tokens.map(|tokens| ("At most, tokens", tokens.to_string())));
    rows.extend(limits.cost_usd.map(|cost| ("At most, cost", format!("{cost} US dollars"))));
    rows
}
