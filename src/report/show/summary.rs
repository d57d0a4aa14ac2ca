//! A run in numbers: what was asked, what came of it, and what it took.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use bottle_types::door::Door;
use bottle_wire::access::AccessVerdict;
use bottle_wire::push_report::PushVerdict;
use serde::Serialize;

use super::RunView;
use crate::report::model::data::{Call, Push, Request};
use crate::report::model::transcript::Block;
use crate::report::model::visible::visible;
use crate::report::model::{events, rfc3339};
use crate::report::{Case, ProposalStatus, RunEvent, Suite, asked, outcome};
use crate::state::RowError;

/// A run, as `show --json` prints it. In no text is a character that can't be seen: it is spelled as `\u{202e}`.
#[derive(Debug, Serialize)]
pub(crate) struct RunSummary {
    pub(in crate::report) slug: String,
    pub(in crate::report) title: String,
    pub(in crate::report) state: RunState,
    /// Who asked, and where.
    pub(super) asked: Option<String>,
    /// The job's page at the forge.
    pub(super) job: Option<String>,
    pub(super) record: PathBuf,
    pub(in crate::report) agent: Option<String>,
    pub(super) backend: Option<&'static str>,
    pub(super) dry_run: bool,
    /// RFC 3339, UTC.
    pub(in crate::report) started: Option<String>,
    pub(in crate::report) seconds: f64,
    pub(in crate::report) outcome: Option<OutcomeRow>,
    /// Turns as Claude Code counts them; of a run without an end, those of the transcript.
    pub(super) turns: u64,
    pub(in crate::report) spent: Spending,
    pub(super) limits: LimitRows,
    pub(in crate::report) phases: Vec<PhaseRow>,
    pub(super) tools: Vec<ToolRow>,
    pub(super) requests: Vec<RequestRow>,
    pub(super) refused: Vec<RefusedRow>,
    pub(super) pushes: Vec<PushRow>,
    pub(super) proposals: Vec<ProposalRow>,
    /// The manifest's change by which the next run need not ask, as a diff.
    pub(super) offer: Option<String>,
    pub(super) checks: Vec<CheckRow>,
    pub(super) files: Vec<FileRow>,
    /// What the agent said last.
    pub(super) said: Option<String>,
    pub(super) warnings: Vec<String>,
    /// What is not shown, a sentence each.
    pub(super) left_out: Vec<String>,
}

/// Whether a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::report) enum RunState {
    Running,
    Ended,
    /// Its process is gone, and it has no end.
    Dead,
}

#[derive(Debug, Serialize)]
pub(in crate::report) struct OutcomeRow {
    /// The exit code.
    pub(in crate::report) code: u8,
    pub(in crate::report) summary: String,
    pub(in crate::report) branch: Option<String>,
    pub(in crate::report) commit: Option<String>,
    pub(in crate::report) pull_request: Option<PullRequestRow>,
}

#[derive(Debug, Serialize)]
pub(in crate::report) struct PullRequestRow {
    pub(in crate::report) number: u64,
    pub(in crate::report) url: String,
}

/// What the model was paid for, as the doors counted it.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Spending {
    pub(in crate::report) calls: u64,
    /// Calls whose tokens are estimated, as their reply broke off.
    pub(in crate::report) estimated: u64,
    pub(in crate::report) input: u64,
    pub(in crate::report) cache_write: u64,
    pub(in crate::report) cache_read: u64,
    pub(in crate::report) output: u64,
    /// All tokens.
    pub(in crate::report) tokens: u64,
    /// Calls that a cassette has answered: nothing was paid for them.
    pub(in crate::report) replayed: u64,
    /// US dollars of the calls whose model has a price, those that were replayed too.
    pub(in crate::report) cost_usd: f64,
    /// The same without the calls that were replayed.
    pub(in crate::report) paid_usd: f64,
    /// Calls to models that have none.
    pub(in crate::report) unpriced: u64,
}

impl Spending {
    pub(in crate::report) fn add(&mut self, call: &Call) {
        let sum = |one: &mut u64, more: u64| *one = one.saturating_add(more);
        sum(&mut self.calls, 1);
        sum(&mut self.estimated, u64::from(call.estimated));
        sum(&mut self.replayed, u64::from(call.replayed));
        sum(&mut self.input, call.input);
        sum(&mut self.cache_write, call.cache_write);
        sum(&mut self.cache_read, call.cache_read);
        sum(&mut self.output, call.output);
        self.tokens =
            [self.input, self.cache_write, self.cache_read, self.output].into_iter().fold(0, u64::saturating_add);
        let cost = call.cost.unwrap_or_default();
        self.cost_usd += cost;
        self.paid_usd += if call.replayed { 0.0 } else { cost };
        sum(&mut self.unpriced, u64::from(call.cost.is_none()));
    }
}

/// What the plan lets a run spend.
#[derive(Debug, Default, Serialize)]
pub(super) struct LimitRows {
    pub(super) turns: Option<u64>,
    pub(super) seconds: Option<u64>,
    pub(super) tokens: Option<u64>,
    pub(super) cost_usd: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct PhaseRow {
    pub(in crate::report) name: &'static str,
    pub(in crate::report) seconds: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ToolRow {
    pub(super) name: String,
    pub(super) calls: u64,
    pub(super) failed: u64,
}

/// Requests that are alike.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RequestRow {
    pub(super) host: String,
    /// The route that allowed them, counted from 0.
    pub(super) route: Option<usize>,
    pub(super) verdict: AccessVerdict,
    pub(super) count: u64,
    pub(super) bytes_out: u64,
    pub(super) bytes_in: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(super) struct RefusedRow {
    pub(super) door: String,
    pub(super) what: String,
}

#[derive(Debug, Serialize)]
pub(super) struct PushRow {
    pub(super) repo: String,
    pub(super) r#ref: String,
    pub(super) verdict: PushVerdict,
    pub(super) old: String,
    pub(super) new: String,
    pub(super) commits: u64,
    pub(super) why: Vec<String>,
    pub(super) findings: Vec<PushFindingRow>,
    /// The commit of a later push of the same ref that passed, after one that did not.
    pub(super) passed_later: Option<String>,
}

impl PushRow {
    /// What became of a push that did not pass.
    pub(super) fn end(&self) -> String {
        match &self.passed_later {
            Some(commit) => {
                format!("nothing of it reached upstream; a later push of the ref passed ({})", short(commit))
            }
            None => "nothing of it reached upstream".to_owned(),
        }
    }
}

/// What the gate found in a push.
#[derive(Debug, Serialize)]
pub(super) struct PushFindingRow {
    pub(super) rule: String,
    pub(super) path: String,
    pub(super) line: Option<u64>,
    pub(super) commit: String,
    /// Of the bytes, in hex, where an exemption may name them.
    pub(super) sha256: String,
}

/// The beginning of a commit's id.
pub(super) fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

#[derive(Debug, Serialize)]
pub(super) struct ProposalRow {
    pub(super) id: String,
    pub(super) what: String,
    pub(super) why: String,
    pub(super) status: ProposalStatus,
    pub(super) by: Option<String>,
    pub(super) detail: String,
}

#[derive(Debug, Serialize)]
pub(super) struct CheckRow {
    pub(super) suite: Suite,
    pub(super) passed: usize,
    pub(super) failed: Vec<FailureRow>,
}

#[derive(Debug, Serialize)]
pub(super) struct FailureRow {
    pub(super) name: String,
    pub(super) failure: String,
}

/// What `Edit` and `Write` changed in a file, as the transcript has it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FileRow {
    pub(super) path: String,
    pub(super) added: usize,
    pub(super) removed: usize,
}

impl RunView {
    /// The run in numbers.
    pub(crate) fn summary(&self) -> RunSummary {
        let events: Vec<RunEvent> = self.events.iter().map(|(_, event)| event.clone()).collect();
        let started = events.iter().find_map(|event| match event {
            RunEvent::Started { slug, title, asked, job, .. } => Some((slug, title, asked.as_deref(), job.as_deref())),
            _ => None,
        });
        let text = |text: &str| visible(text).into_owned();
        let plan = self.plan.as_ref();
        RunSummary {
            slug: started.map(|(slug, ..)| text(slug)).unwrap_or_default(),
            title: started.map(|(_, title, ..)| text(title)).unwrap_or_default(),
            state: self.state(&events),
            asked: started.and_then(|(_, _, asked, _)| asked).map(text),
            job: started.and_then(|(.., job)| job).map(text),
            record: self.dir.clone(),
            agent: plan.map(|plan| plan.agent.name.to_string()),
            backend: plan.map(|plan| plan.backend.name()),
            dry_run: plan.is_some_and(|plan| plan.dry_run),
            started: self.events.first().and_then(|(at, _)| rfc3339(*at)),
            seconds: self.seconds(),
            outcome: outcome_row(&events),
            turns: outcome(&events).and_then(|outcome| outcome.turns).unwrap_or_else(|| self.model_turns()),
            spent: self.spent(),
            limits: self.limits(),
            phases: self.phases(),
            tools: self.tools(),
            requests: self.request_rows(),
            refused: self.refused(&events),
            pushes: push_rows(&self.data.pushes),
            proposals: proposal_rows(&events),
            offer: asked::offer(&events).map(text),
            checks: check_rows(&events),
            files: self.files(),
            said: said(&events),
            warnings: rows(&events, |event| match event {
                RunEvent::Warning { text } => Some(visible(text).into_owned()),
                _ => None,
            }),
            left_out: self.data.left_out.clone(),
        }
    }

    fn state(&self, events: &[RunEvent]) -> RunState {
        match outcome(events) {
            Some(_) => RunState::Ended,
            None if self.is_live => RunState::Running,
            None => RunState::Dead,
        }
    }

    /// From the first event to the end, or to the last event of a run without one.
    fn seconds(&self) -> f64 {
        let is_end = |event: &RunEvent| matches!(event, RunEvent::Finished { .. });
        let last = self.events.iter().rev().find(|(_, event)| is_end(event)).or(self.events.last());
        let end = last.map_or(self.data.from, |(at, _)| *at);
        end.saturating_sub(self.data.from) as f64 / 1000.0
    }

    fn model_turns(&self) -> u64 {
        self.data.turns.iter().filter(|turn| turn.is_the_models()).count() as u64
    }

    pub(super) fn spent(&self) -> Spending {
        let mut spent = Spending::default();
        self.data.calls.iter().for_each(|call| spent.add(call));
        spent
    }

    fn limits(&self) -> LimitRows {
        let Some(plan) = &self.plan else { return LimitRows::default() };
        let seconds = plan.limits.time.map(|time| std::time::Duration::from(time).as_secs());
        LimitRows {
            turns: plan.limits.turns.map(u64::from),
            seconds,
            tokens: plan.limits.tokens,
            cost_usd: plan.limits.cost_usd,
        }
    }

    /// Each phase once, in the order in which they began.
    fn phases(&self) -> Vec<PhaseRow> {
        let mut rows: Vec<PhaseRow> = vec![];
        for phase in &self.data.phases {
            let seconds = phase.to.saturating_sub(phase.from) as f64 / 1000.0;
            match rows.iter_mut().find(|row| row.name == phase.name) {
                Some(row) => row.seconds += seconds,
                None => rows.push(PhaseRow { name: phase.name, seconds }),
            }
        }
        rows
    }

    /// The most used first.
    fn tools(&self) -> Vec<ToolRow> {
        let mut tools: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for block in self.data.turns.iter().flat_map(|turn| &turn.blocks) {
            if let Block::Tool(tool) = block {
                let row = tools.entry(&tool.name).or_default();
                (row.0, row.1) = (row.0 + 1, row.1 + u64::from(tool.failed));
            }
        }
        let row = |(name, (calls, failed)): (&str, _)| ToolRow { name: name.to_owned(), calls, failed };
        let mut rows: Vec<ToolRow> = tools.into_iter().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.calls));
        rows
    }

    /// Each request once: egress and pipelock both have a line of it, and one that did not pass at either did not pass.
    pub(in crate::report) fn requests(&self) -> Vec<&Request> {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        let mut rows: Vec<&Request> = vec![];
        for request in &self.data.requests {
            match first.get(request.id.as_str()) {
                Some(at) if !request.id.is_empty() => {
                    let known = rows[*at];
                    let is_worse = has_passed(known.verdict) && !has_passed(request.verdict);
                    let is_whole = request.door == Door::Egress.name() && has_passed(known.verdict);
                    if is_worse || is_whole {
                        rows[*at] = request;
                    }
                }
                _ => {
                    first.insert(&request.id, rows.len());
                    rows.push(request);
                }
            }
        }
        rows
    }

    fn request_rows(&self) -> Vec<RequestRow> {
        let mut rows: BTreeMap<(&str, Option<usize>, &'static str), RequestRow> = BTreeMap::new();
        for request in self.requests() {
            let key = (request.host.as_str(), request.route, word(request.verdict));
            let row = rows.entry(key).or_insert_with(|| RequestRow {
                host: request.host.clone(),
                route: request.route,
                verdict: request.verdict,
                count: 0,
                bytes_out: 0,
                bytes_in: 0,
            });
            row.count += 1;
            row.bytes_out = row.bytes_out.saturating_add(request.sent);
            row.bytes_in = row.bytes_in.saturating_add(request.received);
        }
        rows.into_values().collect()
    }

    /// What the doors refused, as the run told it; of a record without events, its requests and pushes that did not pass.
    fn refused(&self, events: &[RunEvent]) -> Vec<RefusedRow> {
        if self.are_recorded {
            return rows(events, |event| match event {
                RunEvent::Refused { door, what } => {
                    Some(RefusedRow { door: visible(door).into_owned(), what: visible(what).into_owned() })
                }
                _ => None,
            });
        }
        let requests = self.requests().into_iter().filter(|request| is_refusal(request.verdict));
        let requests = requests.map(|request| RefusedRow {
            door: request.door.clone(),
            what: format!("{} {}{}: {}", request.method, request.host, request.path, request.reason),
        });
        let pushes = self.data.pushes.iter().filter(|push| !push.verdict.has_passed()).map(push_row);
        let pushes = pushes.map(|push| RefusedRow {
            door: Door::GitGate.name().to_owned(),
            what: format!("{}: {}", push.r#ref, push.why.join("; ")),
        });
        let mut seen = HashSet::new();
        requests.chain(pushes).filter(|row| seen.insert(row.clone())).collect()
    }

    fn files(&self) -> Vec<FileRow> {
        let mut files: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for edit in &self.data.edits {
            let sums = files.entry(&edit.file).or_default();
            (sums.0, sums.1) = (sums.0 + edit.added, sums.1 + edit.removed);
        }
        let row = |(path, (added, removed)): (&str, _)| FileRow { path: path.to_owned(), added, removed };
        files.into_iter().map(row).collect()
    }
}

/// How many rows of refusals `show` has of the record in `dir`. Its events are enough, but for a record that has none.
pub(crate) fn refusals(dir: &Path) -> Result<usize, RowError> {
    let recorded = events::read(dir)?;
    if !recorded.are_recorded {
        return RunView::open_logs(dir).map(|view| view.refused(&[]).len());
    }
    Ok(recorded.events.iter().filter(|(_, event)| matches!(event, RunEvent::Refused { .. })).count())
}

/// True if the request went on or was answered.
pub(in crate::report) fn has_passed(verdict: AccessVerdict) -> bool {
    matches!(verdict, AccessVerdict::Allow | AccessVerdict::Replay)
}

/// True if a door did not let it: what failed on the way is none.
pub(in crate::report) fn is_refusal(verdict: AccessVerdict) -> bool {
    matches!(verdict, AccessVerdict::Deny | AccessVerdict::Block)
}

/// The verdict as egress.jsonl has it.
pub(in crate::report) fn word(verdict: AccessVerdict) -> &'static str {
    match verdict {
        AccessVerdict::Allow => "allow",
        AccessVerdict::Deny => "deny",
        AccessVerdict::Block => "block",
        AccessVerdict::Error => "error",
        AccessVerdict::Replay => "replay",
    }
}

fn rows<T>(events: &[RunEvent], row: impl Fn(&RunEvent) -> Option<T>) -> Vec<T> {
    events.iter().filter_map(row).collect()
}

fn said(events: &[RunEvent]) -> Option<String> {
    events.iter().rev().find_map(|event| match event {
        RunEvent::Said { text } => Some(visible(text).into_owned()),
        _ => None,
    })
}

fn outcome_row(events: &[RunEvent]) -> Option<OutcomeRow> {
    let outcome = outcome(events)?;
    let opened = events.iter().rev().find_map(|event| match event {
        RunEvent::PullRequest { number, url, .. } => Some((*number, url)),
        _ => None,
    });
    let link = outcome.pull_request.as_ref().map(|link| (link.number, &link.url)).or(opened);
    Some(OutcomeRow {
        code: outcome.code.into(),
        summary: visible(&outcome.summary).into_owned(),
        branch: outcome.branch.as_deref().map(|branch| visible(branch).into_owned()),
        commit: outcome.commit.as_ref().map(ToString::to_string),
        pull_request: link.map(|(number, url)| PullRequestRow { number, url: visible(url).into_owned() }),
    })
}

fn push_rows(pushes: &[Push]) -> Vec<PushRow> {
    let row = |(at, push): (usize, &Push)| {
        let is_same = |other: &&Push| (&other.repo, &other.r#ref) == (&push.repo, &push.r#ref);
        let mut later = pushes[at + 1..].iter().filter(is_same).filter(|_| !push.verdict.has_passed());
        let passed = later.find(|other| other.verdict.has_passed());
        PushRow { passed_later: passed.map(|other| other.new.clone()), ..push_row(push) }
    };
    pushes.iter().enumerate().map(row).collect()
}

/// Why a push did not pass: the gate's reasons, then what was found.
fn push_row(push: &Push) -> PushRow {
    let found = push.findings.iter().map(|finding| {
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{} at {}{line}", finding.rule, finding.path)
    });
    PushRow {
        repo: push.repo.clone(),
        r#ref: push.r#ref.clone(),
        verdict: push.verdict,
        old: push.old.clone(),
        new: push.new.clone(),
        commits: push.commits,
        why: push.reasons.iter().map(|reason| reason.head.clone()).chain(found).collect(),
        findings: push
            .findings
            .iter()
            .map(|finding| PushFindingRow {
                rule: finding.rule.clone(),
                path: finding.path.clone(),
                line: finding.line,
                commit: finding.commit.clone(),
                sha256: finding.sha256.clone(),
            })
            .collect(),
        passed_later: None,
    }
}

fn proposal_rows(events: &[RunEvent]) -> Vec<ProposalRow> {
    let row = |row: asked::ProposalRow<'_>| ProposalRow {
        id: visible(row.id).into_owned(),
        what: visible(row.what).into_owned(),
        why: visible(row.why).into_owned(),
        status: row.standing,
        by: row.by.map(|by| visible(by).into_owned()),
        detail: if row.standing == ProposalStatus::Asked { String::new() } else { visible(row.detail).into_owned() },
    };
    asked::proposals(events).into_iter().map(row).collect()
}

/// Each suite that has a case. A failure that was followed by another attempt is none.
fn check_rows(events: &[RunEvent]) -> Vec<CheckRow> {
    let mut rows: Vec<CheckRow> =
        Suite::ALL.map(|suite| CheckRow { suite, passed: 0, failed: vec![] }).into_iter().collect();
    let cases = events.iter().filter_map(|event| match event {
        RunEvent::Case { case } => Some(case),
        _ => None,
    });
    for case in cases {
        let Some(row) = rows.iter_mut().find(|row| row.suite == case.suite) else { continue };
        match &case.failure {
            None => row.passed += 1,
            Some(_) if Case::was_superseded(case, events) => {}
            Some(failure) => row
                .failed
                .push(FailureRow { name: visible(&case.title()).into_owned(), failure: visible(failure).into_owned() }),
        }
    }
    rows.retain(|row| row.passed + row.failed.len() > 0);
    rows
}
