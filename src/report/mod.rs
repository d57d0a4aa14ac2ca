//! The views of a run: every one is a fold over [`RunEvent`].
//!
//! Map: `terminal` (progress for people, or JSON lines), `actions` (a job's log, outputs and summary), `gantt` (the summary's timeline), `card` (the text that is
//! posted), `asked` (proposals as they stand), `proposal_status`, `neutral` (others' words made harmless), `junit`, `project_tests` (reports of the project's own),
//! `summary` (summary.md), `model` (a run as one value, from its record too), `html` (report.html), `show` (a record on the terminal), `site` (many records on a page), `export` (for
//! other tools). Nothing here looks at the engine, and nothing decides: the exit code comes with
//! [`RunEvent::Finished`].

pub(crate) mod actions;
mod asked;
mod card;
mod export;
mod gantt;
mod html;
mod junit;
mod model;
mod neutral;
mod project_tests;
mod proposal_status;
mod show;
mod site;
mod summary;
mod terminal;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bottle_types::git::ObjectId;
use bottle_wire::run_record::Outcome;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use actions::Actions;
pub(crate) use export::Metrics;
pub(crate) use junit::policy_tests_junit;
pub(crate) use model::data::LiveLogs;
use model::events::EventLog;
pub(crate) use model::events::{printed as printed_event, requests_in, schema as events_schema};
#[cfg(test)]
pub(crate) use model::samples;
pub(crate) use neutral::{neutral, neutral_text};
pub(crate) use project_tests::{MAX_TESTS, TestReport};
pub(crate) use proposal_status::ProposalStatus;
#[cfg(test)]
pub(crate) use show::live_screen;
pub(crate) use show::{Comparison, LiveRun, Page, RunView, Section, refusals};
pub(crate) use site::Site;
#[cfg(test)]
pub(crate) use site::site_pages;
use terminal::told;
pub(crate) use terminal::{Json, Style, Terminal};

use crate::host;
use crate::secrets::Secrets;
use crate::state::LineFile;

/// The version of the events, of which `schema/claude-bottle.events-v1.schema.json` has the form. A change of the form is a new version with
/// a file of its own.
pub(crate) const EVENTS_VERSION: u32 = 1;

fn first_events_version() -> u32 {
    1
}

/// The parts of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    Prepare,
    Launch,
    Provision,
    Seal,
    Setup,
    Agent,
    Verify,
    Push,
    Collect,
    Teardown,
    Publish,
}

impl Phase {
    pub(crate) const ALL: [Self; 11] = [
        Self::Prepare,
        Self::Launch,
        Self::Provision,
        Self::Seal,
        Self::Setup,
        Self::Agent,
        Self::Verify,
        Self::Push,
        Self::Collect,
        Self::Teardown,
        Self::Publish,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Launch => "launch",
            Self::Provision => "provision",
            Self::Seal => "seal",
            Self::Setup => "setup",
            Self::Agent => "agent",
            Self::Verify => "verify",
            Self::Push => "push",
            Self::Collect => "collect",
            Self::Teardown => "teardown",
            Self::Publish => "publish",
        }
    }
}

/// The JUnit suites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Suite {
    Bottle,
    Seal,
    Setup,
    Agent,
    Verify,
    Gate,
    Supervise,
}

impl Suite {
    pub(crate) const ALL: [Self; 7] =
        [Self::Bottle, Self::Seal, Self::Setup, Self::Agent, Self::Verify, Self::Gate, Self::Supervise];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bottle => "bottle",
            Self::Seal => "seal",
            Self::Setup => "setup",
            Self::Agent => "agent",
            Self::Verify => "verify",
            Self::Gate => "gate",
            Self::Supervise => "supervise",
        }
    }
}

/// Something that was checked or done, and how it went.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What it belongs to.
    pub(crate) suite: Suite,
    /// What was checked or done.
    pub(crate) name: String,
    /// How many seconds it took.
    #[serde(rename = "seconds", serialize_with = "seconds", deserialize_with = "duration")]
    #[schemars(with = "f64", range(min = 0))]
    pub(crate) duration: Duration,
    /// What went wrong; none: it passed.
    pub(crate) failure: Option<String>,
    /// What it printed.
    pub(crate) output: String,
    /// By which attempt of the agent's it is, from the second on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    /// What a reader should know beside the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Case {
    /// A case that went well and printed nothing.
    pub(crate) fn passed(suite: Suite, name: impl Into<String>, duration: Duration) -> Self {
        let name = name.into();
        Self { suite, name, duration, failure: None, output: String::new(), attempt: None, note: None }
    }

    /// The name with the attempt.
    fn title(&self) -> String {
        let attempt = self.attempt.map(|attempt| format!(" (attempt {attempt})")).unwrap_or_default();
        format!("{}{attempt}", self.name)
    }

    /// True if a failure was followed by another attempt of the agent's, which was looked at as this one was.
    fn was_superseded(&self, events: &[RunEvent]) -> bool {
        let is_later = |other: &Self| other.suite == self.suite && other.attempt > self.attempt;
        self.suite == Suite::Verify
            && self.failure.is_some()
            && events.iter().any(|event| matches!(event, RunEvent::Case { case } if is_later(case)))
    }
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "event", deny_unknown_fields)]
pub(crate) enum RunEvent {
    /// The run begins.
    Started {
        /// The version of the events, 1.
        // Records from before there was one are of the first.
        #[serde(default = "first_events_version")]
        #[schemars(!default, extend("const" = EVENTS_VERSION))]
        version: u32,
        /// The run's short unique name.
        slug: String,
        /// The task in a line.
        title: String,
        /// The directory of its record.
        record: PathBuf,
        /// Who asked, and where.
        #[serde(skip_serializing_if = "Option::is_none")]
        asked: Option<String>,
        /// The job's page at the forge.
        #[serde(skip_serializing_if = "Option::is_none")]
        job: Option<String>,
        /// The span of whoever started the run, as W3C Trace Context has it.
        #[serde(skip_serializing_if = "Option::is_none")]
        traceparent: Option<String>,
    },
    /// A part of the run begins, and the one before it has ended.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// Something was checked or done.
    Case {
        /// What, and how it went.
        case: Case,
    },
    /// A report of the project's own tests.
    TestReport {
        /// Its counts.
        report: TestReport,
    },
    /// A line of progress.
    Note { text: String },
    /// Something a person should know although the run goes on.
    Warning { text: String },
    /// The agent said something.
    Said { text: String },
    /// The agent uses a tool.
    Tool {
        name: String,
        /// What goes into it, or the beginning of that.
        input: String,
    },
    /// A door refused something.
    Refused {
        door: String,
        /// What, and why.
        what: String,
    },
    /// The agent tells how far it is.
    Progress { text: String },
    /// The agent asks for something, or what it asked for was decided.
    Proposal {
        /// Its name in this run, such as P1.
        id: String,
        /// What it asks for.
        what: String,
        /// How it stands now.
        standing: ProposalStatus,
        /// Who decided.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Of what is asked the agent's reason, of a decision its own.
        detail: String,
    },
    /// What to write into the manifest so that the next run need not ask, as a diff.
    Offer { diff: String },
    /// The branch of this run has moved at upstream.
    Pushed {
        /// From where to where.
        push: BranchPush,
        /// It went back to where it was before an earlier run.
        undone: bool,
    },
    /// The pull request of this run, opened or updated.
    PullRequest {
        number: u64,
        url: String,
        /// False: it was there before.
        opened: bool,
        draft: bool,
    },
    /// The run has ended.
    Finished {
        /// How.
        outcome: Outcome,
        /// The directory of its record.
        record: PathBuf,
    },
}

impl RunEvent {
    fn test_report(&self) -> Option<&TestReport> {
        match self {
            Self::TestReport { report } => Some(report),
            _ => None,
        }
    }
}

/// The reports of the project's own tests.
fn test_reports(events: &[RunEvent]) -> impl Iterator<Item = &TestReport> {
    events.iter().filter_map(RunEvent::test_report)
}

/// How the run ended, if it has; what comes after its end, such as a credential that was renewed meanwhile, changes nothing of it.
pub(crate) fn outcome<'e>(
    events: impl IntoIterator<Item = &'e RunEvent, IntoIter: DoubleEndedIterator>,
) -> Option<&'e Outcome> {
    events.into_iter().rev().find_map(|event| match event {
        RunEvent::Finished { outcome, .. } => Some(outcome),
        _ => None,
    })
}

/// An event with the time at which it came, in milliseconds of Unix time.
pub(crate) type TimedEvent = (i64, RunEvent);

/// A run's pushes to its branch, together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BranchPush {
    /// The run's name.
    pub(crate) run: String,
    /// Its agent's name in the manifest.
    pub(crate) agent: String,
    pub(crate) branch: String,
    /// The commit before the first of them, zeros where there was no such branch.
    pub(crate) from: ObjectId,
    /// The commit after the last.
    pub(crate) to: ObjectId,
}

/// A view.
pub(crate) trait Reporter: Send {
    fn on(&mut self, event: &RunEvent);
}

/// Where events go: masked, to every view, and kept for the reports at the end.
pub(crate) struct Events {
    inner: Mutex<Inner>,
}

struct Inner {
    reporters: Vec<Box<dyn Reporter>>,
    secrets: Option<Secrets>,
    seen: Vec<TimedEvent>,
    /// events.jsonl, while the record is written.
    log: Option<EventLog>,
}

impl Events {
    pub(crate) fn new(reporters: Vec<Box<dyn Reporter>>) -> Self {
        Self { inner: Mutex::new(Inner { reporters, secrets: None, seen: vec![], log: None }) }
    }

    /// Another view, of what comes from here on.
    pub(crate) fn add(&self, reporter: Box<dyn Reporter>) {
        self.lock().reporters.push(reporter);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// From here on every text is masked.
    pub(crate) fn mask_with(&self, secrets: Secrets) {
        self.lock().secrets = Some(secrets);
    }

    pub(crate) fn emit(&self, event: RunEvent) {
        let mut inner = self.lock();
        let event = match &inner.secrets {
            Some(secrets) => masked(event, secrets),
            None => event,
        };
        for reporter in &mut inner.reporters {
            reporter.on(&event);
        }
        inner.keep((i64::try_from(host::unix_millis()).unwrap_or(i64::MAX), event));
    }

    /// Writes every event of the run into the record, from the first, until [`Self::end_log`].
    pub(crate) fn log_to(&self, file: LineFile) {
        let mut inner = self.lock();
        inner.log = Some(EventLog::new(file));
        for event in std::mem::take(&mut inner.seen) {
            inner.keep(event);
        }
    }

    /// Ends events.jsonl, and gives all that it has: the record's hash is made of a file that grows no more.
    pub(crate) fn end_log(&self) -> Vec<TimedEvent> {
        let mut inner = self.lock();
        inner.log = None;
        inner.seen.clone()
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.emit(RunEvent::Phase { phase });
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        self.emit(RunEvent::Note { text: text.into() });
    }

    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.emit(RunEvent::Warning { text: text.into() });
    }

    pub(crate) fn case(&self, case: Case) {
        self.emit(RunEvent::Case { case });
    }

    /// Everything so far.
    pub(crate) fn seen(&self) -> Vec<RunEvent> {
        self.lock().seen.iter().map(|(_, event)| event.clone()).collect()
    }
}

impl Inner {
    /// Keeps an event. A log that can't be written ends with a warning, which the reports have.
    fn keep(&mut self, event: TimedEvent) {
        let failed = self.log.as_mut().and_then(|log| log.push(&event).err());
        let at = event.0;
        self.seen.push(event);
        if let Some(failure) = failed {
            self.log = None;
            let warning = RunEvent::Warning { text: format!("{failure}: events.jsonl lacks what came after it") };
            for reporter in &mut self.reporters {
                reporter.on(&warning);
            }
            self.seen.push((at, warning));
        }
    }
}

fn masked(event: RunEvent, secrets: &Secrets) -> RunEvent {
    let mask = |text: String| secrets.mask(&text);
    match event {
        RunEvent::Started { version, slug, title, record, asked, job, traceparent } => {
            RunEvent::Started { version, slug, title: mask(title), record, asked: asked.map(mask), job, traceparent }
        }
        RunEvent::Case { case } => RunEvent::Case {
            case: Case {
                name: mask(case.name),
                failure: case.failure.map(mask),
                output: mask(case.output),
                note: case.note.map(mask),
                ..case
            },
        },
        RunEvent::TestReport { report } => RunEvent::TestReport { report: report.map(mask) },
        RunEvent::Note { text } => RunEvent::Note { text: mask(text) },
        RunEvent::Warning { text } => RunEvent::Warning { text: mask(text) },
        RunEvent::Said { text } => RunEvent::Said { text: mask(text) },
        RunEvent::Tool { name, input } => RunEvent::Tool { name: mask(name), input: mask(input) },
        RunEvent::Refused { door, what } => RunEvent::Refused { door, what: mask(what) },
        RunEvent::Progress { text } => RunEvent::Progress { text: mask(text) },
        RunEvent::Proposal { id, what, standing, by, detail } => {
            RunEvent::Proposal { id, what: mask(what), standing, by: by.map(mask), detail: mask(detail) }
        }
        RunEvent::Offer { diff } => RunEvent::Offer { diff: mask(diff) },
        RunEvent::Finished { outcome, record } => {
            RunEvent::Finished { outcome: Outcome { summary: mask(outcome.summary), ..outcome }, record }
        }
        event @ (RunEvent::Phase { .. } | RunEvent::Pushed { .. } | RunEvent::PullRequest { .. }) => event,
    }
}

/// `junit.xml`.
pub(crate) fn junit(events: &[RunEvent], started: time::OffsetDateTime) -> Result<Vec<u8>, String> {
    junit::render(events, started)
}

/// `report.html` of the record in `dir`, whose other files are written; `mask` puts `***` for each secret.
pub(crate) fn html(events: &[TimedEvent], dir: &Path, mask: &dyn Fn(&str) -> String) -> String {
    html::render(events, dir, mask)
}

/// The status comment: how far the run has come.
pub(crate) fn status(events: &[RunEvent]) -> String {
    card::status(events)
}

/// The text of the pull request: the change, and the evidence of the run that made it.
pub(crate) fn card(events: &[RunEvent]) -> String {
    card::pull_request(events)
}

/// What the agent said last, made neutral for posting; none where it said nothing.
pub(crate) fn last_words(events: &[RunEvent]) -> Option<String> {
    card::last_words(events)
}

/// `summary.md`.
pub(crate) fn summary(events: &[RunEvent]) -> String {
    summary::render(events)
}
