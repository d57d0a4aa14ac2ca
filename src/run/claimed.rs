//! The claim: the lease on the task's issue or pull request, the status comment that shows it, and the run record.

use std::path::Path;

use bottle_plan::plan::BottlePlan;
use bottle_plan::task::thread_name;
use bottle_types::record_file::RecordFile;
use serde_json::{Value, json};

use super::{RunContext, listen};
use crate::backend;
use crate::exit::{Code, Failure};
use crate::forge::ForgeError;
use crate::host;
use crate::report::{EVENTS_VERSION, RunEvent};
use crate::state::RunRecord;
use crate::thread::{self, Ask, Claim, Lease, LeaseGuard, OnLeaseLost, Sticky};
use bottle_wire::run_record::{Metadata, Outcome};

/// A run that has its issue or pull request for itself. It takes the inputs; nothing is written to the forge without it.
pub(super) struct Claimed<'r> {
    context: RunContext<'r>,
    record: RunRecord,
    metadata: Metadata,
    started: time::OffsetDateTime,
    /// None: the task is about no issue and no pull request, or nothing is changed there.
    guard: Option<LeaseGuard>,
    status_comment: Option<Sticky>,
}

impl<'r> Claimed<'r> {
    /// Opens the record of a run that has its lease.
    pub(super) fn open(context: RunContext<'r>, guard: Option<LeaseGuard>) -> Result<Self, Failure> {
        let RunContext { inputs, plan, events, .. } = context;
        let dir = Path::new(&plan.state_dir);
        let record = RunRecord::create(dir.parent().unwrap_or(dir), plan.slug.as_str(), inputs.secrets.clone())?;
        let started = time::OffsetDateTime::now_utc();
        let status_comment = status_comment(context, guard.clone());
        events.emit(RunEvent::Started {
            version: EVENTS_VERSION,
            slug: plan.slug.to_string(),
            title: plan.task.title(),
            record: record.dir().to_owned(),
            asked: asked(plan),
            job: plan.ci.as_ref().map(|ci| ci.run_url.clone()),
            traceparent: inputs.traceparent.clone(),
        });
        events.log_to(record.lines(RecordFile::Events)?);
        let metadata = metadata(plan);
        files(plan, &record)?;
        attachments(context, &record)?;
        write_metadata(&record, &metadata)?;
        Ok(Self { context, record, metadata, started, guard, status_comment })
    }

    pub(super) fn context(&self) -> RunContext<'r> {
        self.context
    }

    pub(super) fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Asks the forge once more whose the issue or pull request is; the failure is that another run has taken it over.
    pub(super) async fn lost(&self) -> Result<Option<Failure>, ForgeError> {
        let (Some(guard), Some(forge)) = (&self.guard, &self.context.inputs.forge) else { return Ok(None) };
        Ok(guard.lost_to(forge.as_ref()).await?.map(|other| taken_over(&other)))
    }

    /// Ends the claim: the status comment and the record say how the run ended. `would` is the list of things that a dry run kept.
    pub(super) async fn close(self, mut outcome: Outcome, mut would: Vec<Value>) -> Result<Outcome, Failure> {
        let RunContext { inputs, plan, events, cancel } = self.context;
        events.emit(RunEvent::Finished { outcome: outcome.clone(), record: self.record.dir().to_owned() });
        if let Some(comment) = self.status_comment {
            let hurry = async {
                cancel.requested().await;
            };
            if let Err(why) = comment.finish(hurry).await {
                events.warn(format!("the comment is not up to date: {why}"));
            }
        }
        if plan.dry_run {
            would.extend(inputs.forge.iter().flat_map(|forge| forge.kept()));
            let lines: String = would.iter().map(|line| format!("{line}\n")).collect();
            self.record.write(RecordFile::WouldDo, lines.as_bytes())?;
        }
        outcome.summary = inputs.secrets.mask(&outcome.summary);
        finish_record(&self.record, self.metadata, &outcome, self.context, self.started)?;
        self.record.close();
        Ok(outcome)
    }
}

/// A run that may go on, with its lease; or one whose work another has taken up.
pub(super) enum Leased {
    /// None: the task is about no issue and no pull request, or nothing is changed there.
    Ours(Option<LeaseGuard>),
    /// The text says by which run.
    TakenUp(String),
}

impl Leased {
    /// Waits for the lease, as long as nobody ends the run.
    pub(super) async fn take(context: RunContext<'_>) -> Result<Self, Failure> {
        tokio::select! {
            leased = lease(context) => leased,
            failure = context.cancel.requested() => Err(failure),
            never = listen::listen(context, None) => match never {},
        }
    }
}

/// Makes the issue or pull request that the task is about this run's alone; a dry run changes nothing there.
async fn lease(context: RunContext<'_>) -> Result<Leased, Failure> {
    let RunContext { inputs, plan, events, .. } = context;
    let (Some(forge), Some(thread)) = (&inputs.forge, plan.task.thread()) else { return Ok(Leased::Ours(None)) };
    let ask = Ask::from_plan(plan).map(|ask| if inputs.is_choice { ask.chosen() } else { ask });
    let taken_up = if plan.dry_run {
        match &ask {
            Some(ask) => thread::taken_up(forge.as_ref(), thread.number, ask)
                .await
                .map_err(|error| Failure::machine(&error).hint(error.hint()))?,
            None => None,
        }
    } else {
        let url = plan.ci.as_ref().map(|ci| ci.run_url.clone()).unwrap_or_default();
        let lease = Lease { run: plan.slug.to_string(), since: host::now(), url };
        match thread::take(forge, thread.number, &lease, ask.as_ref(), &|line| events.note(line)).await? {
            Claim::Ours(guard) => return Ok(Leased::Ours(Some(guard))),
            Claim::TakenUp(other) => Some(other),
        }
    };
    let Some(Lease { run, url, .. }) = taken_up else { return Ok(Leased::Ours(None)) };
    let again = format!("`{} retry` in a comment does it again", plan.mention);
    Ok(Leased::TakenUp(format!("run {run} has taken this up already: {url}; {again}")))
}

/// The comment on the issue or pull request that the task is about.
fn status_comment(context: RunContext<'_>, guard: Option<LeaseGuard>) -> Option<Sticky> {
    let (forge, thread) = (context.inputs.forge.as_ref()?, context.plan.task.thread()?);
    let (comment, reporter) = match guard {
        Some(guard) => {
            let cancel = context.cancel.clone();
            let lost: OnLeaseLost = Box::new(move |other| cancel.end(taken_over(other)));
            Sticky::holding(forge.clone(), thread.number, guard, lost)
        }
        None => Sticky::at_the_end(forge.clone(), thread.number),
    };
    context.events.add(reporter);
    Some(comment)
}

fn taken_over(other: &Lease) -> Failure {
    let why = format!("another run has claimed this meanwhile, {}: {}", other.run, other.url);
    Failure::new(Code::Terminated, why)
}

/// The asker and the place, in words.
fn asked(plan: &BottlePlan) -> Option<String> {
    let who = plan.task.asked_by.as_ref().map(|actor| format!("asked by {}", actor.login));
    match (who, plan.task.thread()) {
        (Some(who), Some(thread)) => {
            Some(format!("{who} in {}", thread_name(plan.task.is_about_a_pull_request(), thread.number)))
        }
        (who, _) => who,
    }
}

/// The files that can be written before anything starts.
fn files(plan: &BottlePlan, record: &RunRecord) -> Result<(), Failure> {
    let json = serde_json::to_vec_pretty(plan)
        .map_err(|error| Failure::machine(format_args!("failed to write plan.json: {error}")))?;
    record.write(RecordFile::Plan, &json)?;
    for (name, text) in backend::record_files(plan) {
        record.write(name, text.as_bytes())?;
    }
    record.write(RecordFile::Seccomp, bottle_plan::render::SECCOMP.as_bytes())?;
    let yaml =
        |error: bottle_types::yaml::YamlError| Failure::machine(format_args!("failed to write a policy: {error}"));
    record.write(
        RecordFile::Routes,
        bottle_types::yaml::to_string(bottle_plan::render::first_routes(plan)).map_err(yaml)?.as_bytes(),
    )?;
    record.write(
        RecordFile::Pipelock,
        bottle_types::yaml::to_string(&plan.policies.pipelock).map_err(yaml)?.as_bytes(),
    )?;
    record.write(RecordFile::Gate, bottle_types::yaml::to_string(&plan.policies.gate).map_err(yaml)?.as_bytes())
}

/// Writes what became of the files that people attached.
fn attachments(context: RunContext<'_>, record: &RunRecord) -> Result<(), Failure> {
    let (plan, inputs) = (context.plan, context.inputs);
    if plan.task.attachments.is_empty() {
        return Ok(());
    }
    let mut lines = record.lines(RecordFile::Attachments)?;
    for attachment in &plan.task.attachments {
        let given = inputs.guest_inputs.attached.iter().find(|(name, ..)| attachment.given.name() == Some(name));
        let given = given.map(|(_, bytes, sha256)| json!({"bytes": bytes, "sha256": sha256}));
        let line = json!({"url": attachment.url, "by": attachment.by, "attached_to": attachment.attached_to, "given": attachment.given, "file": given});
        lines.push(line.to_string().as_bytes())?;
    }
    Ok(())
}

fn metadata(plan: &BottlePlan) -> Metadata {
    Metadata {
        schema: 1,
        slug: plan.slug.to_string(),
        title: plan.task.title(),
        backend: plan.backend,
        compose_project: plan.names.project.clone(),
        started: plan.started_at.clone(),
        ended: None,
        dry_run: plan.dry_run,
        runner: env!("CARGO_PKG_VERSION").to_owned(),
        outcome: None,
        proposals_sha256: None,
    }
}

fn write_metadata(record: &RunRecord, metadata: &Metadata) -> Result<(), Failure> {
    let mut json = serde_json::to_vec_pretty(metadata)
        .map_err(|error| Failure::machine(format_args!("failed to write metadata.json: {error}")))?;
    json.push(b'\n');
    record.write(RecordFile::Metadata, &json)
}

/// Writes what only the end of a run knows: metadata.json with its outcome, and the reports.
fn finish_record(
    record: &RunRecord,
    mut metadata: Metadata,
    outcome: &Outcome,
    context: RunContext<'_>,
    started: time::OffsetDateTime,
) -> Result<(), Failure> {
    let RunContext { inputs, events, .. } = context;
    let timed = events.end_log();
    let seen: Vec<RunEvent> = timed.iter().map(|(_, event)| event.clone()).collect();
    metadata.ended = Some(host::now());
    // None: there never was a bundle that could have written it.
    let proposals = std::fs::read_to_string(record.dir().join(RecordFile::Proposals));
    metadata.proposals_sha256 = proposals.ok().map(|text| bottle_wire::proposal::sha256(&text));
    metadata.outcome = Some(outcome.clone());
    write_metadata(record, &metadata)?;
    match crate::report::junit(&seen, started) {
        Ok(xml) => record.write(RecordFile::Junit, &xml)?,
        Err(error) => return Err(Failure::machine(format_args!("failed to write junit.xml: {error}"))),
    }
    record.write(RecordFile::Summary, crate::report::summary(&seen).as_bytes())?;
    // The last: it has the hash of all others.
    let page = crate::report::html(&timed, record.dir(), &|text| inputs.secrets.mask(text));
    record.write(RecordFile::Report, page.as_bytes())
}
