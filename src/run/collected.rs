//! The bundle's files are brought into the run record, the doors' refusals into the events, and the bottle is torn down.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use bottle_plan::plan::{BottlePlan, MODEL_HOST};
use bottle_types::door;
use bottle_types::git::ObjectId;
use bottle_types::reason::Reason;
use bottle_types::record_file::RecordFile;
use bottle_wire::model_call::ModelCall;
use bottle_wire::proposal::PolicyFile;
use bottle_wire::push_report::{PushVerdict, PushedRef};
use serde_json::Value;

use super::claimed::Claimed;
use super::commit_files::CommitFiles;
use super::files::TakenFiles;
use super::mode::RunMode;
use super::pushed::Pushed;
use super::{RunContext, RunProgress, budget, canary, case, deploy_key, keep, outcome, outputs};
use crate::backend::{Bottle, BottleError, Side, Tree};
use crate::exit::{Code, Failure};
use crate::report::{BranchPush, Case, Events, Phase, RunEvent, Suite};
use crate::state::RunRecord;
use bottle_wire::run_record::Outcome;

/// So many refusals at one host for one reason are told one by one.
const MOST_ALIKE: usize = 3;
/// What takes longer at a run's end is said.
const SOON: Duration = Duration::from_secs(1);

/// A run whose bottle is gone, and its outcome. It takes the claim, the bottle and whatever the run has come to; the phases before
/// borrow the bottle, so none of them is left.
pub(super) struct Collected<'r> {
    claimed: Claimed<'r>,
    outcome: Outcome,
    pushed: Option<Pushed>,
    /// What the door has written of the agent's requests, as it was before the record's mask.
    proposals: Vec<u8>,
    files: TakenFiles,
    commit_files: CommitFiles,
}

impl<'r> Collected<'r> {
    /// Collects the logs and tears the bottle down, always. No bottle: it could not be prepared, and nothing of it is there.
    pub(super) async fn collect(
        claimed: Claimed<'r>,
        bottle: Option<Box<dyn Bottle>>,
        mut progress: RunProgress,
        ended: Result<(), Failure>,
    ) -> Self {
        let ended = match bottle {
            Some(bottle) => take_down(&claimed, bottle, &mut progress, ended).await,
            None => ended,
        };
        // The bottle is gone, and with it the private half; and nothing more is spent.
        let settling = budget::settle(claimed.context(), claimed.record().dir(), &mut progress);
        let (removed, ()) = tokio::join!(deploy_key::remove(&claimed), settling);
        if let (Err(_), Err(left)) = (&ended, &removed) {
            claimed.context().events.warn(left.to_string());
        }
        let ended = ended.and(removed);
        let mut outcome = outcome(ended, &progress);
        match claimed.context().inputs.mode {
            // What Claude Code reckons for replayed replies was never paid.
            RunMode::Replay(_) => outcome.cost_usd = None,
            RunMode::Live | RunMode::Publish(_) | RunMode::Undo(_) => {}
        }
        let RunProgress { pushed, proposals, files, commit_files, .. } = progress;
        Self { claimed, outcome, pushed, proposals, files, commit_files }
    }

    /// The last three: what the door has written of the agent's requests, the files that it handed in, and those that its findings can
    /// be about.
    pub(super) fn into_parts(self) -> (Claimed<'r>, Outcome, Option<Pushed>, (Vec<u8>, TakenFiles, CommitFiles)) {
        (self.claimed, self.outcome, self.pushed, (self.proposals, self.files, self.commit_files))
    }
}

/// Keeps the work of a run that was stopped, collects the logs, and removes everything of the bottle; the first failure is returned.
async fn take_down(
    claimed: &Claimed<'_>,
    bottle: Box<dyn Bottle>,
    progress: &mut RunProgress,
    ended: Result<(), Failure>,
) -> Result<(), Failure> {
    let RunContext { plan, events, cancel, .. } = claimed.context();
    let (bottle, record) = (bottle.as_ref(), claimed.record());
    if let Err(failure) = &ended {
        events.note(format!("stopping: {failure}"));
    }
    events.phase(Phase::Collect);
    let keeping = async {
        if ended.is_err() && cancel.leaves_time() {
            keep::keep(bottle, plan, &progress.starts, record, events).await;
        }
    };
    // The work is the guest's, the logs are the bundle's.
    let ((), collected) = tokio::join!(keeping, logs(bottle, plan, record, events));
    // A log that can't be had must not keep the bottle alive.
    match collected {
        Ok((model, proposals)) => {
            progress.proposals = proposals;
            if let Model::NeverAnswered { calls } = model
                && progress.agent.is_some()
                && progress.failures.is_empty()
            {
                progress.fail(Code::Task, format!("none of the {calls} calls to the model was answered"));
            }
            if progress.agent.is_some()
                && progress.failures.is_empty()
                && let Some(why) = outputs::lacks_answer(plan, &progress.proposals)
            {
                progress.fail(Code::Task, why.to_owned());
            }
        }
        Err(error) => events.warn(error.to_string()),
    }
    events.phase(Phase::Teardown);
    if ended.is_ok() {
        mirror_kept(bottle, events).await;
    }
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

/// Waits until upstream's objects are kept for later runs, and says so where that takes time.
async fn mirror_kept(bottle: &dyn Bottle, events: &Events) {
    let mut kept = bottle.mirror_kept();
    if tokio::time::timeout(SOON, &mut kept).await.is_err() {
        events.note("keeping upstream's objects on this machine for later runs");
        kept.await;
    }
}

/// The model's answers, as the doors saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    /// It answered, or was not called.
    Fine,
    /// It was called, and no call was answered.
    NeverAnswered { calls: usize },
}

/// Collects everything that can be had, and gives the record of proposals; the first thing that could not be had is the error.
async fn logs(
    bottle: &dyn Bottle,
    plan: &BottlePlan,
    record: &RunRecord,
    events: &Events,
) -> Result<(Model, Vec<u8>), Failure> {
    let log_dir = format!("{}/log", door::STATE_DIR);
    let (written, printed, obeyed) = tokio::join!(
        bottle.copy_out(Side::Bundle, &log_dir),
        bottle.logs(),
        bottle.copy_out(Side::Bundle, door::CONFIG_DIR)
    );
    let obeyed = policies(obeyed, record);
    let printed = printed.map_err(Failure::machine).and_then(|bytes| record.write(RecordFile::DoorLog, &bytes));
    let mut files: HashMap<String, Vec<u8>> = HashMap::new();
    if let Some(tree) = written.as_ref().ok().and_then(Option::as_ref) {
        for (path, bytes) in tree.files() {
            if let Some(name) = Path::new(path).file_name().and_then(|name| name.to_str()) {
                files.insert(name.to_owned(), bytes.to_vec());
            }
        }
    }
    let egress = merged(
        files.remove(RecordFile::Egress.name()).unwrap_or_default(),
        files.remove("pipelock.jsonl").unwrap_or_default(),
    );
    let gate = files.remove(RecordFile::Pushes.name()).unwrap_or_default();
    let proposals = files.remove(RecordFile::Proposals.name()).unwrap_or_default();
    refusals(&egress, events);
    canary::tell(plan, (&egress, &gate, &proposals), events);
    gate_cases(&gate, events);
    branch_push(&gate, plan, events);
    record.write(RecordFile::Egress, &egress)?;
    record.write(RecordFile::Pushes, &gate)?;
    // Where nothing was to be signed there is none.
    if let Some(signatures) = files.remove(RecordFile::Signatures.name()).filter(|lines| !lines.is_empty()) {
        record.write(RecordFile::Signatures, &signatures)?;
    }
    record.write(RecordFile::Proposals, &proposals)?;
    record.write(RecordFile::Cassette, &files.remove(RecordFile::Cassette.name()).unwrap_or_default())?;
    // What is left are the would-be pushes of a dry run, as git bundles.
    for (name, bytes) in files {
        record.write_named(&name, &bytes)?;
    }
    printed?;
    obeyed?;
    match written {
        Ok(Some(_)) => Ok((model(&egress), proposals)),
        Ok(None) => Err(Failure::machine("the bundle wrote no logs: it never came up")),
        Err(error) => Err(Failure::machine(error)),
    }
}

/// The policies in force at the end: approvals may have made others of them than the run began with.
fn policies(obeyed: Result<Option<Tree>, BottleError>, record: &RunRecord) -> Result<(), Failure> {
    let Some(tree) = obeyed.map_err(Failure::machine)? else { return Ok(()) };
    for (path, bytes) in tree.files() {
        let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(file) = PolicyFile::ALL.iter().find(|file| file.name() == name) {
            record.write(file.record_file(), bytes)?;
        }
    }
    Ok(())
}

/// Requests of Claude Code's own, which the agent knows nothing of.
const CLAUDES_OWN: [&str; 2] = ["/api/claude_code/settings", "/api/claude_code/policy_limits"];

/// Two files of JSON lines as one, by time: RFC 3339 in UTC with equal precision sorts as text.
fn merged(one: Vec<u8>, other: Vec<u8>) -> Vec<u8> {
    let text = [one, other].concat();
    let text = String::from_utf8_lossy(&text);
    let mut lines: Vec<(String, &str)> = text
        .lines()
        .map(|line| {
            let time =
                serde_json::from_str::<Value>(line).ok().and_then(|value| value["time"].as_str().map(str::to_owned));
            (time.unwrap_or_default(), line)
        })
        .collect();
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    lines.into_iter().flat_map(|(_, line)| [line.as_bytes(), b"\n"].concat()).collect()
}

/// Tells what the doors refused. A client that tries again and again is one refusal to read about, and one that tries one file
/// after the other at a host is a few.
fn refusals(egress: &[u8], events: &Events) {
    let mut seen = HashSet::new();
    let mut alike: Vec<([String; 3], usize)> = vec![];
    for line in String::from_utf8_lossy(egress).lines() {
        let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
        if !matches!(value["verdict"].as_str(), Some("deny" | "block")) {
            continue;
        }
        let text = |name: &str| value[name].as_str().unwrap_or_default();
        // What Claude Code asks for by itself at every start, and does without; egress.jsonl has it.
        if text("host") == MODEL_HOST && CLAUDES_OWN.iter().any(|path| text("path") == *path) {
            continue;
        }
        let what = format!("{} {}{}: {}", text("method"), text("host"), text("path"), in_words(text("reason")));
        if !seen.insert(what.clone()) {
            continue;
        }
        let key = ["door", "host", "reason"].map(|name| text(name).to_owned());
        let at = alike.iter().position(|(other, _)| *other == key).unwrap_or_else(|| {
            alike.push((key, 0));
            alike.len() - 1
        });
        alike[at].1 += 1;
        if alike[at].1 <= MOST_ALIKE {
            events.emit(RunEvent::Refused { door: text("door").to_owned(), what });
        }
    }
    for ([door, host, reason], count) in alike.into_iter().filter(|(_, count)| *count > MOST_ALIKE) {
        let what = format!("{} more at {host}: {}", count - MOST_ALIKE, in_words(&reason));
        events.emit(RunEvent::Refused { door, what });
    }
}

/// What a reason means, and what stands behind it.
fn in_words(reason: &str) -> String {
    let (word, detail) = reason.split_once(':').unwrap_or((reason, ""));
    let Some(known) = Reason::parse(word) else { return reason.to_owned() };
    let meaning = known.meaning().split(';').next().unwrap_or_default().trim_end_matches('.');
    format!("{meaning} ({word}{}{detail})", if detail.is_empty() { "" } else { ":" })
}

/// A case a push of a ref. A refusal that a later push of the same ref made good is the gate doing its work.
fn gate_cases(gate: &[u8], events: &Events) {
    let text = String::from_utf8_lossy(gate);
    let pushes: Vec<PushedRef> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if pushes.len() != text.lines().count() {
        events.warn("gate.jsonl has lines that are not understood");
    }
    for (at, push) in pushes.iter().enumerate() {
        let refused = !push.verdict.has_passed();
        let why = why_refused(push);
        if refused {
            events.emit(RunEvent::Refused { door: "git-gate".to_owned(), what: format!("{}: {why}", push.r#ref) });
        }
        let made_good = pushes[at + 1..].iter().any(|later| later.r#ref == push.r#ref && later.verdict.has_passed());
        events.case(Case {
            failure: (refused && !made_good).then(|| why.clone()),
            output: match push.verdict {
                PushVerdict::Refused => format!("refused: {why}"),
                PushVerdict::Held => format!("held: {why}"),
                PushVerdict::Accepted => {
                    format!("accepted: {} commits, {} objects scanned", push.commits, push.objects)
                }
                PushVerdict::WouldPush => {
                    format!("would be pushed: {} commits, {} objects scanned", push.commits, push.objects)
                }
            },
            ..Case::passed(
                Suite::Gate,
                format!(
                    "{} (push {}{})",
                    push.r#ref,
                    at + 1,
                    if refused && made_good { ", refused; a later one passed" } else { "" }
                ),
                Duration::from_millis(push.ms.total),
            )
        });
    }
}

/// Tells from where to where upstream's branch has moved by this run's pushes, by the gate's own log. What somebody else has pushed
/// between two of them is not this run's: what counts begins behind it.
fn branch_push(gate: &[u8], plan: &BottlePlan, events: &Events) {
    let Some(git) = &plan.git else { return };
    let text = String::from_utf8_lossy(gate);
    let pushes = text.lines().filter_map(|line| serde_json::from_str::<PushedRef>(line).ok());
    let is_its = |push: &PushedRef| push.repo == git.upstream && push.is_of(&git.branch);
    let mut moved: Option<(ObjectId, ObjectId)> = None;
    for push in pushes.filter(|push| is_its(push) && push.verdict == PushVerdict::Accepted) {
        let from = moved.filter(|(_, to)| *to == push.old).map_or(push.old, |(from, _)| from);
        moved = Some((from, push.new));
    }
    let Some((from, to)) = moved else { return };
    events.emit(RunEvent::Pushed {
        push: BranchPush {
            run: plan.slug.to_string(),
            agent: plan.agent.name.to_string(),
            branch: git.branch.clone(),
            from,
            to,
        },
        undone: plan.task.course.undo().is_some(),
    });
}

/// The reason in words: the gate's own, or the first thing that was found.
fn why_refused(push: &PushedRef) -> String {
    if let Some(reason) = push.reasons.first() {
        return reason.clone();
    }
    let Some(first) = push.findings.first() else { return "refused with another ref of the same push".to_owned() };
    let line = first.line.map(|line| format!(":{line}")).unwrap_or_default();
    let more = push.findings.len() - 1;
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} at {}{line}{more}", first.rule, first.path)
}

/// Tells if any call to the model was answered, by the doors' log: the agent's own word may be another.
fn model(egress: &[u8]) -> Model {
    let text = String::from_utf8_lossy(egress);
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let calls = lines.filter(|line| {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let call = ModelCall::new(text("method"), text("path"));
        line["door"] == "egress" && matches!(call, ModelCall::Messages(_))
    });
    let statuses: Vec<u64> = calls.map(|line| line["status"].as_u64().unwrap_or(0)).collect();
    if statuses.is_empty() || statuses.iter().any(|status| (200..300).contains(status)) {
        return Model::Fine;
    }
    Model::NeverAnswered { calls: statuses.len() }
}

#[cfg(test)]
mod tests {
    use super::{Model, model};

    #[test]
    fn a_model_that_never_answered_is_told_from_one_that_failed_once() {
        let line = |status: u16| {
            format!("{{\"door\":\"egress\",\"method\":\"POST\",\"path\":\"/v1/messages\",\"status\":{status}}}\n")
        };
        assert_eq!(model(format!("{}{}", line(529), line(0)).as_bytes()), Model::NeverAnswered { calls: 2 });
        assert_eq!(model(format!("{}{}", line(529), line(200)).as_bytes()), Model::Fine);
        assert_eq!(model(b""), Model::Fine);
    }
}
