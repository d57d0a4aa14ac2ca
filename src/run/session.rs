//! The session that a run goes on with, and the one that it leaves: between a directory of this machine and the guest's home.
//!
//! Always: a session is brought only into a guest of the same repository, issue or pull request, and agent, under the same manifest; it
//! is checked and written anew both on its way out and on its way in. One that can't be used is named in the record, and the run
//! begins anew.

use std::path::Path;

use bottle_plan::plan::{
    BottlePlan, MAX_SESSION_BYTES, SessionError, SessionId, SessionPlan, conversation, with_digest,
};
use bottle_policy::outputs::{OutputJudge, OutputPolicy};
use bottle_wire::proposal::sha256;

use super::{LiveRun, RunInputs, files};
use crate::agent::AgentOutcome;
use crate::backend::{Bottle, Side, Tree};
use crate::cache::{SessionHeader, SessionStore, StoredSession};
use crate::exit::{Code, Failure};
use crate::report::Events;

/// How an agent begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Without a session of an earlier run.
    Anew,
    /// The same, with what an earlier run said at its end; why it can't go on there.
    Told { said: String, why: String },
    /// In a session, whose file this is.
    In { id: SessionId, conversation: String },
    /// Without one: what was there is not to be used, for this reason.
    Refused(String),
}

/// What the session of an earlier run is good for.
pub(super) fn beginning(
    store: &SessionStore,
    session: &SessionPlan,
    (workdir, host_path): (&str, &str),
    manifest: &str,
) -> Beginning {
    let (header, body) = match store.find(&session.owner) {
        StoredSession::Nothing => return Beginning::Anew,
        StoredSession::Bad(why) => return Beginning::Refused(why),
        StoredSession::Found(header, body) => (header, body),
    };
    let told = |why: &str| Beginning::Told { said: header.said.clone(), why: why.to_owned() };
    if header.manifest != sha256(manifest) {
        return told("the manifest has changed since");
    }
    if header.runner != env!("CARGO_PKG_VERSION") {
        return told("it is another version's");
    }
    if header.session.is_empty() {
        return told(&header.lost);
    }
    let Some(id) = SessionId::parse(&header.session) else {
        return Beginning::Refused("its id is no session's".to_owned());
    };
    match conversation(&body, &id, workdir, host_path) {
        Ok(conversation) => Beginning::In { id, conversation },
        Err(error) => Beginning::Refused(error.to_string()),
    }
}

/// Brings the session of an earlier run into the guest, or what that said at its end; gives the session to go on in.
pub(super) async fn bring(
    bottle: &dyn Bottle,
    inputs: &RunInputs,
    plan: &BottlePlan,
    events: &Events,
) -> Result<Option<SessionId>, Failure> {
    let Some(session) = &plan.session else { return Ok(None) };
    let store = match open(inputs.session_dir.as_deref()) {
        Ok(store) => store,
        Err(why) => {
            events.warn(format!("no session is looked for: {why}"));
            return Ok(None);
        }
    };
    let rules = inputs.manifest.all_texts();
    let (id, tree) = match beginning(&store, session, (&plan.guest.workdir, host_path(plan)), &rules) {
        Beginning::Anew => {
            events.note("there is no session of an earlier run to go on with");
            return Ok(None);
        }
        Beginning::Refused(why) => {
            events.warn(format!("the session of an earlier run is not used: {why}"));
            return Ok(None);
        }
        Beginning::Told { said, why } => {
            events.note(format!("the session of an earlier run is not gone on with: {why}"));
            if said.is_empty() {
                return Ok(None);
            }
            let text = with_digest(plan, &inputs.secrets.mask(&said));
            (None, Tree::new().file(&plan.prompt.path, plan.guest.uid, 0o644, text))
        }
        Beginning::In { id, conversation } => {
            events.note(format!("the agent goes on in the session {} of an earlier run", id.as_str()));
            let path = format!("{}/{}.jsonl", session.directory, id.as_str());
            let parents = [".claude", ".claude/projects"].map(|name| format!("{}/{name}", plan.guest.home));
            let mut tree = Tree::new();
            for parent in parents.iter().chain([&session.directory]) {
                tree = tree.directory(parent, plan.guest.uid, 0o755);
            }
            (Some(id), tree.file(path, plan.guest.uid, 0o600, conversation))
        }
    };
    bottle.copy_in(Side::Guest, tree).await.map_err(Failure::machine)?;
    Ok(id)
}

/// Keeps the session that the agent leaves. Nothing of the guest's runs any more.
pub(super) async fn keep(run: &LiveRun<'_>) {
    let (inputs, plan, events) = (run.context.inputs, run.context.plan, run.context.events);
    let (Some(session), Some(agent)) = (&plan.session, &run.progress.agent) else { return };
    if plan.dry_run {
        return;
    }
    // A session in which the agent fails would let each later run fail; one that was cut off by a limit is there to be gone on with.
    let failure = agent.failure.as_ref().filter(|(code, _)| *code != Code::Limit);
    let taken = match failure {
        Some((_, why)) => Err(why.clone()),
        None => take(run.bottle, inputs, plan, (session, agent)).await,
    };
    let (id, lost, text) = match taken {
        Ok((id, text)) => (id, String::new(), text),
        Err(why) => {
            events.warn(format!("the session is not kept for the next run: {why}"));
            (String::new(), format!("it was not kept: {why}"), String::new())
        }
    };
    let said: String = agent.result.as_deref().unwrap_or_default().chars().take(8000).collect();
    let header = SessionHeader {
        version: 1,
        owner: session.owner.clone(),
        manifest: sha256(&inputs.manifest.all_texts()),
        runner: env!("CARGO_PKG_VERSION").to_owned(),
        run: plan.slug.to_string(),
        session: id,
        lost,
        said: inputs.secrets.mask(&said),
        sha256: String::new(),
    };
    if let Err(why) = open(inputs.session_dir.as_deref()).and_then(|store| store.keep(&header, &text)) {
        events.warn(format!("the session is not kept for the next run: {why}"));
    }
}

/// The session's id and its conversation, masked; or why it must not be kept.
async fn take(
    bottle: &dyn Bottle,
    inputs: &RunInputs,
    plan: &BottlePlan,
    (session, agent): (&SessionPlan, &AgentOutcome),
) -> Result<(String, String), String> {
    let id = agent.session_id.as_deref().and_then(SessionId::parse).ok_or("it has no id")?;
    let path = format!("{}/{}.jsonl", session.directory, id.as_str());
    let path = path.strip_prefix(&format!("{}/", plan.guest.home)).ok_or("it is not in the guest's home")?;
    let too_long = SessionError::TooLarge.to_string();
    let bytes = files::read(bottle, &plan.guest.home, path, (MAX_SESSION_BYTES as u64, &too_long)).await?;
    let text = conversation(&bytes, &id, &plan.guest.workdir, host_path(plan)).map_err(|error| error.to_string())?;
    let text = inputs.secrets.mask(&text);
    let policy = OutputPolicy {
        patterns: plan.policies.gate.patterns.clone(),
        detect: plan.policies.gate.detect.clone(),
        ..OutputPolicy::default()
    };
    let judge = OutputJudge::new(policy).map_err(|error| error.to_string())?;
    judge.judge_content(&inputs.secrets.known(), text.as_bytes()).map_err(|refusal| refusal.to_string())?;
    Ok((id.as_str().to_owned(), text))
}

/// A path that only the runner knows: where its run records are.
fn host_path(plan: &BottlePlan) -> &str {
    Path::new(&plan.state_dir).parent().and_then(Path::to_str).unwrap_or(&plan.state_dir)
}

fn open(dir: Option<&Path>) -> Result<SessionStore, String> {
    SessionStore::open(dir.ok_or("there is no place for it: HOME is not set")?)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
