//! A run that goes on, on one screen: a fold over its events and over what its doors write.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bottle_plan::approval::ApprovalCode;
use bottle_plan::plan::BottlePlan;
use bottle_policy::budget::{Entry, Spent};
use bottle_wire::access::{Access, AccessVerdict};
use bottle_wire::proposal::Standing;
use serde_json::Value;

use super::page::Page;
use super::summary::{has_passed, is_refusal, word};
use super::{span, thousands};
use crate::report::model::events;
use crate::report::model::visible::beginning;
use crate::report::{ProposalStatus, RunEvent, TimedEvent, told};

/// The last tools, requests and refusals that are shown.
const LAST: usize = 5;
/// Bytes of a text that is kept to be shown on one line.
const LINE_BYTES: usize = 1 << 10;

/// A run as it stands.
#[derive(Debug, Default)]
pub(crate) struct LiveRun {
    slug: String,
    title: String,
    /// Milliseconds of Unix time.
    started: Option<i64>,
    phase: Option<(&'static str, i64)>,
    said: String,
    tools: VecDeque<String>,
    warning: String,
    turns: u64,
    last_message: String,
    spent: Spent,
    limits: [Option<String>; 3],
    requests: VecDeque<(AccessVerdict, String)>,
    refused: VecDeque<String>,
    passed: u64,
    not_passed: u64,
    /// Requests that were counted: both doors have a line of each.
    known: HashSet<String>,
    /// Proposals that wait, each with its words and the command that decides it.
    open: BTreeMap<String, (String, String)>,
}

impl LiveRun {
    /// A run of which nothing was seen yet.
    pub(crate) fn new(slug: &str, plan: Option<&BottlePlan>) -> Self {
        let limits = plan.map(|plan| &plan.limits);
        let limits = [
            limits.and_then(|limits| limits.turns).map(|turns| turns.to_string()),
            limits.and_then(|limits| limits.tokens).map(thousands),
            limits.and_then(|limits| limits.cost_usd).map(|cost| cost.to_string()),
        ];
        Self { slug: slug.to_owned(), limits, ..Self::default() }
    }

    /// Takes a line of events.jsonl, and gives it as a line for people: its mark, the mark's colour, and the words; none where there is
    /// nothing to say.
    pub(crate) fn event(&mut self, line: &[u8]) -> Option<(&'static str, &'static str, String)> {
        let event = events::parse(line)?;
        self.take(&event);
        told(&event.1)
    }

    fn take(&mut self, (at, event): &TimedEvent) {
        match event {
            RunEvent::Started { title, .. } => {
                self.title = kept(title);
                self.started = Some(*at);
            }
            RunEvent::Phase { phase } => self.phase = Some((phase.name(), *at)),
            RunEvent::Said { text } | RunEvent::Progress { text } => self.said = kept(text),
            RunEvent::Tool { name, input } => push(&mut self.tools, format!("{} {}", kept(name), kept(input))),
            RunEvent::Warning { text } => self.warning = kept(text),
            RunEvent::Proposal { id, standing, .. } if *standing != ProposalStatus::Asked => {
                self.open.remove(id);
            }
            _ => {}
        }
    }

    /// Takes a line of transcript.jsonl: a message of the model's is a turn, however many lines it has.
    pub(crate) fn transcript(&mut self, line: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return };
        let id = event["message"]["id"].as_str().unwrap_or_default();
        if event["type"] == "assistant" && id != self.last_message {
            self.turns += 1;
            self.last_message = kept(id);
        }
    }

    /// Takes a line of a door's log of requests.
    pub(crate) fn access(&mut self, line: &[u8]) {
        let Ok(access) = serde_json::from_slice::<Access>(line) else { return };
        if !self.known.insert(access.id.clone()) {
            return;
        }
        let reason = access.reason.as_deref().map(|reason| format!(": {}", kept(reason))).unwrap_or_default();
        let what = format!("{} {}{}{reason}", kept(&access.method), kept(&access.host), kept(&access.path));
        if has_passed(access.verdict) {
            self.passed += 1;
        } else {
            self.not_passed += 1;
        }
        if is_refusal(access.verdict) {
            push(&mut self.refused, format!("{}: {what}", access.door.name()));
        } else {
            push(&mut self.requests, (access.verdict, what));
        }
    }

    /// Takes a line of budget.jsonl.
    pub(crate) fn paid(&mut self, line: &[u8]) {
        if let Ok(entry) = serde_json::from_slice::<Entry>(line) {
            self.spent.add(&entry);
        }
    }

    /// Takes the proposals of the run as they stand; `what` says in words what one asks for.
    pub(crate) fn proposals(&mut self, standing: &[Standing], what: impl Fn(&Standing) -> String) {
        let open = standing.iter().filter(|standing| standing.state.is_open());
        self.open = open
            .map(|standing| {
                let (id, code) = (standing.proposal.id, ApprovalCode::of(&standing.proposal.hash));
                let command = format!("bottle-runner proposals approve {id} {code} \\");
                (id.to_string(), (kept(&what(standing)), command))
            })
            .collect();
    }

    /// Prints the run as it stands at this moment, in milliseconds of Unix time. What a person has to do comes first.
    pub(crate) fn print(&self, page: &mut Page, now: i64) {
        let elapsed = |from: i64| span((now.saturating_sub(from).max(0) / 1000) as f64);
        page.line(&[("36", "▶"), ("", " "), ("1", &self.title)]);
        let since = self.started.map(|at| format!(" · {}", elapsed(at))).unwrap_or_default();
        page.line(&[("2", "  "), ("2", &self.slug), ("2", &since)]);
        page.line(&[]);
        if let Some((phase, at)) = &self.phase {
            page.fact("phase", &format!("{phase}, for {}", elapsed(*at)));
        }
        page.fact("model", &self.spending());
        let counted = match (self.passed, self.not_passed) {
            (0, 0) => String::new(),
            (passed, 0) => format!("{} passed", thousands(passed)),
            (passed, other) => format!("{} passed, {} did not", thousands(passed), thousands(other)),
        };
        page.fact("requests", &counted);
        page.fact("said", &self.said);
        page.fact("warning", &self.warning);
        if !self.open.is_empty() {
            page.heading("Waits for a person");
        }
        for (id, (what, command)) in &self.open {
            page.line(&[("1;33", "? "), ("1", id), ("", " "), ("", what)]);
            // On two lines, as a shell takes it: the run's name is long, and half a command is none.
            page.line(&[("", "    "), ("", command)]);
            page.line(&[("", "      --run "), ("", &self.slug)]);
        }
        list(page, "Refused", self.refused.iter().map(|what| ("35", "⊘", what.as_str())));
        list(page, "Tools", self.tools.iter().map(|what| ("36", "│", what.as_str())));
        let requests = self.requests.iter().map(|(verdict, what)| match has_passed(*verdict) {
            true => ("32", "→", what.as_str()),
            false => ("33", word(*verdict), what.as_str()),
        });
        list(page, "Requests", requests);
    }

    fn spending(&self) -> String {
        let [turns, tokens, cost] = self.limits.each_ref().map(|limit| match limit {
            Some(limit) => format!(" of {limit}"),
            None => String::new(),
        });
        let spent = &self.spent;
        format!(
            "{} turns{turns}, {} tokens{tokens}, {:.2} US dollars{cost}",
            self.turns,
            thousands(spent.tokens),
            spent.cost_usd
        )
    }
}

/// The beginning of a text: a run may go on for hours, and what is not shown is not kept.
fn kept(text: &str) -> String {
    beginning(text, LINE_BYTES).to_owned()
}

fn push<T>(last: &mut VecDeque<T>, new: T) {
    last.push_back(new);
    if last.len() > LAST {
        last.pop_front();
    }
}

fn list<'a>(page: &mut Page, title: &str, rows: impl Iterator<Item = (&'static str, &'a str, &'a str)>) {
    for (at, (colour, mark, what)) in rows.enumerate() {
        if at == 0 {
            page.heading(title);
        }
        page.line(&[(colour, mark), ("", " "), ("", what)]);
    }
}
