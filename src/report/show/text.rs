//! A run's one screen.

use bottle_types::door::Door;

use super::page::Page;
use super::summary::{CheckRow, RefusedRow, RequestRow, RunState, RunSummary, has_passed, is_refusal};
use super::{count, span, thousands};
use crate::report::ProposalStatus;

/// Rows of a list on the one screen.
const MAX_ROWS: usize = 8;

impl RunSummary {
    /// Prints the run on one screen.
    pub(crate) fn print(&self, page: &mut Page) {
        self.head(page);
        self.facts(page);
        self.refused_rows(page);
        self.proposal_rows(page);
        self.check_rows(page);
        rows(page, "Warnings", &self.warnings, |text| vec![("33", "!"), ("", " "), ("", text)]);
        rows(page, "Left out", &self.left_out, |text| vec![("", text.as_str())]);
        page.line(&[]);
        page.line(&[("2", "more: --timeline, --diff, --egress, --cost, --refused; report.html in the record")]);
    }

    fn head(&self, page: &mut Page) {
        let (mark, colour) = self.mark();
        page.line(&[(colour, mark), ("", " "), ("1", &self.title)]);
        let mut under = vec![self.slug.clone()];
        under.extend(self.asked.clone());
        under.extend(self.started.clone());
        under.extend(self.agent.clone());
        under.extend(self.backend.map(str::to_owned));
        under.extend(self.dry_run.then(|| "dry run".to_owned()));
        page.line(&[("2", "  "), ("2", &under.join(" · "))]);
        page.line(&[]);
    }

    pub(super) fn mark(&self) -> (&'static str, &'static str) {
        match (&self.outcome, self.state) {
            (Some(outcome), _) if outcome.code == 0 => ("✓", "32"),
            (None, RunState::Running) => ("▶", "36"),
            _ => ("✗", "31"),
        }
    }

    /// What came of it, in words.
    pub(super) fn end(&self) -> String {
        match (&self.outcome, self.state) {
            (Some(outcome), _) => format!("{} (exit code {})", outcome.summary, outcome.code),
            (None, RunState::Running) => "it goes on".to_owned(),
            (None, _) => "it has no end: its process is gone".to_owned(),
        }
    }

    fn facts(&self, page: &mut Page) {
        page.fact("outcome", &self.end());
        if let Some(outcome) = &self.outcome {
            if let Some(branch) = &outcome.branch {
                let commit = outcome.commit.as_deref().map(|id| format!(" at {}", &id[..id.len().min(12)]));
                page.fact("branch", &format!("{branch}{}", commit.unwrap_or_default()));
            }
            if let Some(pull) = &outcome.pull_request {
                page.fact("pull", &format!("#{} {}", pull.number, pull.url));
            }
        }
        let phases = self.phases.iter().filter(|phase| phase.seconds >= 0.05);
        let phases: Vec<String> = phases.map(|phase| format!("{} {}", phase.name, span(phase.seconds))).collect();
        page.fact("took", &join_behind(&span(self.seconds), &phases));
        page.fact("model", &self.spending());
        let tool = |row: &super::summary::ToolRow| {
            let failed = if row.failed > 0 { format!(" ({} failed)", row.failed) } else { String::new() };
            format!("{} {}{failed}", row.name, row.calls)
        };
        let tools: Vec<String> = self.tools.iter().map(tool).collect();
        page.fact("tools", &tools.join(", "));
        page.fact("requests", &requests(&self.requests));
        let (added, removed) =
            self.files.iter().fold((0, 0), |(added, removed), file| (added + file.added, removed + file.removed));
        if !self.files.is_empty() {
            page.fact("edits", &format!("{}: +{added} −{removed}", count(self.files.len(), "file", "files")));
        }
        page.fact("said", self.said.as_deref().unwrap_or_default());
    }

    /// Turns, tokens and dollars, against what the run has.
    pub(super) fn spending(&self) -> String {
        let spent = &self.spent;
        let of = |limit: Option<String>| limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
        let mut text = format!("{} turns{}", self.turns, of(self.limits.turns.map(|turns| turns.to_string())));
        text.push_str(&format!(", {} tokens", thousands(spent.tokens)));
        text.push_str(&of(self.limits.tokens.map(thousands)));
        text.push_str(&format!(", {:.2} US dollars", spent.cost_usd));
        text.push_str(&of(self.limits.cost_usd.map(|cost| format!("{cost}"))));
        if spent.replayed > 0 && spent.replayed == spent.calls {
            text.push_str(" by the list; replayed, so nothing was paid");
        } else if spent.replayed > 0 {
            text.push_str(&format!(", {} of {} calls replayed, so not paid", spent.replayed, spent.calls));
        }
        if spent.unpriced > 0 {
            text.push_str(&format!(", {} calls without a price", spent.unpriced));
        }
        text
    }

    fn refused_rows(&self, page: &mut Page) {
        let title = format!("Refused ({})", self.refused.len());
        rows(page, &title, &self.refused, |row| {
            vec![("35", "⊘ "), ("", row.door.as_str()), ("", ": "), ("", row.what.as_str())]
        });
        let pushes = || self.pushes.iter().filter(|push| !push.verdict.has_passed());
        if let Some(last) = pushes().next_back() {
            page.line(&[("2", "  "), ("2", &last.end())]);
        }
        if pushes().any(|push| !push.findings.is_empty()) {
            let found = "replace a key that is real: the agent has seen it; its origin: --timeline";
            page.line(&[("2", "  "), ("2", found)]);
        }
        // What a scan found is never offered.
        let is_request = |row: &RefusedRow| row.door != Door::GitGate.name();
        if self.refused.iter().any(is_request) || pushes().any(|push| push.findings.is_empty()) {
            let offer = format!("what a rule would let pass: bottle-runner suggest {}", self.slug);
            page.line(&[("2", "  "), ("2", &offer)]);
        }
    }

    fn proposal_rows(&self, page: &mut Page) {
        let ends: Vec<(&super::summary::ProposalRow, String)> =
            self.proposals.iter().map(|row| (row, row.end())).collect();
        rows(page, &format!("Asked for ({})", ends.len()), &ends, |(row, end)| {
            vec![("1", row.id.as_str()), ("", " "), (colour(row.status), end), ("", ": "), ("", row.what.as_str())]
        });
    }

    fn check_rows(&self, page: &mut Page) {
        if self.checks.is_empty() {
            return;
        }
        page.heading("Checks");
        let sums: Vec<String> = self.checks.iter().map(sum).collect();
        page.line(&[("", "  "), ("", &sums.join(", "))]);
        for suite in &self.checks {
            for case in suite.failed.iter().take(MAX_ROWS) {
                let first = case.failure.lines().find(|line| !line.trim().is_empty()).unwrap_or("failed");
                let name = format!("{} {}", suite.suite.name(), case.name);
                page.line(&[("", "  "), ("31", "✗ "), ("", &name), ("", ": "), ("", first)]);
            }
        }
    }
}

impl super::summary::ProposalRow {
    /// `denied by octocat`.
    pub(super) fn end(&self) -> String {
        let by = self.by.as_ref().map(|by| format!(" by {}", by.trim_start_matches('@'))).unwrap_or_default();
        format!("{}{by}", self.status.name())
    }
}

pub(super) fn colour(status: ProposalStatus) -> &'static str {
    match status {
        ProposalStatus::Asked => "1;33",
        ProposalStatus::Approved | ProposalStatus::Modified | ProposalStatus::Answered => "32",
        ProposalStatus::Denied | ProposalStatus::TimedOut | ProposalStatus::Failed => "31",
        ProposalStatus::Ended => "2",
    }
}

fn sum(row: &CheckRow) -> String {
    let failed = if row.failed.is_empty() { String::new() } else { format!(", {} failed", row.failed.len()) };
    format!("{} {} passed{failed}", row.suite.name(), row.passed)
}

fn join_behind(first: &str, rest: &[String]) -> String {
    if rest.is_empty() { first.to_owned() } else { format!("{first}: {}", rest.join(", ")) }
}

/// How many requests passed, were refused and failed.
fn requests(rows: &[RequestRow]) -> String {
    let sum =
        |holds: &dyn Fn(&RequestRow) -> bool| rows.iter().filter(|row| holds(row)).map(|row| row.count).sum::<u64>();
    let passed = sum(&|row| has_passed(row.verdict));
    let refused = sum(&|row| is_refusal(row.verdict));
    let failed = sum(&|row| !has_passed(row.verdict) && !is_refusal(row.verdict));
    let parts = [(passed, "passed"), (refused, "refused"), (failed, "failed")];
    let parts =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{} {word}", thousands(*count)));
    parts.collect::<Vec<_>>().join(", ")
}

/// A list under its heading, as far as one screen has room for it; nothing where it is empty.
fn rows<'a, T>(page: &mut Page, title: &str, all: &'a [T], parts: impl Fn(&'a T) -> Vec<(&'static str, &'a str)>) {
    if all.is_empty() {
        return;
    }
    page.heading(title);
    for row in all.iter().take(MAX_ROWS) {
        let line: Vec<_> = [("", "  ")].into_iter().chain(parts(row)).collect();
        page.line(&line);
    }
    if all.len() > MAX_ROWS {
        page.line(&[("2", &format!("  and {} more", all.len() - MAX_ROWS))]);
    }
}
