//! The work: the agent's, or another job's. Nothing else starts the agent.

use bottle_plan::plan::{SessionId, ask_for_answer};
use tokio::sync::mpsc::UnboundedReceiver;

use super::mode::RunMode;
use super::setup::SetUp;
use super::{LiveRun, outputs, session, undo};
use crate::agent::AgentSession;
use crate::approve::{ApprovalContext, Follower};
use crate::exit::{Code, Failure};
use crate::provision::GuestEnv;
use crate::report::Phase;
use crate::thread::NewComment;

/// A bottle in which the work was done. It takes the one that is set up: there is no agent before the seal is proved, nor while the
/// setup's ways out are open.
pub(super) struct Worked<'r> {
    run: LiveRun<'r>,
    env: GuestEnv,
    /// None where the work is another job's.
    agent: Option<WorkingAgent<'r>>,
}

/// The agent, and what is done beside it.
struct WorkingAgent<'r> {
    session: AgentSession<'r>,
    follower: Follower<'r>,
}

/// What an agent is told as it starts.
enum Told<'t> {
    /// The prompt, in a session of its own.
    Prompt,
    /// This, in a session of an earlier run.
    In(&'t SessionId, &'t str),
    /// This, in the session that it was in.
    More(&'t str),
}

/// So often an agent that has ended without its answer is asked for it.
const ANSWER_REQUESTS: u32 = 2;

impl<'r> Worked<'r> {
    /// Runs the agent to its end, or brings in the other job's work. `heard` is what people say meanwhile.
    pub(super) async fn work(set_up: SetUp<'r>, heard: UnboundedReceiver<NewComment>) -> Result<Self, Failure> {
        let (run, env) = set_up.into_parts();
        let (inputs, plan, events, cancel) =
            (run.context.inputs, run.context.plan, run.context.events, run.context.cancel);
        let bottle = run.bottle;
        events.phase(Phase::Agent);
        match &inputs.mode {
            RunMode::Publish(handoff) => {
                if let Some(why) = handoff.bring(bottle, plan, events).await? {
                    run.progress.fail(Code::Task, why);
                }
                return Ok(Self { run, env, agent: None });
            }
            RunMode::Undo(undo) => {
                undo::put_back(bottle, plan, undo, events).await?;
                return Ok(Self { run, env, agent: None });
            }
            RunMode::Live | RunMode::Replay(_) => {}
        }
        let (manifest, forge, secrets) = (&inputs.manifest, inputs.forge.as_ref(), &inputs.secrets);
        let context = ApprovalContext { bottle, plan, manifest, forge, secrets, events, cancel };
        let config = run.progress.project_config.arguments();
        let session = AgentSession::new(bottle, plan, &env, config, run.record, events)?;
        let agent = WorkingAgent { session, follower: Follower::new(context, heard) };
        let earlier = session::bring(bottle, inputs, plan, events).await?;
        let mut worked = Self { run, env, agent: Some(agent) };
        let first = match (&earlier, &plan.session) {
            (Some(earlier), Some(session)) => Told::In(earlier, &session.prompt),
            _ => Told::Prompt,
        };
        worked.attempt(first).await?;
        worked.ask_for_answer().await?;
        Ok(worked)
    }

    /// Has the agent work once: from its beginning, or on in its session with what it is told.
    async fn attempt(&mut self, told: Told<'_>) -> Result<(), Failure> {
        let Some(WorkingAgent { session, follower }) = &mut self.agent else { return Ok(()) };
        self.run.progress.may_have_spent = true;
        let outcome = match told {
            Told::Prompt => follower.beside(session.begin()).await?,
            Told::In(earlier, told) => follower.beside(session.begin_in(earlier, told)).await?,
            Told::More(told) => follower.beside(session.go_on(told)).await?,
        };
        let progress = &mut self.run.progress;
        if let Some((code, why)) = outcome.failure.clone() {
            progress.fail(code, why);
        }
        progress.agent = Some(outcome);
        Ok(())
    }

    /// Asks an agent for its answer that has ended well and given none.
    async fn ask_for_answer(&mut self) -> Result<(), Failure> {
        for request in 1..=ANSWER_REQUESTS {
            let LiveRun { context, bottle, .. } = &self.run;
            if !self.can_go_on() || !outputs::waits_for_answer(*bottle, context.plan).await {
                break;
            }
            context.events.note(format!(
                "the agent gave no answer that fits; it is asked again ({request} of {ANSWER_REQUESTS})"
            ));
            self.attempt(Told::More(&ask_for_answer())).await?;
        }
        Ok(())
    }

    /// Has the agent go on with what it is told.
    pub(super) async fn go_on(&mut self, told: &str) -> Result<(), Failure> {
        self.attempt(Told::More(told)).await
    }

    /// Whether there is an agent that has ended well.
    pub(super) fn can_go_on(&self) -> bool {
        self.agent.is_some() && self.run.progress.failures.is_empty()
    }

    pub(super) fn run(&mut self) -> &mut LiveRun<'r> {
        &mut self.run
    }

    pub(super) fn env(&self) -> &GuestEnv {
        &self.env
    }

    /// The run without its agent, which can't go on any more.
    pub(super) fn into_run(self) -> LiveRun<'r> {
        self.run
    }
}
