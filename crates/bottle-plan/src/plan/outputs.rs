//! What the agent may have written at the forge, as far as this run has a place for it.

use std::borrow::Cow;

use bottle_policy::outputs::changed::ChangedLines;
use bottle_policy::outputs::{
    AnswerSchema, OutputKind, OutputPolicy, OutputRules, OwnThread, ReviewVerdict, marked_remark,
};

use super::PlanError;
use super::upstreams::Upstreams;
use crate::facts::{ForgeKind, HostFacts, RemarkFacts};
use crate::manifest::{Agent, BottleEntry, Push};
use crate::name::Name;
use crate::task::{Source, Task, Work};

/// Of more threads of earlier reviews the oldest are left out.
const MOST_THREADS: usize = 300;

/// The task, without a branch to come of it where the agent's outputs grant none.
pub(super) fn task_for<'a>(task: &'a Task, agent: &Agent) -> Cow<'a, Task> {
    match &agent.outputs {
        Some(OutputRules { branch: None, .. }) if task.work == Work::Change => {
            Cow::Owned(Task { work: Work::Outputs, ..task.clone() })
        }
        _ => Cow::Borrowed(task),
    }
}

/// Why findings are not uploaded; none: they are.
fn no_code_scanning(task: &Task, facts: &HostFacts) -> Option<&'static str> {
    match &facts.ci {
        None => Some("this is no job of a forge"),
        Some(ci) if ci.forge == ForgeKind::Gitea => Some("Gitea has no code scanning"),
        Some(_) if task.checked_commit().is_none() => Some("this task has no commit that could be checked"),
        Some(_) => None,
    }
}

/// The threads that earlier reviews of this agent have begun, the newest of them.
fn threads(agent: &Name, remarks: &[RemarkFacts], notes: &mut Vec<String>) -> Vec<OwnThread> {
    let own = |remark: &RemarkFacts| {
        let words = marked_remark(agent.as_str(), &remark.text)?;
        Some(OwnThread {
            thread: remark.id,
            path: remark.path.clone(),
            line: remark.line,
            side: remark.side,
            words: words.to_owned(),
            resolved: remark.resolved,
        })
    };
    let mut threads: Vec<OwnThread> = remarks.iter().filter_map(own).collect();
    threads.sort_by_key(|thread| thread.thread);
    let older = threads.len().saturating_sub(MOST_THREADS);
    if older > 0 {
        notes.push(format!("outputs.review: {older} older threads of this agent's reviews are left as they are"));
    }
    threads.split_off(older)
}

/// What the door and the runner judge by; none where there is nothing that the agent could ask for.
pub(super) fn policy(
    task: &Task,
    (agent_name, agent): (&Name, &Agent),
    bottle: &BottleEntry,
    upstreams: &Upstreams,
    facts: &HostFacts,
    notes: &mut Vec<String>,
) -> Result<Option<OutputPolicy>, PlanError> {
    let Some(mut rules) = agent.outputs.clone() else { return Ok(None) };
    // Of the branch, the gate is the judge.
    rules.branch = None;
    let reviewed = task.is_about_a_pull_request() && task.pull_request.is_some();
    for kind in
        OutputKind::ALL.into_iter().filter(|kind| agent.outputs.as_ref().is_some_and(|rules| rules.grants(*kind)))
    {
        let (has_place, lacks) = match kind {
            OutputKind::Comment | OutputKind::Labels => (task.thread().is_some(), "issue or pull request"),
            OutputKind::Review => (reviewed, "pull request whose commit is known"),
            // A pull request is closed as it was when it was looked at.
            OutputKind::Close => (
                task.thread().is_some() && (reviewed || !task.is_about_a_pull_request()),
                "issue, or pull request whose commit is known",
            ),
            OutputKind::Check => (task.checked_commit().is_some(), "commit that could be checked"),
            OutputKind::Issue => (true, "repository"),
            OutputKind::Json | OutputKind::File | OutputKind::Sarif => (true, "record"),
        };
        if !has_place {
            notes.push(format!("outputs.{kind}: this task has no {lacks}, so none is written"));
            rules.revoke(kind);
        }
    }
    if rules.sarif.is_some()
        && let Some(lacks) = no_code_scanning(task, facts)
    {
        notes.push(format!("outputs.sarif: {lacks}, so the findings are in the run record alone"));
    }
    let is_a_stranger_s = task.pull_request.as_ref().is_none_or(|pull| pull.from_fork);
    if let (Some(review), Source::Proposed(_), true) = (&mut rules.review, &task.source, is_a_stranger_s)
        && review.verdicts.contains(&ReviewVerdict::Approve)
    {
        review.verdicts.retain(|verdict| *verdict != ReviewVerdict::Approve);
        notes.push(
            "outputs.review.verdicts: nobody asked for this review of a fork's change, so it can't approve it"
                .to_owned(),
        );
    }
    let changed = match (&rules.review, &facts.diff) {
        (Some(_), Some(diff)) if reviewed => ChangedLines::parse(diff),
        _ => ChangedLines::default(),
    };
    let threads = match &rules.review {
        Some(_) if reviewed => threads(agent_name, &facts.remarks, notes),
        _ => vec![],
    };
    if !rules.has_tools() {
        return Ok(None);
    }
    if let Some(AnswerSchema::File(path)) = &rules.json {
        let problem = |problem| PlanError::AnswerSchema { agent: agent_name.clone(), path: path.clone(), problem };
        let text = facts.answer_schemas.get(path).ok_or_else(|| problem("it is not there".to_owned()))?;
        rules.json = Some(AnswerSchema::read(text).map_err(|error| problem(error.to_string()))?);
    }
    let protected = upstreams.main().map(|main| main.push.protect_paths.clone());
    Ok(Some(OutputPolicy {
        rules,
        changed,
        threads,
        protect_paths: protected.unwrap_or_else(|| Push::default().protect_paths),
        patterns: bottle.pipelock.patterns.clone(),
        detect: bottle.pipelock.detect.clone(),
    }))
}
