//! One run: launch, seal, provision, agent, verify, push, collect, and teardown, always.
//!
//! Map: `seal` (the self-test), `verify`, `pin` (has the pull request moved), `push`, `handoff` (another job's work), `keep`
//! (work that is not pushed), `collect` (the bundle's logs into the record), `propose` (the pull request), `listen` (people's
//! comments meanwhile), `outcome` (the exit code and its line).
//! Whatever happens after the first container may exist, the logs are collected and everything is torn down.

mod collect;
mod handoff;
mod keep;
mod listen;
mod outcome;
mod pin;
mod propose;
mod push;
#[cfg(test)]
mod push_tests;
mod seal;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bottle_plan::plan::{BottlePlan, HOST_CA_FILE};
use bottle_plan::task::{Commit, Work};
use bottle_types::door;
use bottle_wire::run_record::{Metadata, Outcome};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::agent::{self, AgentOutcome};
use crate::approve;
use crate::backend::{self, Bottle, Progress, Side, Tree};
use crate::cancel::Cancel;
use crate::exit::{Code, Failure};
use crate::forge::Forge;
use crate::host;
use crate::provision::{self, GuestInputs, mirror_seed};
use crate::report::{Case, Events, Phase, RunEvent, Suite};
use crate::secrets::Secrets;
use crate::state::Record;
use crate::thread::{self, CommentWatch, Lease, LeaseGuard, NewComment, OnLeaseLost, Sticky};

pub(crate) use handoff::read as handoff;
use outcome::{one_line, outcome};

/// Everything that a run starts from.
pub(crate) struct RunInputs {
    pub(crate) plan: BottlePlan,
    /// The manifest's name and text.
    pub(crate) manifest: (String, String),
    pub(crate) guest_inputs: GuestInputs,
    pub(crate) secrets: Secrets,
    /// The cassette that answers the model.
    pub(crate) replay: Option<Vec<u8>>,
    /// Another job's work, in place of an agent's.
    pub(crate) handoff: Option<handoff::Handoff>,
    /// Where the work is proposed; none outside of a job.
    pub(crate) forge: Option<Arc<dyn Forge>>,
}

/// The results of a run's parts, from which its outcome is made.
#[derive(Debug, Default)]
struct RunProgress {
    agent: Option<AgentOutcome>,
    /// The commits that were in the guest before the agent began, kept where the agent can't change them.
    starts: Vec<Commit>,
    pushed: Option<push::PushResult>,
    /// The failures that do not end the run at once.
    failures: Vec<(Code, String)>,
}

impl RunProgress {
    fn fail(&mut self, code: Code, why: String) {
        self.failures.push((code, why));
    }
}

impl Progress for Events {
    fn say(&self, line: &str) {
        self.note(line);
    }
}

/// Runs it; the outcome is in the record and in the last event, whatever it is.
pub(crate) async fn run(inputs: RunInputs, events: &Events, cancel: &Cancel) -> Result<Outcome, Failure> {
    let plan = &inputs.plan;
    let dir = Path::new(&plan.state_dir);
    let root = dir.parent().unwrap_or(dir);
    let watch = || inputs.forge.clone().and_then(|forge| CommentWatch::from_plan(plan, forge));
    let guard = tokio::select! {
        guard = lease(&inputs, events) => guard?,
        failure = cancel.requested() => return Err(failure),
        never = listen::listen(watch(), plan, cancel, events, None) => match never {},
    };
    let record = Record::create(root, plan.slug.as_str(), inputs.secrets.clone())?;
    let started = time::OffsetDateTime::now_utc();
    let sticky = sticky(&inputs, guard, events, cancel);
    events.emit(RunEvent::Started {
        slug: plan.slug.to_string(),
        title: plan.task.title(),
        record: record.dir().to_owned(),
        asked: propose::asked(plan),
        job: plan.ci.as_ref().map(|ci| ci.run_url.clone()),
    });
    let metadata = metadata(plan);
    files(plan, &record)?;
    write_metadata(&record, &metadata)?;

    let mut progress = RunProgress::default();
    let (comments, heard) = tokio::sync::mpsc::unbounded_channel();
    let ended = tokio::select! {
        ended = inside(&inputs, &record, events, cancel, heard, &mut progress) => ended,
        never = listen::listen(watch(), plan, cancel, events, Some(&comments)) => match never {},
    };
    let pushed = progress.pushed.clone();

    let mut outcome = outcome(ended, progress);
    if plan.replay.is_some() {
        // What Claude Code reckons for replayed replies was never paid.
        outcome.cost_usd = None;
    }
    let mut would = propose::propose(&inputs, events, cancel, &mut outcome, pushed.as_ref()).await;
    events.emit(RunEvent::Finished { outcome: outcome.clone(), record: record.dir().to_owned() });
    if let Some(sticky) = sticky {
        let hurry = async {
            cancel.requested().await;
        };
        if let Err(why) = sticky.finish(hurry).await {
            events.warn(format!("the comment is not up to date: {why}"));
        }
    }
    if plan.dry_run {
        would.extend(inputs.forge.iter().flat_map(|forge| forge.kept()));
        let lines: String = would.iter().map(|line| format!("{line}\n")).collect();
        record.write("would-do.jsonl", lines.as_bytes())?;
    }
    outcome.summary = inputs.secrets.mask(&outcome.summary);
    finish_record(&record, metadata, &outcome, &events.seen(), started)?;
    record.close();
    Ok(outcome)
}

/// Writes what only the end of a run knows: metadata.json with its outcome, and the reports.
fn finish_record(
    record: &Record,
    mut metadata: Metadata,
    outcome: &Outcome,
    seen: &[RunEvent],
    started: time::OffsetDateTime,
) -> Result<(), Failure> {
    metadata.ended = Some(host::now());
    // None: there never was a bundle that could have written it.
    let proposals = std::fs::read_to_string(record.dir().join("proposals.jsonl"));
    metadata.proposals_sha256 = proposals.ok().map(|text| bottle_wire::proposal::sha256(&text));
    metadata.outcome = Some(outcome.clone());
    write_metadata(record, &metadata)?;
    match crate::report::junit(seen, started) {
        Ok(xml) => record.write("junit.xml", &xml)?,
        Err(error) => return Err(Failure::machine(format_args!("failed to write junit.xml: {error}"))),
    }
    record.write("report.html", crate::report::html(seen).as_bytes())?;
    record.write("summary.md", crate::report::summary(seen).as_bytes())?;
    Ok(())
}

/// Makes the issue or pull request that the task is about this run's alone; a dry run changes nothing there.
async fn lease(inputs: &RunInputs, events: &Events) -> Result<Option<LeaseGuard>, Failure> {
    let plan = &inputs.plan;
    let (Some(forge), Some(thread), false) = (&inputs.forge, plan.task.thread(), plan.dry_run) else { return Ok(None) };
    let url = plan.ci.as_ref().map(|ci| ci.run_url.clone()).unwrap_or_default();
    let lease = Lease { run: plan.slug.to_string(), since: host::now(), url };
    thread::take(forge, thread.number, &lease, &|line| events.note(line)).await.map(Some)
}

/// The comment on the issue or pull request that the task is about.
fn sticky(inputs: &RunInputs, guard: Option<LeaseGuard>, events: &Events, cancel: &Cancel) -> Option<Sticky> {
    let (forge, thread) = (inputs.forge.as_ref()?, inputs.plan.task.thread()?);
    let (sticky, teller) = match guard {
        Some(guard) => {
            let cancel = cancel.clone();
            let lost: OnLeaseLost = Box::new(move |other| {
                let why = format!("another run has claimed this meanwhile, {}: {}", other.run, other.url);
                cancel.end(Failure::new(Code::Terminated, why));
            });
            Sticky::holding(forge.clone(), thread.number, guard, lost)
        }
        None => Sticky::at_the_end(forge.clone(), thread.number),
    };
    events.add(teller);
    Some(sticky)
}

/// From the first container to the last: nothing of the bottle is left when this returns.
async fn inside(
    inputs: &RunInputs,
    record: &Record,
    events: &Events,
    cancel: &Cancel,
    heard: UnboundedReceiver<NewComment>,
    progress: &mut RunProgress,
) -> Result<(), Failure> {
    let plan = &inputs.plan;
    events.phase(Phase::Prepare);
    let prepared = async {
        let backend = case(events, "image", async {
            let backend = backend::connect(plan.backend).await?;
            backend.prepare(plan, events).await?;
            Ok(backend)
        })
        .await?;
        backend::remove_dead_runs(backend.as_ref(), inputs.secrets.known(), events).await;
        Ok(backend)
    };
    let backend = tokio::select! {
        prepared = prepared => prepared?,
        failure = cancel.requested() => return Err(failure),
    };
    let bottle = backend.bottle(plan, record.dir());
    let bottle = bottle.as_ref();
    let ended = tokio::select! {
        ended = body(inputs, bottle, record, events, cancel, heard, progress) => ended,
        failure = cancel.due() => Err(failure),
    };
    if let Err(failure) = &ended {
        events.note(format!("stopping: {failure}"));
        if cancel.leaves_time() {
            keep::keep(bottle, plan, &progress.starts, record, events).await;
        }
    }
    events.phase(Phase::Collect);
    // A log that can't be had must not keep the bottle alive.
    match collect::collect(bottle, record, events).await {
        Ok(collect::Model::NeverAnswered { calls }) if progress.agent.is_some() && progress.failures.is_empty() => {
            progress.fail(Code::Task, format!("none of the {calls} calls to the model was answered"));
        }
        Ok(_) => {}
        Err(error) => events.warn(error.to_string()),
    }
    events.phase(Phase::Teardown);
    let torn_down = case(events, "teardown", async {
        bottle
            .tear_down()
            .await
            .map_err(|error| Failure::machine(error).hint("`bottle-runner cleanup` removes what is left"))
    })
    .await;
    if let (Err(_), Err(left)) = (&ended, &torn_down) {
        // The first failure is the run's.
        events.warn(left.to_string());
    }
    ended.and(torn_down)
}

/// From the launch to the push.
async fn body(
    inputs: &RunInputs,
    bottle: &dyn Bottle,
    record: &Record,
    events: &Events,
    cancel: &Cancel,
    heard: UnboundedReceiver<NewComment>,
    progress: &mut RunProgress,
) -> Result<(), Failure> {
    let plan = &inputs.plan;
    events.phase(Phase::Launch);
    let seed = case(events, "launch", launch(inputs, bottle, record, events)).await?;
    events.phase(Phase::Provision);
    let provisioned =
        provision::all(bottle, plan, &inputs.guest_inputs, bring_in(inputs, bottle, seed), events).await?;
    let env = provisioned.env;
    progress.starts = provisioned.starts;
    events.phase(Phase::Seal);
    // Last, so that what it proves is what the agent finds.
    case(events, "seal", seal::prove(bottle, plan, events)).await?;
    events.phase(Phase::Agent);
    if let Some(handoff) = &inputs.handoff {
        if let Some(why) = handoff.bring(bottle, plan, events).await? {
            progress.fail(Code::Task, why);
        }
    } else {
        let (manifest, forge, secrets) = (&inputs.manifest, inputs.forge.as_ref(), &inputs.secrets);
        let context = approve::ApprovalContext { bottle, plan, manifest, forge, secrets, events, cancel };
        let agent = approve::beside(&context, heard, agent::run(bottle, plan, &env, record, events)).await?;
        if let Some((code, why)) = agent.failure.clone() {
            progress.fail(code, why);
        }
        progress.agent = Some(agent);
    }
    // Whatever the agent left running must not change what is verified and pushed.
    bottle.signal("KILL").await.map_err(Failure::machine)?;
    if plan.task.work == Work::Change {
        push::save(bottle, plan, events).await?;
    }
    events.phase(Phase::Verify);
    if let Some(failed) = verify::run(bottle, plan, &env, events).await? {
        progress.fail(Code::Task, failed);
    }
    events.phase(Phase::Push);
    push_work(inputs, bottle, record, events, progress).await
}

/// Starts the bottle; beside it the mirror's seed is packed, which is returned.
async fn launch(
    inputs: &RunInputs,
    bottle: &dyn Bottle,
    record: &Record,
    events: &Events,
) -> Result<Option<Tree>, Failure> {
    let seed = async {
        let git = inputs.plan.git.as_ref()?;
        let packed = mirror_seed::pack(git, &record.dir().join("seed")).await;
        // It only saves time.
        packed.inspect_err(|why| events.note(format!("the mirror starts empty: {why}"))).ok().flatten()
    };
    let (up, seed) = tokio::join!(bottle.up(&inputs.secrets), seed);
    up?.into_iter().for_each(|note| events.note(note));
    Ok(seed)
}

/// Pushes the work, unless its pull request has moved: then it is kept in the record. A review's work is words alone.
async fn push_work(
    inputs: &RunInputs,
    bottle: &dyn Bottle,
    record: &Record,
    events: &Events,
    progress: &mut RunProgress,
) -> Result<(), Failure> {
    let plan = &inputs.plan;
    let changes = plan.task.work == Work::Change;
    if changes && let Some(why) = pin::moved(inputs, bottle).await {
        progress.fail(Code::Gate, format!("not pushed: {why}"));
        keep::keep(bottle, plan, &progress.starts, record, events).await;
        return Ok(());
    }
    let pushed = if changes { push::push(bottle, plan, &progress.starts).await? } else { push::PushResult::Nothing };
    if let push::PushResult::Refused { why } = &pushed {
        progress.fail(Code::Gate, format!("the gate refused the push: {why}"));
    }
    progress.pushed = Some(pushed);
    Ok(())
}

/// Brings into the bundle the files that a Compose file can't carry.
async fn bring_in(inputs: &RunInputs, bottle: &dyn Bottle, seed: Option<Tree>) -> Result<(), Failure> {
    let mut tree = seed.unwrap_or_default();
    if let Some(path) = &inputs.plan.host_ca_bundle {
        let bytes =
            std::fs::read(path).map_err(|error| Failure::machine(format_args!("failed to read {path}: {error}")))?;
        tree = tree.file(HOST_CA_FILE, 0, 0o644, bytes);
    }
    if let Some(cassette) = &inputs.replay {
        tree = tree.file(format!("{}/{}", door::STATE_DIR, door::REPLAY_FILE), 0, 0o644, cassette.clone());
    }
    if tree.nodes.is_empty() {
        return Ok(());
    }
    bottle.copy_in(Side::Bundle, tree).await.map_err(Failure::machine)
}

/// The files that can be written before anything starts.
fn files(plan: &BottlePlan, record: &Record) -> Result<(), Failure> {
    let json = serde_json::to_vec_pretty(plan)
        .map_err(|error| Failure::machine(format_args!("failed to write plan.json: {error}")))?;
    record.write("plan.json", &json)?;
    for (name, text) in backend::record_files(plan) {
        record.write(name, text.as_bytes())?;
    }
    record.write("seccomp.json", bottle_plan::render::SECCOMP.as_bytes())?;
    let yaml =
        |error: bottle_types::yaml::YamlError| Failure::machine(format_args!("failed to write a policy: {error}"));
    record.write("routes.yaml", bottle_types::yaml::to_string(&plan.policies.routes).map_err(yaml)?.as_bytes())?;
    record.write("pipelock.yaml", bottle_types::yaml::to_string(&plan.policies.pipelock).map_err(yaml)?.as_bytes())?;
    record.write("gate.yaml", bottle_types::yaml::to_string(&plan.policies.gate).map_err(yaml)?.as_bytes())
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

fn write_metadata(record: &Record, metadata: &Metadata) -> Result<(), Failure> {
    let mut json = serde_json::to_vec_pretty(metadata)
        .map_err(|error| Failure::machine(format_args!("failed to write metadata.json: {error}")))?;
    json.push(b'\n');
    record.write("metadata.json", &json)
}

/// Runs a part of the run as a case of the suite `bottle`.
async fn case<T>(events: &Events, name: &str, part: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let started = Instant::now();
    let result = part.await;
    events.case(Case {
        suite: Suite::Bottle,
        name: name.to_owned(),
        duration: started.elapsed(),
        failure: result.as_ref().err().map(ToString::to_string),
        output: String::new(),
    });
    result
}
