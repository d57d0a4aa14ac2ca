//! A proposal in words: what is asked, what would change, what became of it. Nothing here is Markdown.

use bottle_plan::prose::invisible;
use bottle_policy::supervise::{HeldPush, Request};
use bottle_wire::proposal::{By, Change, Proposal, State, Verdict};
use similar::TextDiff;

use crate::report::ProposalStatus;

/// The request in one line.
pub(crate) fn what(request: &Request) -> String {
    let time = request.duration().map(|time| format!(" for {time}")).unwrap_or_default();
    let text = match request {
        Request::RequestRoute { host, port, scheme, methods, paths, .. } => {
            let scheme = if scheme.is_https() { "https" } else { "http" };
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("{} {scheme}://{host}{port} {}{time}", methods.join(", "), paths.join(", "))
        }
        Request::RequestExemption { host, rule, .. } => format!("no search for {rule} in what goes to {host}{time}"),
        Request::FindingExemption { rule, path, sha256, .. } => {
            format!("that what {rule} found in {path} is no secret{time}: the bytes with the SHA-256 {sha256}")
        }
        Request::RequestCapability { dockerfile, .. } => {
            let lines = dockerfile.lines().count();
            let s = if lines == 1 { "" } else { "s" };
            format!(
                "{lines} line{s} more in the image's Dockerfile, run by root outside of the bottle when a run resumes this one"
            )
        }
        Request::RequestPush { upstream, r#ref, .. } => {
            let to = upstream.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
            format!("pushes to {}{to}{time}", r#ref)
        }
        Request::RequestBudget { tokens, requests, time, cost_usd, .. } => {
            let parts = [
                tokens.map(|tokens| format!("{tokens} tokens")),
                requests.map(|requests| format!("{requests} requests")),
                time.map(|time| time.to_string()),
                cost_usd.map(|cost| format!("{cost} US dollars")),
            ];
            format!("more to spend: {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
        Request::HeldRequest(held) => format!("{} {}, in which was found: {}", held.method, held.url(), held.found()),
        Request::HeldPush(held) => {
            format!("a push to {} of {}, which is held: {}", held.upstream, held.moves(), held.why.join("; "))
        }
        Request::Ask { question } => format!("a question: {question}"),
        Request::Progress { line } => line.clone(),
    };
    one_line(&text)
}

/// The change as a diff of the policy file; of a capability the lines that would be added; nothing of a question.
pub(crate) fn diff(proposal: &Proposal) -> Option<String> {
    match (&proposal.change, &proposal.request) {
        (Some(change), Request::HeldPush(held)) => Some(format!("{}{}", brought(held), changed(change))),
        (Some(change), _) => Some(changed(change)),
        (None, Request::RequestCapability { dockerfile, .. }) => {
            let lines: String = dockerfile.lines().map(|line| format!("+{line}\n")).collect();
            Some(visible(&format!("--- Dockerfile\n+++ Dockerfile\n{lines}")))
        }
        (None, _) => None,
    }
}

/// What a held push brings: its paths, and where something was found.
fn brought(held: &HeldPush) -> String {
    let line = |line: &String| format!(" {}\n", one_line(line));
    let files: String = held.files.iter().map(line).collect();
    let findings: String = held.findings.iter().map(line).collect();
    let found = if findings.is_empty() { String::new() } else { format!("found:\n{findings}") };
    format!("changes:\n{files}{found}")
}

fn changed(change: &Change) -> String {
    let name = change.file.name();
    file_diff(name, &change.before, &change.after)
}

/// A file's change as `diff -u` shows it, with every character visible.
pub(super) fn file_diff(name: &str, before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    visible(&diff.unified_diff().context_radius(3).header(&format!("a/{name}"), &format!("b/{name}")).to_string())
}

/// A text in which every character shows: those without a width are written out, none is left away.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if c.is_control() || invisible(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

pub(crate) fn one_line(text: &str) -> String {
    visible(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The outcome of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProposalOutcome {
    pub(crate) standing: ProposalStatus,
    /// Who decided; none where nobody has.
    pub(crate) by: Option<String>,
    /// The reason, the answer, what was granted instead, or until when.
    pub(crate) detail: String,
}

/// A state as an outcome; none while a yes is being applied.
pub(crate) fn outcome(state: &State) -> Option<ProposalOutcome> {
    let made = |standing, by: Option<&By>, detail: String| {
        Some(ProposalOutcome { standing, by: by.map(|by| one_line(&by.to_string())), detail: one_line(&detail) })
    };
    match state {
        State::Open => made(ProposalStatus::Asked, None, String::new()),
        State::Applying { .. } => None,
        State::InForce { verdict, by, until, .. } => {
            let until = until.as_ref().map(|until| format!("until {until}"));
            let (standing, instead) = granted(verdict);
            made(standing, Some(by), [instead, until].into_iter().flatten().collect::<Vec<_>>().join("; "))
        }
        State::Granted { verdict, by } => {
            let (standing, instead) = granted(verdict);
            made(standing, Some(by), instead.unwrap_or_default())
        }
        State::Denied { why, by: By::Timeout } => made(ProposalStatus::TimedOut, None, why.clone()),
        State::Denied { why, by } => made(ProposalStatus::Denied, Some(by), why.clone()),
        State::Failed { reason } => made(ProposalStatus::Failed, None, reason.clone()),
        State::Ended { .. } => made(ProposalStatus::Ended, None, "its time is up".to_owned()),
    }
}

fn granted(verdict: &Verdict) -> (ProposalStatus, Option<String>) {
    match verdict {
        Verdict::Modified { request } => (ProposalStatus::Modified, Some(format!("instead: {}", what(request)))),
        Verdict::Answer { text } => (ProposalStatus::Answered, Some(text.clone())),
        Verdict::Approve | Verdict::Deny { .. } => (ProposalStatus::Approved, None),
    }
}
